"""Methods: own how a recipe becomes an explainer, a function from images and classes to maps.

The protocol of a method, for Captum's classes, the controls and a user's own ``module:Class``:
built with the model (a module from images to class scores), and for Captum's layer methods with
the layer, it has ``attribute(inputs, target=...)`` that maps images [B, C, H, W] and classes [B] to
attributions [B, C or 1, h, w]. An attribution of another size than the image is upsampled.
"""

import inspect
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.attribution import controls
from clarity.attribution.recipe import CONTROLS, MethodRecipe
from clarity.attribution.targets import TargetFunction
from clarity.catalogue import load_own
from clarity.models.classifier import Classifier

BASELINES = {"black": 0.0, "grey": 0.5, "white": 1.0}


class MethodUnavailable(Exception):
    """The method cannot explain this model, for a reason that lies in the method: a result."""


class Explainer:
    """One method on one model.

    Attributes:
        score: the target function that is explained, a module from images to class scores.
    """

    def __init__(self, recipe: MethodRecipe, model: Classifier) -> None:
        """Build the method that ``recipe`` names on ``model``.

        Raises:
            MethodUnavailable: if the method cannot work with this model.
        """
        self.score: nn.Module = TargetFunction(model, recipe.target).eval()
        self._channels = recipe.channels
        kind = _class(recipe.method)
        wanted_by_init = inspect.signature(kind.__init__).parameters
        wanted_by_call = inspect.signature(kind.attribute).parameters
        built_with = {k: v for k, v in recipe.arguments.items() if k in wanted_by_init}
        if "layer" in wanted_by_init:
            built_with["layer"] = model.encoder.cam_layer
        self._call_with = {k: v for k, v in recipe.arguments.items() if k not in built_with}
        if recipe.baseline is not None:
            if "baselines" not in wanted_by_call:
                raise MethodUnavailable(f"{recipe.method} takes no baseline")
            self._call_with["baselines"] = BASELINES[recipe.baseline]
        self._method = kind(self.score, **built_with)

    def __call__(self, images: Tensor, classes: Tensor) -> Tensor:
        """Explain the score of ``classes`` [B] for ``images`` [B, C, H, W] in [0, 1].

        Returns:
            Signed maps [B, H, W] float32, detached. The map of an image depends on that image and
            its class alone.

        Raises:
            MethodUnavailable: if the method finds that it cannot work with this model.
        """
        try:
            found = self._method.attribute(
                images.detach().clone().requires_grad_(True), target=classes, **self._call_with
            )
        except NotImplementedError as error:
            raise MethodUnavailable(str(error)) from error
        maps = _over_channels(found.detach(), self._channels)
        if maps.shape[1:] != images.shape[2:]:
            # Align corners off: how Selvaraju et al., 2017 (Grad-CAM) and its followers upsample.
            maps = F.interpolate(
                maps[:, None], size=images.shape[2:], mode="bilinear", align_corners=False
            )[:, 0]
        return maps.float()


def _class(name: str) -> Any:
    """Return the class that a recipe names."""
    if ":" in name:
        return load_own(name)
    return getattr(controls if name in CONTROLS else captum.attr, name)


def _over_channels(attributions: Tensor, how: str) -> Tensor:
    """Reduce attributions [B, C, h, w] to maps [B, h, w], keeping signs."""
    if how == "sum":
        return attributions.sum(dim=1)
    if how == "mean":
        return attributions.mean(dim=1)
    largest = attributions.abs().argmax(dim=1, keepdim=True)
    return torch.gather(attributions, 1, largest)[:, 0]
