from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import find_candidates
from tests.intake.layouts.planting import films, plant, verdicts

TABLE = (
    "filename,patient_id,label,view,sex,age\n"
    "0001.png,P1,Covid19,PA,F,61\n0002.dcm,P1,Covid19,AP,F,61\n0003.png,P2,Normal,L,M,40\n"
)


def phantoms(folder: Path) -> Path:
    names = ("films/0001.png", "films/0002.dcm", "films/0003.png", "films/notes.txt")
    return plant(folder, *names, PHANTOMS_toml="seed = 1\n", films_csv=TABLE)


def test_films_are_read_from_the_table_and_the_source_is_synthetic(tmp_path: Path) -> None:
    folder = phantoms(tmp_path / "phantoms")
    assert verdicts(folder) == {
        "films/0001.png": "Covid19",
        "films/0002.dcm": "Covid19",
        "films/0003.png": "view",
        "films/notes.txt": "not-listed",
    }
    found = find_candidates(folder, SelectionConfig())
    assert found.synthetic_sources == {"phantoms"}
    assert found.tables == ["phantoms/PHANTOMS.toml", "phantoms/films.csv"]
    film = films(folder)["films/0001.png"]
    assert (film.patient, film.view, film.sex, film.age) == ("P1", "PA", "F", 61.0)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    folder = phantoms(tmp_path / "phantoms")
    (folder / "films.csv").unlink()
    with pytest.raises(SourceError, match=r"Expected a readable CSV at .*films\.csv"):
        films(folder)
