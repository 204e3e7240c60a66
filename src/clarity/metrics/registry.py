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
        unsupported: why CLarity cannot compute it; empty if it can.
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
    unsupported: str = ""
    paper: str = ""


#: Quantus' metrics that have no score of one image's map, and why.
UNSUPPORTED = {
    **dict.fromkeys(
        ("MPRT", "ModelParameterRandomisation", "SmoothMPRT", "EfficientMPRT", "InputInvariance"),
        "it explains changed copies of the model, and a method is bound to the model as it is",
    ),
    **dict.fromkeys(
        ("Consistency", "Sufficiency", "BatchSufficiency"),
        "it compares the images of a batch with each other, so that an image has no score",
    ),
    "SensitivityN": "it correlates over the images of a batch, so that an image has no score",
    "ROAD": "it is an accuracy over the images of the first batch, so that an image has no score",
    "Focus": "it needs mosaics of several images",
}

_MASS = {"needs_masks": True, "sign": "positive"}
_ORDER = {"needs_masks": True, "sign": "signed"}

#: What Quantus does not say, or says of another number. Signs and scale are Quantus' own defaults
#: (its `abs` and `normalise`), except that masses are of positive parts.
ENTRIES: dict[str, dict[str, Any]] = {
    "PixelFlipping": {"softmax": True, "paper": "Bach et al., 2015"},
    "FaithfulnessCorrelation": {"paper": "Bhatt et al., 2020"},
    "FaithfulnessEstimate": {"paper": "Alvarez-Melis and Jaakkola, 2018"},
    "IROF": {"softmax": True, "paper": "Rieger and Hansen, 2020"},
    "Infidelity": {"scale": "none", "paper": "Yeh et al., 2019"},
    "Monotonicity": {"softmax": True, "sign": "absolute", "paper": "Arya et al., 2019"},
    "MonotonicityCorrelation": {
        "softmax": True,
        "sign": "absolute",
        "paper": "Nguyen and Martínez, 2020",
    },
    "RegionPerturbation": {"softmax": True, "paper": "Samek et al., 2017"},
    "Selectivity": {"softmax": True, "paper": "Montavon et al., 2018"},
    "MaxSensitivity": {"scale": "none", "paper": "Yeh et al., 2019"},
    "AvgSensitivity": {"scale": "none", "paper": "Yeh et al., 2019"},
    "LocalLipschitzEstimate": {"softmax": True, "paper": "Alvarez-Melis and Jaakkola, 2018"},
    "Continuity": {"sign": "absolute", "paper": "Montavon et al., 2018"},
    "RelativeInputStability": {"scale": "none", "paper": "Agarwal et al., 2022"},
    "RelativeOutputStability": {"scale": "none", "paper": "Agarwal et al., 2022"},
    "RelativeRepresentationStability": {"scale": "none", "paper": "Agarwal et al., 2022"},
    "Sparseness": {"sign": "absolute", "paper": "Chalasani et al., 2020"},
    "Complexity": {"sign": "absolute", "paper": "Bhatt et al., 2020"},
    "EffectiveComplexity": {"sign": "absolute", "paper": "Nguyen and Martínez, 2020"},
    "RandomLogit": {"paper": "Sixt et al., 2020"},
    # Quantus asks whether two floats are equal, true being better; here it is their gap.
    "Completeness": {
        "direction": "lower",
        "scale": "none",
        "constant_maps": True,
        "paper": "Sundararajan et al., 2017",
    },
    "NonSensitivity": {"softmax": True, "sign": "absolute", "paper": "Nguyen and Martínez, 2020"},
    "AUC": {**_ORDER, "paper": "Fawcett, 2006"},
    "PointingGame": {**_ORDER, "paper": "Zhang et al., 2018"},
    "RelevanceRankAccuracy": {**_ORDER, "paper": "Arras et al., 2022"},
    "TopKIntersection": {**_ORDER, "paper": "Theiner et al., 2021"},
    "AttributionLocalisation": {**_MASS, "paper": "Kohlbrenner et al., 2020"},
    "RelevanceMassAccuracy": {**_MASS, "paper": "Arras et al., 2022"},
    "PairwiseSimilarity": {"paper": "Nauta et al., 2023"},
    "DiscriminativeMass": {
        **_MASS,
        "images": "scenes",
        "needs_scenes": True,
        "paper": "after Arras et al., 2022",
    },
}


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
        known |= _MASS
    # A user's own class may share a name with one of these and is another metric.
    if ":" not in recipe.metric:
        known |= ENTRIES.get(found.name, {})
        known["unsupported"] = UNSUPPORTED.get(found.name, "")
        if found.name == "RegionPerturbation":
            # Quantus says "lower", but its curve is the drop of the score, which a good map makes
            # large if the most relevant regions go first (Samek et al., 2017, equation 12).
            order = recipe.arguments.get("order", "morf")
            known["direction"] = {"morf": "higher", "lerf": "lower"}.get(order, "none")
    chosen = {
        key: getattr(recipe, key)
        for key in ("images", "sign", "scale", "softmax")
        if getattr(recipe, key) is not None
    }
    result = replace(MetricInfo(**known), **chosen)
    return replace(result, needs_scenes=result.images == "scenes")
