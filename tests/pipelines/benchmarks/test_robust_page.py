import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins
from pipelines.benchmarks import robust_page


def test_a_setting_with_fewer_pairs_or_other_images_is_marked() -> None:
    pairs = ((("a", "b"), Interval(0.7, ratio=True)),)
    auc = UnseenOrigins(Interval(0.7, ratio=True), Interval(0.7, ratio=True), ("a", "b"), pairs)
    row = robust_page._row(
        robust_page.Result("central box", {"appearance": "mixed"}, auc, Interval(0.1, ratio=True), None)
    )
    assert row.startswith("| central box (with the looks of images of the tested origins, unlabelled) | 0.700 |")
    assert row.split(" | ")[3] == "1"


@pytest.mark.parametrize(("mean", "worst", "accuracy", "met"), [(0.81, 0.61, 78.5, 3), (0.79, 0.59, 77.5, 0)])
def test_goals_are_met_or_not(mean: float, worst: float, accuracy: float, met: int) -> None:
    auc = UnseenOrigins(Interval(mean, ratio=True), Interval(worst, ratio=True), ("a", "b"), ())
    plain, chosen = (robust_page.Result("x", {}, auc, Interval(0.0), value) for value in (80.0, accuracy))
    lines = robust_page._goals(plain, chosen, None)
    assert [line.endswith("| yes |") for line in lines].count(True) == met
    assert [line.endswith("| **no** |") for line in lines].count(True) == 3 - met
