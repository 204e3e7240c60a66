"""Registry: owns what is known of each metric without computing it; loads no torch.

Category and direction of a Quantus metric are read from its own source. What stands here overrides
that where the number that CLarity reports is another one, and adds what Quantus does not say.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from clarity import catalogue
from clarity.metrics.recipe import MetricRecipe

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric.

    Attributes:
        metric: class name.
        category: faithfulness, robustness, complexity, randomisation, axiomatic, localisation or
            contrastivity.
        direction: whether a higher or a lower value is better.
        images: whether it is computed on single images or on two-class scenes.
        sign: what it keeps of a map's signs.
        scale: whether each map is divided by its largest absolute value.
        softmax: whether the model's scores become probabilities.
        needs_masks: whether it compares maps with masks of objects.
        needs_scenes: whether it needs two-class scenes.
        constant_maps: whether a constant map has a value; otherwise it is counted, not scored.
        paper: where it comes from.
    """

    metric: str
    category: str
    direction: Direction
    images: Literal["single", "scenes"] = "single"
    sign: Literal["signed", "positive", "absolute"] = "signed"
    scale: Literal["none", "max"] = "max"
    softmax: bool = False
    needs_masks: bool = False
    needs_scenes: bool = False
    constant_maps: bool = False
    paper: str = ""


def _entries() -> dict[str, dict[str, Any]]:
    localisation = {"needs_masks": True, "sign": "positive"}
    return {
        "PixelFlipping": {"softmax": True, "direction": "lower", "paper": "Bach et al., 2015"},
        "FaithfulnessCorrelation": {"paper": "Bhatt et al., 2020"},
        "MaxSensitivity": {"scale": "none", "paper": "Yeh et al., 2019"},
        "Sparseness": {"sign": "absolute", "paper": "Chalasani et al., 2020"},
        "RandomLogit": {"paper": "Sixt et al., 2020"},
        "Completeness": {
            "direction": "lower",
            "scale": "none",
            "constant_maps": True,
            "paper": "Sundararajan et al., 2017",
        },
        "RelevanceMassAccuracy": {**localisation, "paper": "Arras et al., 2022"},
        "PointingGame": {**localisation, "paper": "Zhang et al., 2018"},
        "PairwiseSimilarity": {
            "category": "contrastivity",
            "direction": "lower",
            "paper": "Nauta et al., 2023",
        },
        "DiscriminativeMass": {
            "category": "contrastivity",
            "direction": "higher",
            "images": "scenes",
            "sign": "positive",
            "needs_masks": True,
            "needs_scenes": True,
            "paper": "after Arras et al., 2022",
        },
    }


ENTRIES = _entries()


def info(recipe: MetricRecipe) -> MetricInfo:
    """Return what is known of the metric that ``recipe`` names, with the recipe's choices.

    Raises:
        clarity.catalogue.UnknownName: if there is no such metric.
    """
    found = catalogue.find("metrics", recipe.metric)
    known: dict[str, Any] = {"metric": found.name}
    if "evaluation_category" in found.attributes:
        known["category"] = found.attributes["evaluation_category"].rpartition(".")[2].lower()
        known["direction"] = found.attributes["score_direction"].rpartition(".")[2].lower()
    for key in ("category", "direction"):
        if key in found.attributes and key not in known:
            known[key] = found.attributes[key].strip("'\"")
    known.setdefault("category", "own")
    known.setdefault("direction", "none")
    if known["category"] == "localisation":
        known |= {"needs_masks": True, "sign": "positive"}
    known |= ENTRIES.get(found.name, {})
    chosen = {
        key: getattr(recipe, key)
        for key in ("images", "sign", "scale", "softmax")
        if getattr(recipe, key) is not None
    }
    result = replace(MetricInfo(**known), **chosen)
    return replace(result, needs_scenes=result.images == "scenes")
