"""Attacks: own how images are changed to be misclassified; count no accuracy.

Both attacks raise the cross-entropy of the logits within an L-infinity ball around the
image, cut to [0, 1], and start at the image itself: nothing is drawn.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The steps of PGD together reach this many radii (Madry et al., 2018, in their published code).
REACH = 2.5


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Attack images [B, C, H, W] in [0, 1] with labels [B] in one step.

    Goodfellow, Shlens and Szegedy, 2015, "Explaining and Harnessing Adversarial Examples",
    section 4.
    """
    # Here, as in `pgd`, since Captum loads matplotlib, and without radii nothing is attacked.
    from captum.robust import FGSM

    attack = FGSM(model, _loss, lower_bound=0, upper_bound=1)
    attack.zero_thresh = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input Tensor . did not already require")
        changed: Tensor = attack.perturb(images.clone(), radius, labels)
    return changed.detach()


def pgd(model: nn.Module, images: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """Attack images [B, C, H, W] in [0, 1] with labels [B] in so many projected steps.

    Madry et al., 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section
    2.1, without a random start.
    """
    from captum.robust import PGD

    attack = PGD(model, _loss, lower_bound=0, upper_bound=1)
    attack.fgsm.zero_thresh = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input Tensor . did not already require")
        changed: Tensor = attack.perturb(
            images.clone(), radius, step_size=REACH * radius / steps, step_num=steps, target=labels
        )
    return changed.detach()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logarithm of the odds against each label [B].

    Its gradient has the sign of that of the cross-entropy, which is log(1 + exp(it)), without a
    factor that is 0 in float32 where a model is sure: it would pass for robust. For each image by
    itself, so that no gradient shrinks with the batch.
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    against = logits.masked_fill(own, -torch.inf).logsumexp(1)
    return against - logits[own]
