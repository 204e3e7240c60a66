"""Gradients: own the derivatives of several classes' scores from one forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def class_gradients(score: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Differentiate the scores of several classes with respect to the image.

    Args:
        score: from images to scores of all classes.
        images: [B, C, H, W].
        targets: classes, int64 [B, K].

    Returns:
        Gradients [B, K, C, H, W], by one forward pass and K backward ones.
    """
    leaf = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        scores = score(leaf)
    last = targets.shape[1] - 1
    found = [
        torch.autograd.grad(
            scores.gather(1, targets[:, slot : slot + 1]).sum(), leaf, retain_graph=slot < last
        )[0]
        for slot in range(last + 1)
    ]
    return torch.stack(found, dim=1)


class SharedForward:
    """What a gradient method of Captum calls for its gradients, with a memory of one forward pass.

    Explaining another class of the same images asks for gradients at the very same inputs, of
    another score: the graph of the pass before is still there and only goes backward again. It
    stands for `captum._utils.gradient.compute_gradients` (the attribute ``gradient_func``).
    """

    def __init__(self) -> None:
        """Remember nothing."""
        self._inputs: tuple[Tensor, ...] = ()
        self._scores: Tensor | None = None

    def forget(self) -> None:
        """Let the remembered graph go."""
        self._inputs, self._scores = (), None

    def __call__(
        self,
        forward_fn: Callable[..., Tensor],
        inputs: tuple[Tensor, ...],
        target_ind: Any = None,
        additional_forward_args: object = None,
    ) -> tuple[Tensor, ...]:
        """Return the gradients of the scores of classes int64 [B], or [1] for all, at ``inputs``."""
        if self._scores is None or not self._remembers(inputs):
            with torch.enable_grad():
                self._inputs, self._scores = inputs, forward_fn(*inputs)
        # For a single image, Captum leaves its class alone while it makes copies of the image.
        classes = target_ind.reshape(-1, 1).expand(len(self._scores), 1)
        rows = self._scores.gather(1, classes)
        return torch.autograd.grad(rows.sum(), self._inputs, retain_graph=True)

    def _remembers(self, inputs: tuple[Tensor, ...]) -> bool:
        pairs = zip(inputs, self._inputs, strict=True)
        return all(new is old or torch.equal(new, old) for new, old in pairs)
