"""Contact sheets: one picture per reason of exclusion, to review what was excluded and overrule it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.overrule import FILE_NAME, OVERRULABLE
from cxr_platform.manifest.cache import PixelReader
from cxr_platform.manifest.records import ExcludedFile

IMAGES_PER_SHEET = 120
COLUMNS = 10
THUMBNAIL = 128  # pixels
CAPTION_LINES = 5
PATH_LINES = 3
LINE = 13  # pixels
CELL = (THUMBNAIL + 8, THUMBNAIL + CAPTION_LINES * LINE + 8)
HEADER = 3 * LINE + 10
LINE_CHARACTERS = 22


def write_contact_sheets(folder: Path, excluded: Sequence[ExcludedFile], pixels: PixelReader) -> None:
    """Write `folder`/REASON.png for each reason, with the first `IMAGES_PER_SHEET` images by source_path."""
    folder.mkdir()
    by_reason = defaultdict(list)
    for item in sorted(excluded, key=lambda item: item.source_path):
        by_reason[item.refusal.reason].append(item)
    for reason, items in by_reason.items():
        _sheet(reason, items[:IMAGES_PER_SHEET], len(items), pixels).save(folder / f"{reason}.png", optimize=True)


def _sheet(reason: str, items: Sequence[ExcludedFile], total: int, pixels: PixelReader) -> Image.Image:
    rows = -(-len(items) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * CELL[0], HEADER + rows * CELL[1]), 255)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    draw.multiline_text((4, 4), _header(reason, len(items), total), fill=0, font=font)
    for position, item in enumerate(items):
        corner = (position % COLUMNS * CELL[0] + 4, HEADER + position // COLUMNS * CELL[1])
        sheet.paste(_thumbnail(item, pixels), corner)
        draw.multiline_text((corner[0], corner[1] + THUMBNAIL), _caption(item), fill=0, font=font, spacing=1)
    return sheet


def _caption(item: ExcludedFile) -> str:
    path = _wrap(item.source_path, PATH_LINES, keep="end")
    return "\n".join([*path, *_wrap(item.refusal.detail, CAPTION_LINES - len(path), keep="start")])


def _header(reason: str, shown: int, total: int) -> str:
    number = f"first {shown} of {total}" if shown < total else f"{total}"
    advice = f'To include one: allow = ["SOURCE/path"] in {FILE_NAME}.' if reason in OVERRULABLE else ""
    return f"{reason}: {REASONS[reason]}. Images: {number}.\n{advice}"


def _thumbnail(item: ExcludedFile, pixels: PixelReader) -> Image.Image:
    if item.decoded is None or item.decoded.facts is None:
        empty = Image.new("L", (THUMBNAIL, THUMBNAIL), 224)
        ImageDraw.Draw(empty).text((4, 4), "no picture", fill=0, font=ImageFont.load_default(11))
        return empty
    image = Image.fromarray(pixels.images([item.decoded])[0])
    return image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)


def _wrap(text: str, lines: int, keep: str) -> list[str]:
    """Return `text` in at most `lines` lines, with the end kept for a path and the start for a sentence."""
    room = lines * LINE_CHARACTERS
    if len(text) > room:
        text = "…" + text[-room + 1 :] if keep == "end" else text[: room - 1] + "…"
    return [text[i : i + LINE_CHARACTERS] for i in range(0, len(text), LINE_CHARACTERS)]
