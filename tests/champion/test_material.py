"""Parts that do not belong together are no material for a bundle."""

import pytest

from cxr_platform.errors import StudyMismatch
from tests.champion.builders import material


def test_the_champion_of_the_study_is_accepted() -> None:
    material().check("scratch")


@pytest.mark.parametrize(
    ("identity", "told"),
    [({"strategy": "fine-tuning-1"}, "one of fine-tuning-1, manifest b3f0c4de"), ({"manifest": "f00"}, "manifest f00")],
)
def test_another_one_is_refused_with_what_it_is(identity: dict[str, str], told: str) -> None:
    with pytest.raises(StudyMismatch, match=f"Received: .*{told}"):
        material(**identity).check("scratch")
