from dataclasses import replace

from cxr_platform.labels import CLASSES
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.rows import PACKAGES, make_rows
from cxr_platform.manifest.selection import Selection
from tests.manifest.builders import candidate, decoded, image, profile


def test_the_versions_of_every_decoder_and_of_the_search_for_copies_are_recorded() -> None:
    decoders = {"pillow", "pydicom", "pylibjpeg-openjpeg", "pyjpegls", "python-gdcm", "tensorflow-io"}
    assert {*decoders, "opencv-python-headless", "faiss-cpu", "imagehash", "scipy"} <= {*PACKAGES}
    assert len(PACKAGES) == len({*PACKAGES})


def test_sex_age_and_view_come_from_the_file_if_the_table_has_none() -> None:
    record = decoded("s/0.png", image(0))
    assert record.facts is not None
    header = record._replace(facts=replace(record.facts, sex="F", age=58.0, view="AP"))
    table = {0: {"sex": "M", "age": 0.0, "view": "PA"}, 2: {"view": "UNK"}}
    images = [SelectedImage(candidate(f"s/{i}.png", CLASSES[i % 7], **table.get(i, {})), header) for i in range(14)]
    rows = make_rows(Selection(images, [None] * 14, [image.image_id for image in images], [], []), profile())
    assert rows.select(["sex", "age", "view"]).to_pylist()[:3] == [
        {"sex": "M", "age": 0.0, "view": "PA"},
        {"sex": "F", "age": 58.0, "view": "AP"},
        {"sex": "F", "age": 58.0, "view": "AP"},
    ]
