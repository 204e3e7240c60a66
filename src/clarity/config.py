"""Config: owns the whole of config.yaml, checked before any job starts; loads no torch.

Every section lives beside its stage (`*/recipe.py`); this file puts them together, checks the
names of library classes and their arguments against the installed libraries without importing them
(`clarity.catalogue`), and checks what concerns several sections at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from clarity import catalogue
from clarity.attribution.recipe import CONTROLS, MethodRecipe
from clarity.data.recipe import DatasetRecipe
from clarity.grid import Grid
from clarity.losses.recipe import CROSS_ENTROPY, LossRecipe
from clarity.metrics import registry
from clarity.metrics.recipe import MetricRecipe
from clarity.recipes import Name, Section, nearest


class ConfigError(ValueError):
    """The config is wrong; the message lists every problem with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Join ``problems``, each "place: what was found and what was wanted"."""
        self.problems = list(problems)
        super().__init__("the config is not valid:\n" + "\n".join(f"  {p}" for p in self.problems))


class Evaluation(Section):
    """What is explained and how scores are counted."""

    images: Annotated[PositiveInt, Field(description="single test images to explain")] = 64
    scenes: Annotated[PositiveInt, Field(description="two-class scenes, where there are any")] = 32
    correct_only: Annotated[
        bool,
        Field(description="compare only images that all losses of a dataset and seed get right"),
    ] = True
    batch_size: Annotated[PositiveInt, Field(description="images a call of a method")] = 64


class Statistics(Section):
    """How the losses are compared."""

    baseline: Annotated[str, Field(description="the loss that all others are compared with")] = (
        CROSS_ENTROPY
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="of every interval")] = 0.95
    resamples: Annotated[int, Field(ge=100, description="bootstrap resamples")] = 2000


class Config(Section):
    """The whole config of a grid."""

    results: Annotated[str, Field(min_length=1, description="root of everything made")] = "results"
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, description="training runs")]
    jobs: Annotated[
        Literal["model", "cell"], Field(description="a job for all methods of a model, or for each")
    ] = "model"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where models run")] = (
        "auto"
    )
    threads: Annotated[PositiveInt, Field(description="threads a job; part of the result")] = 1
    evaluation: Evaluation = Evaluation()
    statistics: Statistics = Statistics()
    datasets: Annotated[dict[Name, DatasetRecipe], Field(min_length=1)]
    losses: Annotated[dict[Name, LossRecipe], Field(min_length=1)]
    methods: Annotated[dict[Name, MethodRecipe], Field(min_length=1)]
    metrics: Annotated[dict[Name, MetricRecipe], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _loss_named_by_its_key(cls, value: Any) -> Any:
        """Let `cross-entropy: {}` stand for itself: a loss without `loss` is named by its key."""
        if isinstance(value, dict) and isinstance(value.get("losses"), dict):
            filled = {
                name: {"loss": name, **(recipe or {})}
                if recipe is None or isinstance(recipe, dict)
                else recipe
                for name, recipe in value["losses"].items()
            }
            return {**value, "losses": filled}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [
            *self._axis_problems(),
            *self._class_problems(),
            *self._metric_problems(),
        ]
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def grid(self) -> Grid:
        """The product of the axes."""
        return Grid(list(self.datasets), list(self.losses), self.seeds, list(self.methods))

    @property
    def controls(self) -> list[str]:
        """The names of the methods that look at neither model nor class."""
        return [name for name, recipe in self.methods.items() if recipe.is_control]

    def metric_infos(self) -> dict[str, registry.MetricInfo]:
        """Return what is known of each metric, by recipe name."""
        return {name: registry.info(recipe) for name, recipe in self.metrics.items()}

    def _axis_problems(self) -> Iterable[str]:
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: found {self.seeds}, wanted each seed once"
        if self.statistics.baseline not in self.losses:
            found = self.statistics.baseline
            yield (
                f"statistics.baseline: found '{found}'{nearest(found, self.losses)} "
                f"Allowed: {', '.join(self.losses)}"
            )
        for axis in ("datasets", "losses", "methods", "metrics"):
            seen: dict[str, str] = {}
            for name in getattr(self, axis):
                # Folders that differ in case alone are one folder on many file systems.
                if name.lower() in seen:
                    yield f"{axis}: '{seen[name.lower()]}' and '{name}' would share a folder"
                seen[name.lower()] = name

    def _class_problems(self) -> Iterable[str]:
        for name, loss in self.losses.items():
            where = f"losses.{name}"
            if loss.loss == CROSS_ENTROPY:
                yield from catalogue.check_call(
                    "torch:CrossEntropyLoss", loss.arguments, where, CROSS_ENTROPY_ARGUMENTS
                )
            else:
                yield from catalogue.check("losses", loss.loss, loss.arguments, where)
            for part, (kind, arguments) in loss.parts.items():
                yield from catalogue.check(f"{part}s", kind, arguments, f"{where}.{part}")
        for name, method in self.methods.items():
            yield from catalogue.check("attribution", method.method, method.arguments, f"methods.{name}")

    def _metric_problems(self) -> Iterable[str]:
        for name, recipe in self.metrics.items():
            where = f"metrics.{name}"
            for dataset in recipe.datasets or []:
                if dataset not in self.datasets:
                    yield (
                        f"{where}.datasets: found '{dataset}'{nearest(dataset, self.datasets)} "
                        f"Allowed: {', '.join(self.datasets)}"
                    )
