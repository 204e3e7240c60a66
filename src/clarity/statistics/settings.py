"""Settings: own what the config decides of the statistics; compute nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Adjustment = Literal["holm", "benjamini-hochberg"]


class MetricInfo(Protocol):
    """What the statistics must know of a metric."""

    @property
    def category(self) -> str:
        """The group of metrics that it belongs to."""

    @property
    def direction(self) -> str:
        """Which values are better: 'higher', 'lower' or 'none'."""

    @property
    def verdict(self) -> bool:
        """Whether noise cannot win it, so that it may carry the verdict on contrastivity."""


@dataclass(frozen=True)
class Metric:
    """A `MetricInfo` of its own, for who has nothing else to tell.

    Attributes:
        category: the group of metrics that it belongs to.
        direction: which values are better: 'higher', 'lower' or 'none'.
        verdict: whether noise cannot win it.
        family: the entry of the config that it is a setting of, if any.
    """

    category: str
    direction: str
    verdict: bool
    family: str | None = None


def categories_of(metrics: Mapping[str, MetricInfo]) -> list[str]:
    """Return the categories of the metrics that have a direction, in order."""
    directed = [info for info in metrics.values() if info.direction != "none"]
    return list(dict.fromkeys(info.category for info in directed))


class Setting(Protocol):
    """What may be one setting of an entry of the config."""

    @property
    def family(self) -> str | None:
        """The entry, if any."""


def families_of(metrics: Mapping[str, Setting]) -> dict[str, str]:
    """Return, of the metrics that are a setting of an entry, the entry's name."""
    return {name: known.family for name, known in metrics.items() if known.family is not None}


@dataclass(frozen=True)
class Family:
    """Hypotheses that were named in advance, and whose p values are adjusted together.

    A family holds the comparisons with the baseline that fit all that it names; what is None fits
    all. Comparisons of control methods are in none.

    Attributes:
        datasets: names, or None for all; likewise ``methods``, ``metrics`` and ``losses``.
        methods: see ``datasets``.
        metrics: see ``datasets``.
        losses: see ``datasets``; those that are compared with the baseline.
        adjustment: how.
    """

    datasets: Collection[str] | None = None
    methods: Collection[str] | None = None
    metrics: Collection[str] | None = None
    losses: Collection[str] | None = None
    adjustment: Adjustment = "holm"


@dataclass(frozen=True)
class Settings:
    """How scores are compared.

    Attributes:
        confidence: of the intervals; verdicts use 1 - confidence as their level.
        resamples: bootstrap resamples an interval.
        correct_only: count only images that all losses of a (dataset, seed) classify right.
        smallest_effect: the smallest difference of interest, in standard deviations between images
            of the baseline (see `clarity.statistics.units`).
        smallest_effects: for metrics of which it is known better, in the metric's own unit.
        adjustment: of comparisons that are in no named family.
        families: by name; a comparison belongs to the first that it fits.
        seed: the first parts of every seed.
    """

    confidence: float = 0.95
    resamples: int = 2000
    correct_only: bool = True
    smallest_effect: float = 0.2
    smallest_effects: Mapping[str, float] = field(default_factory=dict)
    adjustment: Adjustment = "holm"
    families: Mapping[str, Family] = field(default_factory=dict)
    seed: tuple[str | int, ...] = ("compare",)

    @property
    def alpha(self) -> float:
        """The level of the verdicts."""
        # Rounded, since 1 - 0.95 is a little more than 0.05 and p = 0.05 is not below it.
        return round(1 - self.confidence, 12)
