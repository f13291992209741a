"""The page in a real browser, with a real server."""

import csv
import io
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys as Press

from cxr_platform.labels import CLASSES
from cxr_platform.serving.api_keys import parse_keys
from cxr_platform.serving.pages import SAMPLES, draw_sample
from tests.intake.files import dicom
from tests.serving.browser import SIZES, Page, browser
from tests.serving.builders import image_png, registry_with_champion
from tests.serving.page_server import PageServer

AXE = files("axe_core_python") / "axe.min.js"
KEY = "a-key-of-many-characters"
NOT_AN_IMAGE = b"<!doctype html><title>no image</title>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def driver(folder: Path) -> Iterator[webdriver.Chrome]:
    with browser(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(driver: webdriver.Chrome, folder: Path) -> Iterator[PageServer]:
    with PageServer(registry_with_champion(folder / "registry")).running() as running:
        running.set_result(draw_sample("covid19"), Covid19=0.871, Pneumonia=0.072)
        running.set_result(draw_sample("pneumonia"), Pneumonia=0.66, Covid19=0.241)
        running.set_result(draw_sample("normal"), Normal=0.831, Covid19=0.021)
        yield running


@pytest.fixture(autouse=True)
def _empty_console(driver: webdriver.Chrome) -> Iterator[None]:
    """After every test the console is empty; a test reads the messages it expects with `Page.console`."""
    yield
    assert [entry["message"] for entry in driver.get_log("browser")] == []


@pytest.fixture
def page(driver: webdriver.Chrome, server: PageServer) -> Page:
    server.busy = 0
    opened = Page(driver, server.url)
    opened.one("#samples button")
    opened.one("#model dl")
    server.uploads.clear()
    return opened


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(draw_sample("covid19"))
    return path


@pytest.mark.parametrize("size", SIZES)
def test_a_dropped_image_is_shown_with_its_result(
    driver: webdriver.Chrome, server: PageServer, image: Path, size: str
) -> None:
    page = Page(driver, server.url, size)
    page.drop(image)
    assert page.text("#decision") == "Positive"
    assert page.text(".result .image-name") == "image.png"
    assert page.text(".gauge .at") == "87.1 %"
    assert "Indeterminate from 20.0 to 30.0 %" in page.text(".gauge figcaption")
    shown = [row.text.replace("\u00a0", " ").replace("\u2011", "-").split() for row in page.all(".bars tr")]
    assert [row[0] for row in shown] == ["Covid-19", *CLASSES[1:]]
    assert shown[0][-2:] == ["87.1", "%"]
    widths = [bar.size["width"] for bar in page.all(".bars .bar span")]
    assert widths[0] == pytest.approx(0.871 * page.one(".bars .bar").size["width"], abs=1)
    assert widths[5] > widths[6]
    page.until("document.getElementById('image').naturalHeight === 360")
    page.one("#heatmap")
    assert "most in the lower left" in page.text("#heatmap-text")
    page.until("document.getElementById('announcement').textContent.startsWith('image.png: Positive.')")
    announced = page.run("return document.getElementById('announcement').textContent")
    assert "The Covid19 probability is 87.1 %, above the indeterminate zone from 20.0 to 30.0 %" in announced
    page.picture("result")


def test_image_and_heatmap_have_the_same_place(page: Page, image: Path) -> None:
    page.drop(image)
    page.one("#heatmap")
    assert page.one("#image").rect == page.one("#heatmap").rect
    assert page.one("#heatmap").rect["width"] == page.one("#heatmap").rect["height"]


def test_the_slider_sets_the_opacity_of_the_heatmap_by_keyboard(page: Page, image: Path) -> None:
    page.drop(image)
    slider = page.one("#opacity")
    for key, opacity in ((Press.HOME, "0"), (Press.END, "1"), (Press.ARROW_LEFT, "0.95")):
        slider.send_keys(key)
        assert page.run("return getComputedStyle(document.getElementById('heatmap')).opacity") == opacity
    assert page.text("#opacity-value") == "95 %"


@pytest.mark.parametrize(
    ("sample", "decision", "text"),
    [
        ("covid19", "Positive", "is clearly above the operating point for 95 % sensitivity."),
        ("normal", "Negative", "is clearly below the operating point for 95 % sensitivity."),
        ("pneumonia", "Indeterminate", "is too close to the operating point for 95 % sensitivity for a decision."),
    ],
)
def test_the_decision_is_explained_in_words(page: Page, sample: str, decision: str, text: str) -> None:
    page.dispatch_files("drop", [("image.png", draw_sample(sample))])
    assert page.text("#decision") == decision
    assert text in page.text(".result .summary")


def test_a_result_on_which_the_heads_of_a_gate_disagree_says_so(page: Page, server: PageServer) -> None:
    data = server.set_result(image_png(11), disagreement=True, Normal=0.9, Covid19=0.02)
    page.dispatch_files("drop", [("image.png", data)])
    assert page.text("#decision") == "Indeterminate"
    assert page.text(".result .summary").replace("\u2011", "-") == "The two heads of the model disagree on Covid-19."


def test_a_positive_image_names_a_class_that_is_more_probable_than_covid19(page: Page, server: PageServer) -> None:
    page.dispatch_files("drop", [("image.png", server.set_result(image_png(7), Effusion=0.53, Covid19=0.36))])
    assert page.text("#decision") == "Positive"
    assert page.text(".result .summary").endswith("sensitivity. The most probable class is Effusion.")
    page.picture("positive-with-another-class")


def test_the_guide_names_the_target_sensitivity_of_the_model(page: Page) -> None:
    page.until("document.querySelector('#guide dd').textContent.includes('operating point for 95')")
    assert not page.shown("#result")


def test_the_model_lists_its_decision_rates(page: Page) -> None:
    facts = page.text("#model dl").splitlines()
    assert facts[facts.index("Covid-19 images called positive") + 1] == "85.0 % 80.0 to 90.0"
    assert facts[facts.index("Indeterminate images") + 1] == "5.0 % 4.0 to 6.0"
    coverage = page.text("#model").partition("Coverage of the classes an image may have")[2].splitlines()
    assert coverage[1] == "Images of each class whose set contains it; the aim is 90.0 %."
    assert coverage[coverage.index("Covid-19") + 1] == "91.0 % 85.0 to 96.0"
    assert coverage[coverage.index("Fibrosis") + 1] == "not stated"


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({"Effusion": 0.5, "Covid19": 0.3}, "Covid-19, Effusion"),
        ({"Fibrosis": 0.7}, "No class reaches its threshold. Without a threshold: Fibrosis."),
    ],
)
def test_the_classes_that_an_image_may_have_are_named(
    page: Page, server: PageServer, shares: dict[str, float], text: str
) -> None:
    page.dispatch_files("drop", [("image.png", server.set_result(image_png(7), **shares))])
    assert page.text(".prediction-set") == text
    assert "90 % of the images of each class" in page.text(".prediction-set + p")


def test_an_image_that_is_not_screenable_gets_the_reason_and_no_probabilities(page: Page) -> None:
    page.dispatch_files("drop", [("faint.png", draw_sample("low-contrast"))])
    assert page.text("#decision") == "Not screenable"
    assert "Grey values too close together." in page.text(".findings")
    assert not page.shown(".bars")
    assert not page.shown("#slider")
    page.picture("not-screenable")


def test_a_lateral_view_gets_the_reason_and_no_probabilities(page: Page) -> None:
    values = np.asarray(Image.open(io.BytesIO(draw_sample("effusion"))))
    page.dispatch_files("drop", [("lateral.dcm", dicom(values, ViewPosition="LL"))])
    assert page.text("#decision") == "Not screenable"
    assert "Not a frontal view." in page.text(".findings")
    assert "view LL" in page.text(".findings")
    assert not page.shown(".bars")


def test_a_dicom_image_is_shown_as_decoded_for_the_network(page: Page, server: PageServer) -> None:
    values = np.asarray(Image.open(io.BytesIO(draw_sample("effusion")))).astype(np.uint16)
    image = server.set_result(dicom(values), Effusion=0.7)
    page.dispatch_files("drop", [("image.dcm", image)])
    assert page.text("#decision") == "Negative"
    page.one("#heatmap")
    assert "as decoded for the network" in page.text("#stage-note")
    assert page.run("return document.getElementById('image').src.startsWith('data:image/png')")
    assert page.console() == []


def test_a_file_that_is_not_an_image_gets_the_reason_and_the_next_image_a_result(
    page: Page, tmp_path: Path, image: Path
) -> None:
    bad = tmp_path / "page.png"
    bad.write_bytes(NOT_AN_IMAGE)
    page.drop(bad)
    assert "not a PNG, JPEG or DICOM image" in page.text("#problem")
    assert "Received: HTML page. Download the image again." in page.text("#problem")
    assert not page.shown("#problem button")
    page.drop(image)
    assert page.text("#decision") == "Positive"
    assert not page.shown("#problem")
    assert page.console(415) == []


def test_a_pasted_image_is_screened(page: Page) -> None:
    page.dispatch_files("paste", [("image.png", draw_sample("normal"))])
    assert page.text("#decision") == "Negative"


def test_a_selected_file_is_screened(page: Page, image: Path) -> None:
    page.all("#files")[0].send_keys(str(image))
    assert page.text("#decision") == "Positive"


def test_every_sample_is_offered_and_one_is_chosen_by_keyboard(page: Page) -> None:
    page.until("[...document.querySelectorAll('#samples img')].every((image) => image.naturalHeight > 0)")
    buttons = page.all("#samples button")
    assert [button.text for button in buttons] == [sample.title for sample in SAMPLES.values()]
    page.run("document.getElementById('files').focus()")
    ActionChains(page.driver).send_keys(Press.TAB, Press.ENTER).perform()
    assert page.text("#decision") == "Positive"
    assert page.text(".result .image-name") == "Sample: Covid-19"


def test_several_images_are_listed_in_a_table_and_as_csv(page: Page, server: PageServer, folder: Path) -> None:
    images = [(f"image-{number}.png", draw_sample("normal")) for number in range(33)]
    page.dispatch_files("drop", [*images, ("=page.png", NOT_AN_IMAGE), ("faint.png", draw_sample("low-contrast"))])
    page.until("document.querySelector('#batch progress').hidden")
    assert len(server.uploads) == 2
    assert page.text(".tally") == "35 images: 33 negative, 1 not screenable, 1 without result."
    rows = [row.text for row in page.all("#batch tbody tr")]
    assert len(rows) == 35
    assert "Negative" in rows[0]
    assert "No result" in rows[33]
    assert "not a PNG, JPEG or DICOM image" in rows[33]
    page.one("#batch .actions button").click()
    saved = folder / "screening.csv"
    page.wait(lambda _: saved.is_file(), "no CSV was saved")
    table = list(csv.DictReader(io.StringIO(saved.read_text(encoding="utf-8-sig"))))
    assert [row["decision"] for row in table] == ["negative"] * 33 + ["", "not-screenable"]
    assert float(table[0]["p_Normal"]) == pytest.approx(0.831)
    assert table[33]["image"] == "'=page.png"
    assert table[33]["problem"].startswith("not-an-image")
    assert {row["notice"] for row in table} == {"For research, not for diagnosis."}
    page.all("#batch .open")[0].click()
    assert page.text("#decision") == "Negative"
    assert page.console() == []


def test_the_files_of_a_dropped_folder_are_screened(page: Page, tmp_path: Path) -> None:
    below = tmp_path / "images" / "more"
    below.mkdir(parents=True)
    (below / "b.png").write_bytes(draw_sample("covid19"))
    (below.parent / "a.png").write_bytes(draw_sample("normal"))
    page.drop(below.parent)
    page.until("document.querySelector('#batch progress')?.hidden")
    assert [row.text.split()[:2] for row in page.all("#batch tbody tr")] == [
        ["a.png", "Negative"],
        ["b.png", "Positive"],
    ]


def test_large_images_are_sent_in_requests_within_the_limit(page: Page, server: PageServer) -> None:
    script = """
    const transfer = new DataTransfer();
    for (const size of arguments[0]) transfer.items.add(new File([new Uint8Array(size)], `${size}.png`));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    """
    page.run(script, [12_000_000, 12_000_000, 22_000_000])
    page.until("document.querySelector('#batch progress')?.hidden")
    assert len(server.uploads) == 2
    assert max(server.uploads) < 20 * 2**20
    assert page.text(".tally") == "3 images: 3 without result."
    assert "larger than 20 MB" in page.all("#batch tbody tr")[2].text
    assert page.console() == []


def test_an_internal_error_of_the_page_is_reported_and_on_the_console(page: Page) -> None:
    page.run("window.fetch = async () => new Response('{\"items\": 7}', { status: 200 })")
    page.dispatch_files("drop", [("a.png", draw_sample("normal")), ("b.png", draw_sample("covid19"))])
    page.until("document.querySelector('#batch progress')?.hidden")
    assert page.text(".tally") == "2 images: 2 without result."
    assert "The page failed with an internal error." in page.all("#batch tbody tr")[0].text
    assert "TypeError" in " ".join(page.console())


def test_a_request_to_a_busy_server_is_retried(page: Page, server: PageServer, image: Path) -> None:
    server.busy = 2
    page.hold_pauses()
    page.drop(image)
    for _ in range(2):
        page.until("document.getElementById('status').textContent.includes('Retrying in 1 second.')")
        page.end_pause()
    assert page.text("#decision") == "Positive"
    assert len(server.uploads) == 3
    assert not page.shown("#status")
    assert page.console(429) == []


def test_a_batch_to_a_busy_server_is_retried(page: Page, server: PageServer) -> None:
    server.busy = 1
    page.hold_pauses()
    page.dispatch_files("drop", [("a.png", draw_sample("normal")), ("b.png", draw_sample("covid19"))])
    assert "Retrying in 1 second." in page.text("#batch .pause")
    page.end_pause()
    page.until("document.querySelector('#batch progress').hidden")
    assert page.text(".tally") == "2 images: 1 positive, 1 negative."
    assert not page.shown("#batch .pause")
    assert page.console(429) == []


def test_only_the_last_dropped_image_is_screened(page: Page, server: PageServer) -> None:
    server.busy = 1
    page.hold_pauses()
    page.dispatch_files("drop", [("first.png", draw_sample("covid19"))])
    page.until("document.getElementById('status').textContent.includes('Retrying')")
    page.dispatch_files("drop", [("second.png", draw_sample("normal"))])
    assert page.text("#decision") == "Negative"
    page.end_pause()
    page.driver.execute_async_script("fetch('v1/model').then(arguments[0])")  # a first image that is sent comes before
    assert page.text("#decision") == "Negative"
    assert page.text(".result .image-name") == "second.png"
    assert len(server.uploads) == 2
    assert page.console(429) == []


def test_an_unreachable_server_is_reported_and_can_be_retried(page: Page, image: Path) -> None:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.until("[...document.images].every((image) => image.hidden || image.complete)")
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **conditions})
    page.drop(image)
    assert "The server cannot be reached." in page.text("#problem")
    (message,) = page.console()
    assert "ERR_INTERNET_DISCONNECTED" in message
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **conditions})
    page.one("#problem button").click()
    assert page.text("#decision") == "Positive"


def test_an_api_key_is_requested_only_if_the_server_needs_one(
    driver: webdriver.Chrome, server: PageServer, folder: Path, image: Path, page: Page
) -> None:
    page.drop(image)
    page.one("#decision")
    assert not page.shown("#key")
    keys = parse_keys([KEY], "")
    with PageServer(registry_with_champion(folder / "guarded"), keys).running() as guarded:
        guarded.set_result(image.read_bytes(), Covid19=0.871)
        page = Page(driver, guarded.url)
        page.one("#key-value")
        page.drop(image)
        page.one("#key-value").send_keys("another-key-of-many-characters", Press.ENTER)
        page.until("document.getElementById('key-text').textContent.includes('rejected this key')")
        page.one("#key-value").send_keys(KEY, Press.ENTER)
        assert page.text("#decision") == "Positive"
        assert not page.shown("#key")
        page.one("#model dl")
        kept = page.run("return [localStorage.length, sessionStorage.length, document.cookie, location.href]")
        assert kept == [0, 0, "", guarded.url]
        assert page.console(401) == []


@pytest.mark.parametrize("size", SIZES)
def test_the_notice_stays_in_view_while_scrolling(
    driver: webdriver.Chrome, server: PageServer, image: Path, size: str
) -> None:
    page = Page(driver, server.url, size)
    page.drop(image)
    page.one("#decision")
    page.run("window.scrollTo(0, document.body.scrollHeight)")
    assert page.text(".research") == "For research, not for diagnosis"
    top, bottom = page.run(
        "const box = document.querySelector('.research').getBoundingClientRect(); return [box.top, box.bottom]"
    )
    assert 0 <= top < bottom < SIZES[size][1]
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert "never on images of patients" in page.text("#synthetic")


def test_a_model_that_is_no_better_than_the_most_frequent_class_is_called_not_usable(page: Page) -> None:
    page.until("document.getElementById('model-title')")
    assert page.run("return document.getElementById('no-better').hidden")
    shown = page.driver.execute_async_script(
        """
        const done = arguments[0], base = document.querySelector("script[type=module]").src;
        Promise.all([import(new URL("model.js", base)), fetch("v1/model").then((answer) => answer.json())])
          .then(([module, model]) => module.showModel({
            model: async () => ({ ...model, version: "another", better_than_majority: false }),
          }))
          .then(() => done(document.getElementById("no-better").innerText), (error) => done(String(error)));
        """
    )
    assert shown.startswith("Not usable. Its study did not show this model to be better than always naming")


def test_nothing_is_loaded_from_other_servers(page: Page, server: PageServer, image: Path) -> None:
    page.drop(image)
    page.one("#heatmap")
    loaded = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 10
    assert [name for name in loaded if not name.startswith((server.url, "blob:", "data:"))] == []


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_violation(
    driver: webdriver.Chrome, server: PageServer, image: Path, size: str, colours: str
) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": colours},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page = Page(driver, server.url, size)
    page.one("#model dl")
    by_state = {"empty": violations(page, f"empty-{colours}")}
    page.drop(image)
    page.one("#heatmap")
    by_state["result"] = violations(page, f"result-{colours}")
    page.dispatch_files("drop", [("faint.png", draw_sample("low-contrast")), ("page.png", NOT_AN_IMAGE)])
    page.until("document.querySelector('#batch progress')?.hidden")
    by_state["batch"] = violations(page, f"batch-{colours}")
    page.dispatch_files("drop", [("page.png", NOT_AN_IMAGE)])
    page.one("#problem")
    page.run("document.getElementById('key').hidden = false")
    by_state["problem"] = violations(page, f"problem-{colours}")
    assert page.console(415) == []
    assert {state: listed for state, listed in by_state.items() if listed} == {}


def violations(page: Page, state: str) -> list[Any]:
    """Serious and critical violations of the page in its state, with a picture named `state`: rule and elements."""
    page.picture(state)
    page.run(AXE.read_text(encoding="utf-8"))
    report = page.driver.execute_async_script("axe.run().then(arguments[0], (error) => arguments[0](String(error)))")
    assert isinstance(report, dict), report
    assert len(report["passes"]) > 15
    serious = [rule for rule in report["violations"] if rule["impact"] in ("serious", "critical")]
    return [json.dumps([rule["id"], [node["html"][:120] for node in rule["nodes"]]]) for rule in serious]
