"""How often a challenger decided as the champion, read from the metrics that servers publish."""

import http.client
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.errors import RegistryError, last_line
from cxr_platform.monitoring.names import DRIFT_PSI, DRIFT_WINDOW, RAY_PREFIX, SHADOW_DECISIONS, SHADOW_SKIPPED

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class ShadowCounts:
    """Images by the decisions of `champion` and `challenger`; images that were skipped, by reason.

    `drift` is the population stability index of each quantity for the challenger: the mean over replicas, weighted by
    images, as in infra/prometheus/rules.yml. Empty with too few images.
    """

    champion: str
    challenger: str
    decisions: Mapping[tuple[str, str], int]
    skipped: Mapping[str, int]
    drift: Mapping[str, float]

    @property
    def images(self) -> int:
        """Images that both screened."""
        return sum(self.decisions.values())

    @property
    def agreement(self) -> Interval:
        """Images with the same decision in percent, with Wilson's interval, in which each image counts on its own."""
        from statsmodels.stats.proportion import proportion_confint

        if not self.images:
            return Interval(None)
        same = sum(count for (ours, theirs), count in self.decisions.items() if ours == theirs)
        low, high = proportion_confint(same, self.images, method="wilson")
        return Interval(100 * same / self.images, 100 * float(low), 100 * float(high))


def read_shadow_counts(urls: Iterable[str], champion: str, challenger: str) -> ShadowCounts:
    """Return the counts of all `urls`, each the metrics of one node in Prometheus' text format.

    Raise `RegistryError` for an address that does not answer with metrics.
    """
    return shadow_counts({url: _text(url) for url in urls}, champion, challenger)


def shadow_counts(texts: Mapping[str, str], champion: str, challenger: str) -> ShadowCounts:
    """Return the counts in metrics in Prometheus' text format, by where they are from."""
    decisions: Counter[tuple[str, str]] = Counter()
    skipped: Counter[str] = Counter()
    psi: dict[tuple[str, str], float] = {}
    window: dict[tuple[str, str], float] = {}
    for url, text in texts.items():
        for sample in _samples(url, text):
            labels, name = sample.labels, sample.name.removeprefix(RAY_PREFIX)
            if name == SHADOW_DECISIONS.name:
                if (labels["version"], labels["challenger"]) == (champion, challenger):
                    decisions[labels["decision"], labels["challenger_decision"]] += int(sample.value)
            elif name == SHADOW_SKIPPED.name:
                skipped[labels["reason"]] += int(sample.value)
            elif name in (DRIFT_PSI.name, DRIFT_WINDOW.name) and labels["version"] == challenger:
                values = psi if name == DRIFT_PSI.name else window
                values[labels["quantity"], f"{url} {labels.get('WorkerId')}"] = sample.value
    return ShadowCounts(champion, challenger, decisions, skipped, _weighted_means(psi, window))


def _weighted_means(
    values: Mapping[tuple[str, str], float], weights: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    """Return the mean of each quantity over replicas; keys are (quantity, replica)."""
    means = {}
    for quantity in sorted({quantity for quantity, _ in values}):
        of_replicas = {replica: value for (name, replica), value in values.items() if name == quantity}
        shares = {replica: weights.get((quantity, replica), 0.0) for replica in of_replicas}
        if total := sum(shares.values()):
            means[quantity] = sum(value * shares[replica] for replica, value in of_replicas.items()) / total
    return means


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.read().decode())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _no_metrics(url, last_line(error)) from error


def _samples(url: str, text: str) -> "list[Sample]":
    from prometheus_client.parser import text_string_to_metric_families

    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, IndexError, KeyError) as error:  # the parser's, for text of another kind
        raise _no_metrics(url, f"{text[:40]!r}") from error


def _no_metrics(url: str, received: str) -> RegistryError:
    advice = "It is the metrics port of a node, such as http://127.0.0.1:9811/metrics, not that of the server."
    return RegistryError(f"Expected the metrics of a server at {url}.", received=received, advice=advice)
