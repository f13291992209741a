from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import REASONS, Candidate, Refusal
from cxr_platform.intake.overrule import OVERRULABLE, Overrule, read_overrule

KNOWN = ("a/1.png", "a/2.png")


def read(tmp_path: Path, text: str) -> Overrule:
    file = tmp_path / "overrule.toml"
    file.write_text(text)
    return read_overrule(file, KNOWN)


def test_lists_are_read_and_either_may_be_missing(tmp_path: Path) -> None:
    assert read(tmp_path, 'allow = ["a/1.png"]') == Overrule(allow=frozenset({"a/1.png"}))
    assert read(tmp_path, 'deny = ["a/2.png"]') == Overrule(deny=frozenset({"a/2.png"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('denied = ["a/1.png"]', r"keys allow, deny\. Received: 'denied'\. Did you mean 'deny'"),
        ('deny = ["a/9.png", "b"]', r"in deny to be files.*'a/9\.png' and 1 more.*SOURCE/relative/path"),
        ('deny = "a/1.png"', "deny: expected a list"),
        ("allow = [1]", r"allow\.0: expected a string"),
        ('allow = ["a/1.png"]\ndeny = ["a/1.png"]', "each image in one list, not 'a/1.png' in allow and in deny"),
        ("allow = [", "Expected TOML"),
    ],
)
def test_invalid_lists_are_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_overrulable_reasons_exist() -> None:
    assert set(OVERRULABLE) <= set(REASONS)


def test_lift_removes_the_refusal_of_a_view_if_the_class_is_known() -> None:
    lists = Overrule(allow=frozenset(KNOWN))
    lateral = Candidate("a", Path("1.png"), "a/1.png", label="Edema", refusal=Refusal("view", "view L"))
    assert lists.lift(lateral) == replace(lateral, refusal=None)
    assert Overrule().lift(lateral) == lateral
    for other in (replace(lateral, label=None), replace(lateral, refusal=Refusal("modality", "CT"))):
        assert lists.lift(other) == other
