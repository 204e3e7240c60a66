"""Trust recipe: owns the keys of `trust` in the config; loads no torch."""

from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PositiveInt

from clarity.recipes import Name, Section, not_among

Corruption = Literal[
    "gaussian-noise",
    "shot-noise",
    "impulse-noise",
    "defocus-blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg",
]
CORRUPTIONS: list[Corruption] = list(get_args(Corruption))
SEVERITIES = [1, 2, 3, 4, 5]
#: Hardly seen, usual for small colour images (8 / 255 is 0.031), and a third of that for digits.
RADII = [0.01, 0.03, 0.1]
NONE: dict[str, str] = {}

Radius = Annotated[float, Field(gt=0, lt=1)]
Severity = Annotated[int, Field(ge=1, le=5)]


class Trust(Section):
    """What is measured of each model beside its explanations; an empty list measures nothing."""

    images: Annotated[
        PositiveInt,
        Field(description="test images that are attacked and corrupted, of every class alike"),
    ] = 500
    radii: Annotated[
        list[Radius],
        Field(description="largest change of a pixel by an attack, of the range from 0 to 1"),
    ] = RADII
    steps: Annotated[PositiveInt, Field(description="gradient steps of PGD")] = 10
    corruptions: Annotated[
        list[Corruption], Field(description="common corruptions (Hendrycks and Dietterich, 2019)")
    ] = CORRUPTIONS
    severities: Annotated[list[Severity], Field(description="how strong, 1 to 5")] = SEVERITIES
    out_of_distribution: Annotated[
        dict[Name, Name],
        Field(description="for a dataset, the other whose test images its models should not know"),
    ] = NONE

    def part(self, dataset: str) -> dict[str, Any]:
        """Return the recipe, plain, as it concerns one dataset: what its runs depend on."""
        other = self.out_of_distribution.get(dataset)
        mine = {} if other is None else {dataset: other}
        return {**self.plain(), "out-of-distribution": mine}

    def problems(self, datasets: Collection[str]) -> Iterable[str]:
        """Describe what does not fit the config's datasets, each with its place."""
        place = "trust.out-of-distribution"
        for dataset, other in self.out_of_distribution.items():
            for where, name in ((place, dataset), (f"{place}.{dataset}", other)):
                if name not in datasets:
                    yield not_among(where, name, datasets)
            if dataset == other:
                yield f"{place}.{dataset}: found '{other}', wanted another dataset"
        for key, values in (
            ("radii", self.radii),
            ("corruptions", self.corruptions),
            ("severities", self.severities),
        ):
            if len(set(values)) < len(values):
                yield f"trust.{key}: found {values}, wanted each once"
