"""Complexity: owns Quantus' metrics of how few pixels a map needs.

All are Quantus' own code, which judges each map alone, on copies: it writes to what it is given.
"""

from typing import Any, ClassVar

import numpy as np
from quantus.metrics.complexity import complexity, effective_complexity, sparseness

from clarity.metrics.batch import Batch, Scores
from clarity.metrics.quantus_calls import PLAIN


class Sparseness:
    """Gini index of the absolute values of a map, in [0, 1]; higher is better.

    Chalasani et al., 2020, "Concise Explanations of Neural Networks Using Adversarial Training",
    section 4. Quantus' own code, on a copy: it adds to the array that it is given.
    """

    category = "complexity"
    direction = "higher"
    sign = "absolute"
    paper = "Chalasani et al., 2020"

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map."""
        return _judged(sparseness.Sparseness, batch)


class Complexity:
    """Entropy of the shares that pixels have in a map, in [0, log pixels]; lower is better.

    Bhatt et al., 2020, "Evaluating and Aggregating Feature-based Model Explanations", complexity:
    -sum of p log p with p = |a| / sum of |a|, in nats. 0 for a single pixel, log n for n equal
    ones. Quantus' own code, on a copy: it divides the array that it is given.
    """

    category = "complexity"
    direction = "lower"
    sign = "absolute"
    paper = "Bhatt et al., 2020"

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map."""
        return _judged(complexity.Complexity, batch)


class EffectiveComplexity:
    """Number of pixels above a share of the map's largest value, at least 1; lower is better.

    After Nguyen and Martinez, 2020, "On Quantitative Aspects of Model Interpretability". What they
    define is the least number of top features that keep the expected loss below eps; Quantus counts
    |a| > eps, and this is Quantus' count. Quantus divides by the largest value of the batch; here
    each map is divided by its own.
    """

    category = "complexity"
    direction = "lower"
    sign = "absolute"
    # At the default, every pixel counts that is not all but zero.
    moderate: ClassVar = {"eps": 0.05}
    paper = "Nguyen and Martinez, 2020"

    def __init__(self, eps: float = 1e-5) -> None:
        """Count pixels above ``eps`` of the largest absolute value."""
        self.eps = eps

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map."""
        return _judged(effective_complexity.EffectiveComplexity, batch, eps=self.eps)


def _judged(kind: Any, batch: Batch, **arguments: Any) -> Scores:
    """Judge every map by a metric of Quantus that looks at each alone."""
    # Absolute values are taken before; Quantus' own `abs` only keeps it from printing advice.
    metric = kind(**{**PLAIN, "abs": True}, **arguments)
    maps = batch.maps.astype(np.float64)[:, None]
    found = metric.evaluate_batch(x_batch=batch.images, a_batch=maps)
    return Scores(np.asarray(found, dtype=np.float64))
