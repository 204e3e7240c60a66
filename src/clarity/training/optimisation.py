"""Optimisation: owns how gradients move the weights: optimiser, its groups, the rate's course."""

import math

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from clarity.data.protocol import Training
from clarity.losses.build import TrainingLoss
from clarity.losses.recipe import LossRecipe

#: Least rate of a loss's own class weights: 100 times the rate of the encoder in Kim et al., 2020,
#: "Proxy Anchor Loss", section 4.1, and that of the centres in Qian et al., 2019, "SoftTriple
#: Loss", section 4, are both this. Weights of length about 1 need it, whatever the encoder's rate.
LEAST_WEIGHTS_RATE = 0.01

#: How far below its peak the rate starts, and ends, in a one-cycle schedule (Smith and Topin, 2019,
#: "Super-Convergence"; the numbers are those of fastai and torch).
START_DIVISOR = 10.0
END_DIVISOR = 1e4


def build_optimizer(
    model: nn.Module, loss: TrainingLoss, training: Training, recipe: LossRecipe
) -> Optimizer:
    """Build the optimiser, with a group of its own for the weights that a loss has.

    The projection is a part of the network and learns at its rate.
    """
    own = list(loss.terms.parameters())
    rate = training.learning_rate
    groups = [{"params": [*model.parameters(), *loss.projection.parameters()], "lr": rate}]
    if own:
        own_rate = recipe.weights_learning_rate or max(LEAST_WEIGHTS_RATE, rate)
        groups.append({"params": own, "lr": own_rate})
    chosen, decay = training.optimizer, training.weight_decay
    match chosen.name:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, weight_decay=decay, fused=True)
        case "radam":
            return torch.optim.RAdam(groups, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=rate,
                momentum=chosen.momentum,
                nesterov=chosen.nesterov,
                weight_decay=decay,
            )
        case "lars":
            # Here, since it loads torchvision: seconds that no other optimiser needs.
            from timm.optim.lars import Lars

            # You et al., 2017, "Large Batch Training of Convolutional Networks".
            return Lars(
                groups,
                lr=rate,
                momentum=chosen.momentum,
                nesterov=chosen.nesterov,
                weight_decay=decay,
            )


def build_schedule(optimizer: Optimizer, training: Training, steps: int) -> LRScheduler:
    """Build the course of the rate over ``steps`` steps, as factors of each group's peak.

    It rises in the first `warm-up` share of the steps, from a tenth along a cosine (`one-cycle`) or
    from near 0 along a line, and then falls along a cosine, along a line, or not at all.
    """
    rising = round(training.warm_up * steps)

    def factor(step: int) -> float:
        before = step < rising
        done = step / rising if before else (step - rising) / max(1, steps - rising)
        half_cosine = (1 - math.cos(math.pi * min(1.0, done))) / 2
        if training.schedule == "one-cycle":
            start, end = (1 / START_DIVISOR, 1.0) if before else (1.0, 1 / END_DIVISOR)
            return start + (end - start) * half_cosine
        if before:
            return (step + 1) / (rising + 1)
        return {"cosine": 1 - half_cosine, "linear": 1 - done, "constant": 1.0}[training.schedule]

    return LambdaLR(optimizer, factor)
