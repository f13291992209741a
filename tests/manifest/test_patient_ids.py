import pytest

from cxr_platform.manifest.patient_ids import SALT_VARIABLE, header_pseudonym, key_space, patient_salt, pseudonym


def test_a_patient_is_unique_within_its_source() -> None:
    assert pseudonym("s", "cohen", "7") == pseudonym("s", "cohen", "7")
    assert len({pseudonym("s", "cohen", "7"), pseudonym("s", "nih", "7"), pseudonym("t", "cohen", "7")}) == 3


@pytest.mark.parametrize("patient", [None, ""])
def test_no_patient_has_no_pseudonym(patient: str | None) -> None:
    assert pseudonym("s", "cohen", patient) is None


def test_a_patient_of_a_header_differs_from_the_same_key_in_a_table() -> None:
    assert header_pseudonym("s", "cohen", "7") == header_pseudonym("s", "cohen", "7") != pseudonym("s", "cohen", "7")
    assert header_pseudonym("s", "cohen", None) is None


def test_the_salt_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    published = patient_salt()
    monkeypatch.setenv(SALT_VARIABLE, "ours")
    assert patient_salt() == "ours" != published


def test_sources_of_one_stated_origin_have_one_key_space_and_others_their_own() -> None:
    origins = {"chestxray14": "NIH", "effusion": "NIH"}
    spaces = {source: key_space(source, origins) for source in ("chestxray14", "effusion", "cohen", "NIH")}
    assert spaces["chestxray14"] == spaces["effusion"]
    assert (spaces["cohen"], spaces["NIH"]) == ("cohen", "NIH")
    assert len(set(spaces.values())) == 3
