"""Config: owns the whole of config.yaml, checked before any job starts; loads no torch.

Every section lives beside its stage (`*/recipe.py`); this file puts them together, checks the
names of library classes and their arguments against the installed libraries without importing them
(`clarity.catalogue`), and checks what concerns several sections at once.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from clarity import catalogue
from clarity.attribution.recipe import OF_THE_IMAGE, TAKEN, MethodRecipe
from clarity.data.recipe import SOURCES, DatasetRecipe
from clarity.grid import Grid
from clarity.losses.recipe import LossRecipe
from clarity.metrics import registry
from clarity.metrics.recipe import MetricRecipe
from clarity.recipes import Name, Section, nearest, not_among
from clarity.statistics.recipe import AXES as STATISTICS_AXES
from clarity.statistics.recipe import Statistics
from clarity.statistics.settings import categories_of, families_of
from clarity.trust.recipe import Trust


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
    classes: Annotated[
        str,
        Field(
            pattern=r"^(label\+runner-up|top-\d+|all)$",
            description="whose maps each image gets: label+runner-up, top-5 (these and the next by "
            "the model), or all",
        ),
    ] = "label+runner-up"
    batch_size: Annotated[
        PositiveInt, Field(description="images a call of a model by a metric")
    ] = 64
    memory: Annotated[
        PositiveFloat | None,
        Field(description="GiB that a pass of a method takes; null is 1/4 on a CPU, 4 on a GPU"),
    ] = None
    compress: Annotated[bool, Field(description="store maps compressed, without loss")] = False


class OrAll:
    """A mark: the schema of the marked key allows the word "all" too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of either."""
        return {"anyOf": [{"const": "all"}, handler(schema)]}


DATASETS = TypeAdapter(dict[str, DatasetRecipe])


class Config(Section):
    """The whole config of a grid."""

    results: Annotated[str, Field(min_length=1, description="root of everything made")] = "results"
    data: Annotated[
        str | None, Field(min_length=1, description="root of the folders that images come from")
    ] = None
    costs: Annotated[
        str | None, Field(min_length=1, description="results whose records tell `plan` the costs")
    ] = None
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, description="training runs")]
    jobs: Annotated[
        Literal["run", "model", "cell"],
        Field(description="a job for all stages of a model, for each, or for each method too"),
    ] = "run"
    shards: Annotated[
        PositiveInt, Field(description="with `jobs: run`, the seeds of a dataset and loss a job")
    ] = 1
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where models run")] = (
        "auto"
    )
    threads: Annotated[PositiveInt, Field(description="threads a job; part of the result")] = 1
    evaluation: Evaluation = Evaluation()
    statistics: Statistics = Statistics()
    trust: Trust = Trust()
    datasets: Annotated[dict[Name, DatasetRecipe], Field(min_length=1)]
    losses: Annotated[dict[Name, LossRecipe], Field(min_length=1)]
    methods: Annotated[dict[Name, MethodRecipe], Field(min_length=1)]
    metrics: Annotated[
        dict[Name, MetricRecipe],
        Field(min_length=1, description="recipes, or all: every metric, of moderate cost"),
        OrAll(),
    ]

    @model_validator(mode="before")
    @classmethod
    def _loss_named_by_its_key(cls, value: Any) -> Any:
        """Let `cross-entropy: {}` stand for itself: a loss without `loss` is named by its key."""
        if isinstance(value, dict) and isinstance(value.get("losses"), dict):
            filled = {
                name: {"loss": name, **(recipe or {})}
                if recipe is None or (isinstance(recipe, dict) and "terms" not in recipe)
                else recipe
                for name, recipe in value["losses"].items()
            }
            return {**value, "losses": filled}
        return value

    @model_validator(mode="before")
    @classmethod
    def _method_of_each_target(cls, value: Any) -> Any:
        """Make of `cam: {targets: [logit, prototype]}` the methods cam and cam-prototype."""
        return _spread(value, "methods", "targets", _of_targets)

    @model_validator(mode="before")
    @classmethod
    def _every_metric(cls, value: Any) -> Any:
        """Put every metric that a dataset can have in the place of `metrics: all`."""
        if not isinstance(value, dict) or value.get("metrics") != "all":
            return value
        try:
            datasets = DATASETS.validate_python(value.get("datasets", {}))
        except ValidationError:
            datasets = {}  # told with its place when the datasets are checked
        masks, scenes, deletions = (
            [name for name, dataset in datasets.items() if getattr(dataset, has)]
            for has in ("has_masks", "has_scenes", "has_deletions")
        )
        side = max((dataset.side for dataset in datasets.values()), default=32)
        return {**value, "metrics": registry.every_metric(masks, scenes, deletions, side**2)}

    @model_validator(mode="before")
    @classmethod
    def _metric_of_each_setting(cls, value: Any) -> Any:
        """Make of `flip: {settings: {black: {...}, mean: {...}}}` flip-black and flip-mean."""
        return _spread(value, "metrics", "settings", _of_settings)

    @property
    def grid(self) -> Grid:
        """The product of the axes."""
        return Grid(list(self.datasets), list(self.losses), self.seeds, list(self.methods))

    @property
    def controls(self) -> list[str]:
        """The names of the methods that look at neither model nor class."""
        return [name for name, recipe in self.methods.items() if recipe.is_control]

    @property
    def settings_of(self) -> dict[str, str]:
        """Of the metrics that are a setting of an entry, the name of that entry."""
        return families_of(self.metrics)

    @property
    def categories(self) -> list[str]:
        """The categories of the metrics that have a direction, in order."""
        return categories_of(self.metric_infos())

    @property
    def families(self) -> list[str]:
        """The entries of the metrics that have settings, in order."""
        return list(dict.fromkeys(self.settings_of.values()))

    def metric_infos(self) -> dict[str, registry.MetricInfo]:
        """Return what is known of each metric, by recipe name."""
        return {name: registry.info(recipe) for name, recipe in self.metrics.items()}

    def problems(self) -> list[str]:
        """Return what is wrong beyond single keys: names of classes, and what must fit together."""
        return [
            *self._axis_problems(),
            *self._dataset_problems(),
            *self._class_problems(),
            *self._metric_problems(),
            *self.trust.problems(self.datasets),
            *self.statistics.problems(
                {axis: getattr(self, axis) for axis in STATISTICS_AXES}, self.settings_of
            ),
        ]

    def _axis_problems(self) -> Iterable[str]:
        if self.shards > 1 and self.jobs != "run":
            yield f"shards: found {self.shards} with `jobs: {self.jobs}`, wanted 1, or `jobs: run`"
        if self.evaluation.classes in ("top-0", "top-1"):
            yield (
                f"evaluation.classes: found {self.evaluation.classes}, wanted top-2 or more: "
                f"metrics compare the label with the runner-up"
            )
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: found {self.seeds}, wanted each seed once"
        for axis in ("datasets", "losses", "methods", "metrics"):
            seen: dict[str, str] = {}
            for name in getattr(self, axis):
                # Folders that differ in case alone are one folder on many file systems.
                if name.lower() in seen:
                    yield f"{axis}: '{seen[name.lower()]}' and '{name}' would share a folder"
                seen[name.lower()] = name

    def _dataset_problems(self) -> Iterable[str]:
        for name, dataset in self.datasets.items():
            views = {loss: recipe.views for loss, recipe in self.losses.items()}
            yield from dataset.training_problems(f"datasets.{name}", views)
            yield from dataset.problems(f"datasets.{name}", self.data)

    def _class_problems(self) -> Iterable[str]:
        for name, loss in self.losses.items():
            yield from loss.problems(f"losses.{name}")
        for name, method in self.methods.items():
            where = f"methods.{name}"
            if method.method.startswith("captum."):
                plain = method.method.rpartition(":")[2]
                yield f"{where}.method: found {method.method}, wanted {plain} alone"
                continue
            wrong = catalogue.check("attribution", method.method, method.arguments, where)
            yield from wrong
            if wrong:
                continue
            info = catalogue.find("attribution", method.method)
            for key, parameter in TAKEN.items():
                if getattr(method, key) is not None and parameter not in info.given:
                    yield f"{where}.{key}: found, but {method.method} takes none"
            several = info.attributes.get("wants_references") == "True"
            if several and method.baseline and method.baseline.name in OF_THE_IMAGE:
                yield (
                    f"{where}.baseline: found {method.baseline.name}, which is another for each "
                    f"image; {method.method} averages over a distribution: sample, uniform, black, "
                    f"grey or white"
                )

    def _metric_problems(self) -> Iterable[str]:
        for name, recipe in self.metrics.items():
            where = f"metrics.{name}"
            wrong = catalogue.check("metrics", recipe.metric, recipe.arguments, where)
            yield from wrong
            for dataset in recipe.datasets or []:
                if dataset not in self.datasets:
                    yield not_among(f"{where}.datasets", dataset, self.datasets)
            if wrong:
                continue
            known = registry.info(recipe)
            for dataset, source in self.datasets.items():
                if recipe.datasets is not None and dataset not in recipe.datasets:
                    continue
                for needs, has, what in (
                    # The masks of two-class scenes come with them.
                    (known.needs_masks and not known.needs_scenes, source.has_masks, "masks"),
                    (known.needs_scenes, source.has_scenes, "two-class scenes"),
                    (
                        known.needs_deletions,
                        source.has_deletions,
                        "scenes from which an object can be taken",
                    ),
                ):
                    if needs and not has:
                        yield (
                            f"{where}: {recipe.metric} needs {what}, which the dataset '{dataset}' "
                            f"has not; name those that have with `datasets: [...]`"
                        )


def _spread(
    value: Any, section: str, key: str, spread: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> Any:
    """Put several entries in the place of each entry of a section that has ``key``.

    Args:
        value: the config, or what stands in its place.
        section: "methods" or "metrics".
        key: what an entry has that stands for several.
        spread: makes them from the entry's name and keys.

    Raises:
        ValueError: if an entry is wrong, or two have one name.
    """
    if not isinstance(value, dict) or not isinstance(value.get(section), dict):
        return value
    entries: dict[str, Any] = {}
    for name, recipe in value[section].items():
        several = isinstance(recipe, dict) and key in recipe
        made = spread(name, recipe) if several else {name: recipe}
        for known in made.keys() & entries.keys():
            raise ValueError(f"{section}.{known}: found twice, as an entry and among {key}")
        entries |= made
    return {**value, section: entries}


def _of_targets(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a method for each target of an entry."""
    targets = recipe["targets"]
    listed = isinstance(targets, list) and all(isinstance(t, str) for t in targets)
    if not listed or not targets or len(set(targets)) < len(targets):
        raise ValueError(
            f"methods.{name}.targets: found {targets!r}, wanted a list of targets, each once"
        )
    if "contrast" in targets and "foil" in recipe:
        raise ValueError(
            f"methods.{name}: found the target contrast and a foil for all targets; wanted one of "
            f"them"
        )
    if "target" in recipe:
        raise ValueError(f"methods.{name}: found target and targets, wanted one")
    shared = {key: given for key, given in recipe.items() if key != "targets"}
    return {
        name if target == "logit" else f"{name}-{target}": {**shared, "target": target}
        for target in targets
    }


def _of_settings(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a metric for each setting of an entry, all of one family."""
    where, settings = f"metrics.{name}.settings", recipe["settings"]
    named = isinstance(settings, dict) and all(
        isinstance(setting, dict) for setting in settings.values()
    )
    if not named or len(settings) < 2:
        raise ValueError(
            f"{where}: found {settings!r}, wanted two or more names, each with the keys that it "
            f"sets"
        )
    shared = {key: given for key, given in recipe.items() if key != "settings"}
    for setting, keys in settings.items():
        twice = sorted(keys.keys() & shared.keys())
        if twice:
            raise ValueError(
                f"{where}.{setting}.{twice[0]}: found in the entry too, wanted in one of both"
            )
    return {
        f"{name}-{setting}": {"family": name, **shared, **keys}
        for setting, keys in settings.items()
    }


def load_config(values: Mapping[str, Any], files: Sequence[str | Path] = ()) -> Config:
    """Check a whole config.

    Args:
        values: the config as Snakemake put it together.
        files: the files it came from; a key that occurs twice in one is lost when YAML is read, so
            they are looked at once more.

    Raises:
        ConfigError: with every problem, each with its place, what was found and what is allowed.
    """
    problems = [problem for file in files for problem in duplicate_keys(Path(file))]
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as error:
        problems += [_describe(detail) for detail in error.errors()]
        raise ConfigError(problems) from None
    problems += config.problems()
    if problems:
        raise ConfigError(problems)
    return config


def duplicate_keys(file: Path) -> list[str]:
    """Return a problem for each key that stands twice in one mapping of a YAML file."""
    problems = []

    def visit(node: yaml.Node | None, place: str) -> None:
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in lines:
                    problems.append(
                        f"{place}{key.value}: found twice in {file.name}, "
                        f"in lines {lines[key.value]} and {line}"
                    )
                lines[key.value] = line
                visit(value, f"{place}{key.value}.")
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                visit(item, f"{place}{position}.")

    with file.open(encoding="utf-8") as stream:
        visit(yaml.compose(stream, Loader=yaml.SafeLoader), "")
    return problems


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the config, for editors and for the docs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _describe(detail: ErrorDetails) -> str:
    """Turn one of pydantic's errors into "place: what was found and what was wanted"."""
    parts = [str(part) for part in detail["loc"]]
    if parts[:1] == ["datasets"] and parts[2:3] and parts[2] in SOURCES:
        # The source chooses the model, so pydantic counts it as a step; it is no key.
        del parts[2]
    place = ".".join(parts)
    message = str(detail["msg"]).removeprefix("Value error, ")
    found = detail["input"]
    if detail["type"] == "union_tag_invalid":
        tag = str(detail["ctx"]["tag"])
        return not_among(f"{place}.source", tag, SOURCES)
    if detail["type"] == "union_tag_not_found":
        return f"{place}.source: missing. Allowed: {', '.join(SOURCES)}"
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        return (
            f"{place}: found {found!r}{nearest(str(found), allowed)} Allowed: {', '.join(allowed)}"
        )
    if detail["type"] == "string_pattern_mismatch" and place.endswith("[key]"):
        return (
            f"{place.removesuffix('.[key]')}: found the name {found!r}; a name becomes a folder, "
            f"so it takes letters, digits and . + _ - only, starts with a letter or digit, and has "
            f"at most 64 characters"
        )
    if detail["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}: found {found!r} ({type(found).__name__}); {message[0].lower()}{message[1:]}"
