"""Methods: own how a recipe becomes an explainer, a function from images and classes to maps.

What a method is stands in `clarity.attribution.protocol`. Here its class is found and built, given
what its recipe and the data say, run in passes that fit into memory, averaged over noise, and its
attributions become signed maps of the image's size.
"""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clarity import catalogue
from clarity.attribution.baselines import baseline_distribution, baseline_images
from clarity.attribution.batching import rows_of_pass
from clarity.attribution.noise import draws_of_noise, over_noise
from clarity.attribution.protocol import MethodUnavailable, PerClass
from clarity.attribution.recipe import TAKEN, Baseline, MethodRecipe, Segments
from clarity.attribution.segments import segment
from clarity.attribution.targets import Score, TargetFunction, UnknownClass
from clarity.models.classifier import Classifier

if TYPE_CHECKING:
    # Loaded when a recipe names a class of theirs, since what some of them need takes seconds. They
    # stand here to count as source of the stages that explain (`clarity.provenance.imports`).
    from clarity.attribution import (  # noqa: F401
        adapted,
        cams,
        controls,
        gradients,
        perturbation,
        relevance,
    )

BLACK = Baseline(name="black")
SAMPLE = Baseline(name="sample")
GRID = Segments()


@dataclass(frozen=True)
class Setting:
    """What an explainer knows beside its recipe and the model.

    Attributes:
        seed: the seed axis, for random draws.
        references: training images [R, C, H, W] in [0, 1], for baselines.
        class_names: one name a class, for foils by name.
        memory: GiB that a pass of the network may take; None leaves it to
            `clarity.attribution.batching`.
    """

    seed: int = 0
    references: Tensor | None = None
    class_names: Sequence[str] = ()
    memory: float | None = None


class Explainer:
    """One method on one model.

    Attributes:
        score: the target function that is explained, a module from images to class scores.
        arguments: what the method's class is given by the recipe or by its own defaults.
    """

    def __init__(
        self, recipe: MethodRecipe, model: Classifier | Score, setting: Setting | None = None
    ) -> None:
        """Build the method that ``recipe`` names on a model, or on a score of one's own.

        Raises:
            MethodUnavailable: if the method cannot work with this model.
            ValueError: if the recipe asks for what there is not.
        """
        self._setting = setting or Setting()
        self._recipe = recipe
        if isinstance(model, Classifier):
            model = self._target_of(model)
        self.score: Score = model.eval()
        self._rows: int | None = None
        self._size: torch.Size | None = None
        self._method: Any = None
        self._kind = _class(recipe.method)
        built, called = (
            inspect.signature(function).parameters
            for function in (
                self._kind.__init__,
                self._kind.attribute_classes
                if issubclass(self._kind, PerClass)
                else self._kind.attribute,
            )
        )
        # What no signature names goes to the constructor, if that takes any.
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in built.values())
        own = [k for k in recipe.arguments if k in built or (takes_any and k not in called)]
        self._built = {k: recipe.arguments[k] for k in own}
        self._called = {k: v for k, v in recipe.arguments.items() if k not in own}
        self._takes = built.keys() | called.keys()
        for key, wanted in TAKEN.items():
            if getattr(recipe, key) is not None and wanted not in self._takes:
                raise ValueError(f"{key}: found, but {recipe.method} takes none")
        self._several = getattr(self._kind, "wants_references", False)
        self.baseline: Baseline | None = None
        self.segments: Segments | None = None
        if "baselines" in self._takes:
            self.baseline = recipe.baseline or (SAMPLE if self._several else BLACK)
        if "feature_mask" in self._takes:
            regions = getattr(self._kind, "default_regions", None)
            grid = GRID if regions is None else Segments(count=regions)
            self.segments = recipe.segments or grid
        defaults = {
            name: parameter.default
            for name, parameter in {**built, **called}.items()
            if isinstance(parameter.default, bool | int | float | str | list | tuple)
            and name not in catalogue.LIBRARIES["attribution"].given
        }
        self.arguments: dict[str, Any] = {**defaults, **recipe.arguments}

    def _target_of(self, model: Classifier) -> TargetFunction:
        """Return the score that the recipe asks for; a foil may be no class of this dataset."""
        recipe, names = self._recipe, self._setting.class_names
        try:
            return TargetFunction(model, recipe.target, recipe.foil, names)
        except UnknownClass as error:
            raise MethodUnavailable(str(error)) from error

    def described(self) -> dict[str, Any]:
        """Return the recipe with nothing left to defaults, of CLarity or of the method's class."""
        chosen = {"baseline": self.baseline, "segments": self.segments}
        plain = {k: None if v is None else v.plain() for k, v in chosen.items()}
        return {**self._recipe.plain(), **plain, **self.arguments}

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Explain images [B, C, H, W] in [0, 1] for classes int64, one [B] or several [B, K] each.

        Returns:
            Signed maps [B, H, W] or [B, K, H, W] float32, detached. The map of an image depends on
            that image and its class alone.

        Raises:
            MethodUnavailable: if the method finds that it cannot work with this model.
        """
        targets = classes if classes.ndim == 2 else classes[:, None]
        try:
            if self._size != images.shape[1:]:
                # Metrics ask for mosaics too, of which fewer fit into a pass.
                self._size = images.shape[1:]
                self._method = self._build(images, targets.shape[1])
            size = self._images_of_call()
            parts = [
                self._maps(images[start : start + size], targets[start : start + size])
                for start in range(0, len(images), size)
            ]
        except NotImplementedError as error:
            if not self._kind.__module__.startswith("captum."):
                raise
            raise MethodUnavailable(str(error)) from error
        maps = torch.cat(parts)
        return maps if classes.ndim == 2 else maps[:, 0]

    def _build(self, images: Tensor, classes: int) -> Any:
        """Build the method; what it names among its parameters it is given."""
        memory = self._setting.memory
        self._rows = rows_of_pass(self.score, images[0].detach(), memory, classes)
        offered = {
            "layer": self.score.layer,
            "rows": self._rows,
            "seed": self._setting.seed,
        }
        wanted = inspect.signature(self._kind.__init__).parameters
        given = {name: value for name, value in offered.items() if name in wanted}
        return self._kind(self.score, **given, **self._built)

    def _images_of_call(self) -> int:
        """Return how many images a call of the method takes.

        A class that is told the rows of a pass cuts its own work; Captum's integrate over so many
        copies of each image in one pass, or, of a single image, in several.
        """
        assert self._rows is not None
        if "internal_batch_size" not in self._takes:
            return self._rows
        copies = int(self.arguments["n_steps"])
        if copies > self._rows:
            self._called["internal_batch_size"] = self._rows
        return max(1, self._rows // copies)

    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        """Explain the images of one call: [B, K, H, W]."""
        images = images.detach()
        given = self._given(images)
        if self._recipe.noise is None:
            found = self._attributions(images, targets, given)
        else:
            found = self._averaged(images, targets, given)
        maps = _over_channels(_with_sign(found, self._recipe.sign), self._recipe.channels)
        if maps.shape[2:] != images.shape[2:]:
            # Align corners off: how Selvaraju et al., 2017 (Grad-CAM) and its followers upsample.
            maps = F.interpolate(maps, size=images.shape[2:], mode="bilinear", align_corners=False)
        return maps.float()

    def _given(self, images: Tensor) -> dict[str, Tensor]:
        """Return the baselines and regions of images, for a method that takes them."""
        given = {}
        setting = self._setting
        if self.baseline is not None:
            make = baseline_distribution if self._several else baseline_images
            given["baselines"] = make(self.baseline, images, setting.references, setting.seed)
        if self.segments is not None:
            given["feature_mask"] = segment(images, self.segments)
        return given

    def _attributions(self, images: Tensor, targets: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Call the method for all classes: [B, K, C or 1, h, w]."""
        if isinstance(self._method, PerClass):
            return self._method.attribute_classes(images, targets, **given, **self._called).detach()
        leaf = images.clone().requires_grad_(True)

        def explain(slot: int) -> Tensor:
            found: Tensor = self._method.attribute(
                leaf, target=targets[:, slot], **given, **self._called
            )
            return found.detach()

        return torch.stack([explain(slot) for slot in range(targets.shape[1])], dim=1)

    def _averaged(self, images: Tensor, targets: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Reduce the attributions of noisy copies of each image: [B, K, C or 1, h, w]."""
        noise = self._recipe.noise
        assert noise is not None
        draws = draws_of_noise(noise, images.shape[1:], self._setting.seed).to(images)
        found = (self._attributions(images + draw, targets, given) for draw in draws)
        return over_noise(found, noise)


def _class(name: str) -> Any:
    """Return the class that a recipe names."""
    if ":" in name:
        return catalogue.load_own(name)
    info = catalogue.find("attribution", name)
    return getattr(importlib.import_module(info.module), info.name)


def _with_sign(attributions: Tensor, sign: str) -> Tensor:
    if sign == "positive":
        return attributions.clamp_min(0)
    return attributions.abs() if sign == "absolute" else attributions


def _over_channels(attributions: Tensor, how: str) -> Tensor:
    """Reduce attributions [B, K, C, h, w] to maps [B, K, h, w], keeping signs."""
    if how == "sum":
        return attributions.sum(dim=2)
    if how == "mean":
        return attributions.mean(dim=2)
    largest = attributions.abs().argmax(dim=2, keepdim=True)
    return torch.gather(attributions, 2, largest)[:, :, 0]
