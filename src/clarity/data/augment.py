"""Augmentation: owns random label-preserving changes of a whole batch at once, on its device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clarity.data.protocol import Augment


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Return a changed copy of ``images`` [B, C, H, W] in [0, 1]; each image gets its own draw.

    Shifts repeat the border, so that no black edge tells an augmented image from a plain one.
    All numbers come from ``generator`` (on the CPU, so that every device draws the same ones).
    """
    count, _, height, width = images.shape
    device = images.device
    if recipe.shift:
        padded = F.pad(images, [recipe.shift] * 4, mode="replicate")
        offsets = torch.randint(0, 2 * recipe.shift + 1, (2, count), generator=generator).to(device)
        rows = offsets[0, :, None] + torch.arange(height, device=device)
        columns = offsets[1, :, None] + torch.arange(width, device=device)
        which = torch.arange(count, device=device)[:, None, None]
        picked = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
        images = picked.permute(0, 3, 1, 2)
    if recipe.flip:
        mirrored = torch.rand(count, generator=generator).to(device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if recipe.brightness:
        draw = torch.rand(count, generator=generator).to(device) * 2 - 1
        images = (images * (1 + recipe.brightness * draw)[:, None, None, None]).clamp(0, 1)
    return images.contiguous()
