"""Headless Chromium that uses the page like a person: drop, choose, read, press keys.

Save pictures of the page on a desktop and on a phone, light and dark:

    CXR_SCREENSHOTS=pictures python -m pytest tests/serving/test_page.py
"""

import base64
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

SIZES = {"desktop": (1280, 860, False), "phone": (390, 844, True)}
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
TIMEOUT_SECONDS = 120
"""Far more than the page takes to do anything."""
PICTURES = "CXR_SCREENSHOTS"

DISPATCH_FILES = """
const [kind, files] = arguments;
const transfer = new DataTransfer();
for (const [name, type, text] of files) {
  transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type }));
}
const event = kind === "paste"
  ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
  : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
document.getElementById("stage").dispatchEvent(event);
"""

HOLD_PAUSES = """
const start = window.setTimeout;
window.held = [];
window.setTimeout = (end, ms, ...rest) => ms === 1000 ? window.held.push(end) : start(end, ms, ...rest);
"""


@contextmanager
def browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """Chromium with its profile and downloads in `folder`; skips if it is not installed."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_script_timeout(TIMEOUT_SECONDS)
    downloads = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page at `url`, newly opened at one of `SIZES`."""

    def __init__(self, driver: webdriver.Chrome, url: str, size: str = "desktop") -> None:
        self.driver, self.url, self.size = driver, url, size
        width, height, mobile = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert self.console() == [], "messages of the previous page"
        driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first displayed element, once there is one."""

        def shown(_: Any) -> WebElement | None:
            return next((element for element in self.all(selector) if element.is_displayed()), None)

        return self.wait(shown, f"{selector} was never shown")

    def text(self, selector: str) -> str:
        """The text of `one`, its non-breaking characters plain."""
        return self.one(selector).text.replace("\u00a0", " ").replace("\u2011", "-")

    def shown(self, selector: str) -> bool:
        return any(element.is_displayed() for element in self.all(selector))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        self.wait(lambda _: self.run(f"return Boolean({expression})"), f"{expression} never came true")

    def hold_pauses(self) -> None:
        """Let each pause of a second last until `end_pause`, however long a test takes to look at the page."""
        self.run(HOLD_PAUSES)

    def end_pause(self) -> None:
        """End a held pause, once there is one."""
        self.until("window.held.length")
        self.run("window.held.shift()()")

    def drop(self, *files: Path) -> None:
        """Drag files over the stage and drop them, as the window system does."""
        box = self.one("#stage").rect
        offset = self.run("return scrollY")
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] - offset + box["height"] / 2, "data": data}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **place})

    def dispatch_files(self, kind: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Dispatch a drop or a paste of files that are not on disk."""
        contents = [[name, "image/png", base64.b64encode(data).decode()] for name, data in files]
        self.run(DISPATCH_FILES, kind, contents)

    def console(self, *statuses: int) -> list[str]:
        """Console messages since the last call, without those about answers with one of `statuses`."""
        expected = tuple(f"status of {status} " for status in statuses)
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in messages if not any(status in message for status in expected)]

    def picture(self, name: str) -> None:
        """Save the whole page as NAME-SIZE.png in the folder that CXR_SCREENSHOTS names, if it is set."""
        if folder := os.environ.get(PICTURES):
            self.until("[...document.images].every((image) => image.hidden || image.complete)")
            self.run("window.scrollTo(0, 0)")
            whole = {"captureBeyondViewport": True, "format": "png"}
            taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", whole)["data"]
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}-{self.size}.png").write_bytes(base64.b64decode(taken))

    def wait(self, test: Any, message: str) -> Any:
        """Return `test(driver)` once it is true; fail with the message otherwise."""
        return WebDriverWait(self.driver, TIMEOUT_SECONDS, poll_frequency=0.05).until(test, message)
