"""Augmentation: owns random label-preserving changes of a whole batch at once, on its device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clarity.data.protocol import Augment

#: Weights of red, green and blue in the grey value (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)
#: A crop's width over its height lies between these (Szegedy et al., 2015, "Going Deeper with
#: Convolutions", section 6).
ASPECTS = (3 / 4, 4 / 3)


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Return a changed copy of ``images`` [B, C, H, W] in [0, 1]; each image gets its own draw.

    Shifts repeat the border, so that no black edge tells an augmented image from a plain one.
    All numbers come from ``generator`` (on the CPU, so that every device draws the same ones).
    """
    draw = _Draw(len(images), generator, images.device)
    if recipe.shift:
        images = _shift(images, recipe.shift, draw)
    if recipe.crop < 1:
        images = _crop(images, recipe.crop, draw)
    if recipe.flip:
        images = torch.where(draw.share(0.5), images.flip(3), images)
    images = _colours(images, recipe, draw)
    return images.contiguous(memory_format=torch.channels_last)


class _Draw:
    """Random numbers, one for each image of a batch."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device) -> None:
        self._count, self._generator, self._device = count, generator, device

    def uniform(self, low: float, high: float) -> Tensor:
        """Return [B] numbers in [low, high)."""
        numbers = torch.rand(self._count, generator=self._generator).to(self._device)
        return low + (high - low) * numbers

    def factor(self, strength: float) -> Tensor:
        """Return [B, 1, 1, 1] factors in [1 - strength, 1 + strength)."""
        return self.uniform(1 - strength, 1 + strength)[:, None, None, None]

    def share(self, share: float) -> Tensor:
        """Return [B, 1, 1, 1] truth values, true with probability ``share``."""
        return (self.uniform(0, 1) < share)[:, None, None, None]

    def integers(self, high: int) -> Tensor:
        """Return [B] integers in [0, high)."""
        numbers = torch.randint(0, high, (self._count,), generator=self._generator)
        return numbers.to(self._device)


def _shift(images: Tensor, most: int, draw: _Draw) -> Tensor:
    """Move each image by up to ``most`` whole pixels along both axes."""
    count, _, height, width = images.shape
    padded = F.pad(images, [most] * 4, mode="replicate")
    rows = draw.integers(2 * most + 1)[:, None] + torch.arange(height, device=images.device)
    columns = draw.integers(2 * most + 1)[:, None] + torch.arange(width, device=images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _crop(images: Tensor, least: float, draw: _Draw) -> Tensor:
    """Enlarge a random part of each image to the whole size, bilinearly.

    Inception's crop: its area is at least a share of the image's; its shape is drawn on a
    logarithmic scale, and bounded by the image.
    """
    area = draw.uniform(least, 1)
    low, high = (torch.tensor(aspect).log().item() for aspect in ASPECTS)
    stretch = draw.uniform(low, high).exp().sqrt()
    width = (area.sqrt() * stretch).clamp(max=1)
    height = (area.sqrt() / stretch).clamp(max=1)
    # In the coordinates of `affine_grid` an image reaches from -1 to 1.
    across = draw.uniform(-1, 1) * (1 - width)
    down = draw.uniform(-1, 1) * (1 - height)
    zero = torch.zeros_like(area)
    maps = torch.stack(
        [torch.stack([width, zero, across], 1), torch.stack([zero, height, down], 1)], 1
    )
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _colours(images: Tensor, recipe: Augment, draw: _Draw) -> Tensor:
    """Change brightness, contrast, saturation, hue, and the presence of colours at all."""
    before = images
    if recipe.brightness:
        images = (images * draw.factor(recipe.brightness)).clamp(0, 1)
    if recipe.contrast:
        middle = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
        images = (middle + (images - middle) * draw.factor(recipe.contrast)).clamp(0, 1)
    if recipe.saturation:
        grey = _grey(images)
        images = (grey + (images - grey) * draw.factor(recipe.saturation)).clamp(0, 1)
    if recipe.hue:
        images = _turn_hue(images, draw.uniform(-recipe.hue, recipe.hue)).clamp(0, 1)
    if recipe.jitter < 1:
        images = torch.where(draw.share(recipe.jitter), images, before)
    if recipe.grey:
        images = torch.where(draw.share(recipe.grey), _grey(images).expand_as(images), images)
    return images


def _grey(images: Tensor) -> Tensor:
    """Return the grey values [B, 1, H, W]; of images that are not RGB, the mean of channels."""
    if images.shape[1] != len(LUMA):
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor(LUMA, device=images.device).view(1, -1, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the colours of RGB images around the grey axis by ``turns`` [B] of the whole circle.

    A rotation in the chroma plane of YIQ, which keeps the grey value: linear, unlike a turn in HSV.
    """
    if images.shape[1] != len(LUMA):
        return images
    to_yiq = torch.tensor(
        [list(LUMA), [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]],
        device=images.device,
    )
    angle = turns * 2 * torch.pi
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    whole = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("bij,bjhw->bihw", whole, images)
