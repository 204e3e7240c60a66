"""Protocol: owns what a method of attribution is, for CLarity's own, Captum's and the user's.

A method is a class. It is built with the score that it explains, a module from images [B, C, H, W]
in [0, 1] to one number a class [B, classes], and has

    attribute(inputs, target) -> attributions [B, C or 1, h, w]

for images [B, C, H, W] and classes int64 [B]. An attribution of another size than the image is
upsampled. The map of an image must depend on that image and its class alone, never on the others
of the batch. A method whose classes share work has ``attribute_classes`` instead (`PerClass`).

What it names among its parameters it is given, and a recipe gives the rest: by the constructor
``layer`` (the module whose output class activation methods weight), ``rows`` (images that one pass
of the network may take) and ``seed`` (of random draws, the same for all images, classes and
losses); by the call ``baselines`` (images that stand for nothing, [B, C, H, W]) and
``feature_mask`` (the number of the region of each pixel, int64 [B, H, W], from 0 without gaps).
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class MethodUnavailable(Exception):
    """The method cannot explain this model, for a reason that lies in the method: a result."""


class PerClass(ABC):
    """A method that explains several classes of each image at once."""

    @abstractmethod
    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W] for classes int64 [B, K].

        Returns:
            Attributions [B, K, C or 1, h, w].
        """

    def attribute(self, inputs: Tensor, target: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W] for one class each, int64 [B]: [B, C or 1, h, w]."""
        return self.attribute_classes(inputs, target[:, None], **given)[:, 0]
