"""A classifier as training leaves one, in small, with images: what attribution is tested on."""

import torch
from torch.nn import functional as F

from clarity.models.classifier import HEADS, Classifier, Shape

CLASSES = 5
NAMES = tuple("abcde")


def classifier(encoder: dict | None = None, channels: int = 3, size: int = 32) -> Classifier:
    """Return a network with statistics, heads, references and temperatures of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(Shape(encoder or {"name": "convnet"}, channels, size, CLASSES))
        model.mean.fill_(0.4)
        model.std.fill_(0.3)
        for prototypes in (model.prototypes, model.prototypes_centred):
            prototypes.copy_(F.normalize(torch.randn_like(prototypes), dim=1))
        model.center.normal_(std=0.05)
        references = F.normalize(torch.randn(40, model.dimension), dim=1)
        model.set_references(references, torch.arange(40) % CLASSES)
        model.temperatures[HEADS.index("linear")] = 0.5
        model.temperatures[HEADS.index("prototype")] = 0.1
        # Statistics of batch normalisation as training leaves them, not those of a new network.
        model.train()
        model(torch.rand(64, channels, size, size))
    return model.eval().requires_grad_(False)


def pictures(count: int = 6, channels: int = 3, size: int = 32) -> torch.Tensor:
    """Return images [count, channels, size, size] in [0, 1]: smooth blobs with a little noise.

    Noise alone is a single superpixel.
    """
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    noise = 0.02 * torch.rand(count, channels, size, size, generator=generator)
    return (smooth + noise).clamp(0, 1)
