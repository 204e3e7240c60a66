"""Statistics recipe: owns the keys of `statistics` in the config; computes nothing."""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated

from pydantic import Field, PositiveFloat

from clarity.losses.recipe import CROSS_ENTROPY
from clarity.recipes import Name, Section, not_among
from clarity.statistics.settings import Adjustment, Family, Settings

#: The axes that a family of hypotheses may restrict.
AXES = ("datasets", "methods", "metrics", "losses")

NO_EFFECTS: dict[str, float] = {}

Names = Annotated[list[str], Field(min_length=1)]


class FamilyRecipe(Section):
    """Hypotheses named in advance: comparisons with the baseline whose p are adjusted together."""

    datasets: Annotated[Names | None, Field(description="only these; all if left out")] = None
    methods: Annotated[Names | None, Field(description="only these; all if left out")] = None
    metrics: Annotated[
        Names | None,
        Field(description="only these, or all settings of an entry with `settings`"),
    ] = None
    losses: Annotated[
        Names | None, Field(description="only these against the baseline; all if left out")
    ] = None
    adjustment: Annotated[Adjustment, Field(description="of the p values of the family")] = "holm"


NO_FAMILIES: dict[str, FamilyRecipe] = {}


class Statistics(Section):
    """How the losses are compared."""

    baseline: Annotated[str, Field(description="the loss that all others are compared with")] = (
        CROSS_ENTROPY
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="of every interval")] = 0.95
    resamples: Annotated[int, Field(ge=100, description="bootstrap resamples")] = 2000
    smallest_effect: Annotated[
        PositiveFloat,
        Field(
            description="smallest difference of interest, in standard deviations between images of "
            "the baseline: what lies surely within it is equivalent"
        ),
    ] = 0.2
    smallest_effects: Annotated[
        dict[str, PositiveFloat],
        Field(description="by metric, the same in its own unit, where that is known better"),
    ] = NO_EFFECTS
    adjustment: Annotated[
        Adjustment,
        Field(description="of the comparisons of a metric that are in no family"),
    ] = "holm"
    families: Annotated[
        dict[Name, FamilyRecipe],
        Field(
            description="hypotheses named in advance; a comparison is of the first that it fits, "
            "and of its metric's if it fits none"
        ),
    ] = NO_FAMILIES

    def problems(
        self, names: Mapping[str, Collection[str]], settings_of: Mapping[str, str]
    ) -> Iterable[str]:
        """Describe what does not fit the rest of the config, each with its place.

        Args:
            names: by axis of `AXES`, the names that the config has.
            settings_of: of the metrics that are a setting of an entry, the entry's name.
        """
        losses = names["losses"]
        if self.baseline not in losses:
            yield not_among("statistics.baseline", self.baseline, losses)
        metrics = list(dict.fromkeys([*names["metrics"], *settings_of.values()]))
        known = {**names, "metrics": metrics}
        for metric in self.smallest_effects:
            if metric not in metrics:
                yield not_among("statistics.smallest-effects", metric, metrics)
        for family, recipe in self.families.items():
            place = f"statistics.families.{family}"
            if family in metrics:
                yield f"{place}: found the name of a metric, whose own family has that name already"
            for axis in AXES:
                for name in getattr(recipe, axis) or ():
                    if name not in known[axis]:
                        yield not_among(f"{place}.{axis}", name, known[axis])
            if self.baseline in (recipe.losses or ()):
                yield f"{place}.losses: found the baseline, wanted those compared with it"

    def settings(self, settings_of: Mapping[str, str], *, correct_only: bool) -> Settings:
        """Return what the statistics are told.

        Args:
            settings_of: of the metrics that are a setting of an entry, the entry's name, which may
                stand for all of them.
            correct_only: count only images that all losses of a (dataset, seed) classify right.
        """

        def spread(metric: str) -> list[str]:
            return [m for m, entry in settings_of.items() if entry == metric] or [metric]

        return Settings(
            confidence=self.confidence,
            resamples=self.resamples,
            correct_only=correct_only,
            smallest_effect=self.smallest_effect,
            smallest_effects={
                metric: value
                for name, value in self.smallest_effects.items()
                for metric in spread(name)
            },
            adjustment=self.adjustment,
            families={
                name: Family(
                    recipe.datasets,
                    recipe.methods,
                    None
                    if recipe.metrics is None
                    else [m for n in recipe.metrics for m in spread(n)],
                    recipe.losses,
                    recipe.adjustment,
                )
                for name, recipe in self.families.items()
            },
        )
