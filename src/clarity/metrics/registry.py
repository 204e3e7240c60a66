"""Registry: owns what is known of each metric without computing it; loads no torch.

A metric says it of itself, in class attributes that are read from the source: the names are those
of `MetricInfo`. Of a subclass of Quantus' own metrics, category and direction are what Quantus
says.
"""

import ast
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from clarity import catalogue
from clarity.metrics.recipe import MetricRecipe
from clarity.signatures import NO_VALUE

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric.

    Attributes:
        metric: class name.
        category: faithfulness, robustness, complexity, randomisation, axiomatic, localisation or
            contrastivity.
        direction: whether a higher or a lower value is better.
        directions: an argument that decides the direction, and the direction for each value of it.
        images: whether it is computed on single images or on two-class scenes.
        sign: what it keeps of a map's signs.
        scale: whether each map is divided by its largest absolute value.
        softmax: whether the model's scores become probabilities.
        needs_masks: whether it compares maps with masks of objects.
        needs_scenes: whether it needs two-class scenes.
        needs_deletions: whether it needs scenes from which one object can be taken exactly.
        constant_maps: whether a constant map has a value; otherwise it is counted, not scored.
        whole_set: whether an image's value depends on the other images of the evaluation set.
        explains: whether, with the recipe's arguments, it asks the method for maps beyond those of
            label and runner-up.
        verdict: whether noise cannot win it, so that it may carry a verdict on contrastivity.
        forward: images that the model scores for one image, a formula of the metric's arguments and
            of pixels, channels, classes, layers and images (see `cost`).
        explained: maps that the method makes for one image, likewise.
        nulls: what it gives maps that are worth nothing, where theory tells: "random" for
            independent noise, on average over images, and "agnostic", exactly, for one map of all
            classes.
        moderate: arguments that bound its cost, for a grid that asks for all metrics; a text that
            begins with "=" is a formula of pixels and side, see `moderate`.
        paper: where it comes from.
    """

    metric: str
    category: str
    direction: Direction
    directions: tuple[str, Mapping[str, Direction]] | None = None
    images: Literal["single", "scenes"] = "single"
    sign: Literal["signed", "positive", "absolute"] = "signed"
    scale: Literal["none", "max"] = "max"
    softmax: bool = False
    needs_masks: bool = False
    needs_scenes: bool = False
    needs_deletions: bool = False
    constant_maps: bool = False
    whole_set: bool = False
    verdict: bool = False
    forward: str = "0"
    explained: str = "0"
    nulls: Mapping[str, float] | None = None
    moderate: Mapping[str, Any] | None = None
    paper: str = ""
    explains: bool = False

    @property
    def needs(self) -> list[str]:
        """What a dataset or a method must give, in words."""
        said = {
            "masks": self.needs_masks,
            "two-class scenes": self.needs_scenes,
            "scenes with exact deletions": self.needs_deletions,
            "re-explaining": self.explains,
            "the whole set": self.whole_set,
        }
        return [what for what, wanted in said.items() if wanted]


#: What a class may say of itself.
_SAID = {field.name for field in fields(MetricInfo)} - {"metric", "explains"}


def info(recipe: MetricRecipe) -> MetricInfo:
    """Return what is known of the metric that ``recipe`` names, with the recipe's choices.

    Raises:
        clarity.catalogue.UnknownName: if there is no such metric.
    """
    found = catalogue.find("metrics", recipe.metric)
    known: dict[str, Any] = {"metric": found.name, "category": "own", "direction": "none"}
    if "evaluation_category" in found.attributes:
        known["category"] = found.attributes["evaluation_category"].rpartition(".")[2].lower()
        known["direction"] = found.attributes["score_direction"].rpartition(".")[2].lower()
        known["needs_masks"] = known["category"] == "localisation"
    known |= {
        key: ast.literal_eval(value) for key, value in found.attributes.items() if key in _SAID
    }
    if known.get("directions"):
        argument, directions = known["directions"]
        given = recipe.arguments.get(argument, found.parameters[argument].default)
        known["direction"] = directions.get(given, "none")
    chosen = {
        key: getattr(recipe, key)
        for key in ("images", "sign", "scale", "softmax")
        if getattr(recipe, key) is not None
    }
    result = replace(MetricInfo(**known), **chosen)
    anything = {"pixels": 64, "channels": 3, "classes": 9, "layers": 9, "images": 9}
    maps = _formula(result.explained, _names(found, recipe, **anything))
    return replace(result, needs_scenes=result.images == "scenes", explains=maps > 0)


@dataclass(frozen=True)
class Cost:
    """What a metric asks of a model for one image: images scored, and maps made."""

    forward: float
    explained: float


def cost(
    recipe: MetricRecipe, *, pixels: int, channels: int, classes: int, layers: int, images: int
) -> Cost:
    """Return what a metric costs an image, by its formulas.

    Args:
        recipe: the metric with its arguments.
        pixels: height times width.
        channels: of an image.
        classes: that the model scores.
        layers: of the model that a randomisation resets.
        images: of the evaluation set, over which what is done once is shared out.
    """
    known = info(recipe)
    names = _names(
        catalogue.find("metrics", recipe.metric),
        recipe,
        pixels=pixels,
        channels=channels,
        classes=classes,
        layers=layers,
        images=images,
    )
    return Cost(*(float(_formula(text, names)) for text in (known.forward, known.explained)))


def _names(found: catalogue.ClassInfo, recipe: MetricRecipe, **sizes: int) -> dict[str, Any]:
    """Return what a formula may name: the metric's arguments, sizes and a few functions."""
    taken = found.parameters.items()
    return {
        **{name: p.default for name, p in taken if p.default not in (p.empty, NO_VALUE)},
        **recipe.arguments,
        **sizes,
        "side": math.isqrt(sizes["pixels"]),
        **{function.__name__: function for function in (math.ceil, math.floor, min, max, len)},
    }


def moderate(metric: str, pixels: int) -> dict[str, Any]:
    """Return arguments of a metric that bound its cost on images of so many pixels."""
    names = {"pixels": pixels, "side": math.isqrt(pixels), "ceil": math.ceil}
    said = info(MetricRecipe(metric=metric)).moderate or {}
    return {
        key: _formula(value[1:], names)
        if isinstance(value, str) and value.startswith("=")
        else value
        for key, value in said.items()
    }


def _formula(text: str, names: Mapping[str, Any]) -> Any:
    """Compute a formula: CLarity's own, or of a class of the user's, whose code runs anyway."""
    return eval(text, {"__builtins__": {}}, dict(names))


def every_metric(
    masks: Collection[str],
    scenes: Collection[str],
    deletions: Collection[str],
    pixels: int = 32 * 32,
) -> dict[str, dict[str, Any]]:
    """Return a recipe of every metric, of moderate cost, named by its class in lower case.

    Args:
        masks: the datasets with masks of single images' objects.
        scenes: those with two-class scenes.
        deletions: those whose scenes come without one of their objects too.
        pixels: of the largest images, for arguments that follow their size.

    Returns:
        Recipes as a config has them; metrics that no dataset can have are left out.
    """
    recipes = {}
    for name in catalogue.names("metrics"):
        known = info(MetricRecipe(metric=name))
        fit: Collection[str] | None = None
        if known.needs_deletions:
            fit = deletions
        elif known.needs_scenes:
            fit = scenes
        elif known.needs_masks:
            fit = masks
        if fit is not None and not fit:
            continue
        recipe = {"metric": name, **moderate(name, pixels)}
        recipes[_kebab(name)] = recipe if fit is None else {**recipe, "datasets": list(fit)}
    return recipes


def _kebab(name: str) -> str:
    """Return a class name in lower case: MaxSensitivity is max-sensitivity, IROF irof."""
    words = ""
    for before, letter, after in zip(" " + name, name, name[1:] + " ", strict=False):
        starts = letter.isupper() and (before.islower() or (before.isupper() and after.islower()))
        words += ("-" if starts and words else "") + letter.lower()
    return words
