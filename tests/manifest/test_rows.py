from dataclasses import replace

from cxr_platform.labels import CLASSES
from cxr_platform.manifest.rows import make_rows
from cxr_platform.manifest.selection import Taken
from tests.manifest.builders import candidate, decoded, image, profile


def test_sex_age_and_view_of_the_file_are_taken_where_the_table_gives_none() -> None:
    record = decoded("s/0.png", image(0))
    assert record.facts is not None
    header = record._replace(facts=replace(record.facts, sex="F", age=58.0, view="AP"))
    told = {0: {"sex": "M", "age": 0.0, "view": "PA"}}
    images = [Taken(candidate(f"s/{i}.png", CLASSES[i % 7], **told.get(i, {})), header) for i in range(14)]
    rows = make_rows(images, [None] * 14, [image.image_id for image in images], profile())
    assert rows.select(["sex", "age", "view"]).to_pylist()[:2] == [
        {"sex": "M", "age": 0.0, "view": "PA"},
        {"sex": "F", "age": 58.0, "view": "AP"},
    ]
