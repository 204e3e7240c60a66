"""Quantus calls: own how code of Quantus 0.6.0 is run so that each image counts alone.

Quantus is used in three ways, in this order of preference: its own code on whole batches where that
is safe; the published definition on whole batches, tested to equal Quantus one image a call; and,
for a user's own subclass of its metrics, one image a call with a seed of its own (`OneByOne`). What
was found wrong in it is listed, with a way to see it, in docs/quantus.md, and named where it is
worked round.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from quantus.helpers import asserts as quantus_asserts
from quantus.helpers import utils as quantus_utils
from quantus.helpers import warn as quantus_warn

from clarity.metrics.batch import Batch, Curves, Scores, Sign
from clarity.metrics.imputation import BASELINES

#: Signs and scale are set before (`clarity.metrics.batch`), and no aggregate is wanted.
PLAIN: dict[str, Any] = {
    "abs": False,
    "normalise": False,
    "return_aggregate": False,
    "disable_warnings": True,
    "display_progressbar": False,
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which Quantus draws from, and put it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _explain_func(batch: Batch) -> Callable[..., np.ndarray]:
    """Return the batch's explainer in the form that Quantus calls."""

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        images = np.asarray(inputs, dtype=np.float32)
        return batch.of(model).explain_all(images, np.asarray(targets, dtype=np.int64))[:, None]

    return explain


def _area_under_curve(
    values: np.ndarray, dx: float = 1, batched: bool = False
) -> np.ndarray | np.floating[Any]:
    """Integrate curves by trapezoids, in place of a function that calls `numpy.trapz`."""
    area: np.ndarray | np.floating[Any] = np.trapezoid(np.asarray(values), dx=dx, axis=-1)
    return area


# numpy 2.4 has no `trapz`, which Quantus 0.6.0 calls in this one place (the areas of PixelFlipping,
# Selectivity and IROF). To go when Quantus calls `trapezoid`.
quantus_utils.calculate_auc = _area_under_curve


@contextmanager
def mended() -> Iterator[None]:
    """Run Quantus without two of its checks and without its warnings.

    `assert_attributions` refuses a map alone that it lets pass beside others: one below zero
    everywhere, or a perturbed image's map of zeros. It also makes a Python set of all values, which
    takes minutes on a thousand large maps. The other check compares every image with every
    perturbed copy, to warn.
    """
    checks = (
        (quantus_asserts, "assert_attributions"),
        (quantus_warn, "warn_perturbation_caused_no_change"),
    )
    before = [getattr(module, name) for module, name in checks]
    for module, name in checks:
        setattr(module, name, lambda *_, **__: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for (module, name), check in zip(checks, before, strict=True):
            setattr(module, name, check)


class OneByOne:
    """A user's own metric for Quantus: one image a call, its random draws from the image's seed.

    Where it gives several numbers of an image they are its curve, and the value is their mean. Slow
    and safe. What Quantus makes of a map of one channel stays as it is: on colour images, most
    of its metrics spread it over the channels and change channel values one by one.
    """

    def __init__(
        self, kind: Any, sign: Sign, needs_masks: bool, arguments: Mapping[str, Any]
    ) -> None:
        """Take a class of Quantus and the arguments that it is to be built with."""
        self.kind = kind
        self.needs_masks = needs_masks
        takes = inspect.signature(kind.__init__).parameters
        # Absolute values are taken before; Quantus' own `abs` only keeps it from printing advice.
        plain = {**PLAIN, "abs": sign == "absolute"}
        self.arguments = {
            **{key: value for key, value in plain.items() if key in takes},
            **arguments,
        }
        if "perturb_baseline" in takes:
            # Quantus' "black" is the darkest value of an image; in [0, 1], black is 0.
            named = arguments.get("perturb_baseline", takes["perturb_baseline"].default)
            self.arguments["perturb_baseline"] = BASELINES.get(named, named)

    def __call__(self, batch: Batch) -> Scores:
        """Score image by image."""
        found = [self._score(batch.rows(np.array([row]))) for row in range(len(batch))]
        scores = Scores(np.array([values.mean() for values in found]))
        if any(values.size > 1 for values in found):
            scores.curves = Curves("step", (), found)
        if self.needs_masks:
            empty = np.asarray(~np.asarray(batch.masks, dtype=bool).any(axis=(1, 2)))
            scores.leave_out(empty, "empty mask", unavailable=True)
        return scores

    def _score(self, one: Batch) -> np.ndarray:
        """Score one image: float64 [T], a number or a curve."""
        # Built anew each time: some metrics keep what they have seen.
        metric = self.kind(**self.arguments)
        device = next((str(parameter.device) for parameter in one.model.parameters()), "cpu")
        with mended(), seeded(one.seeds[0]):
            found = metric(
                model=one.model,
                x_batch=one.images.copy(),
                y_batch=one.classes.copy(),
                a_batch=one.maps[:, None].copy(),
                s_batch=None if one.masks is None else one.masks[:, None].copy(),
                channel_first=True,
                explain_func=_explain_func(one),
                softmax=one.softmax,
                device=device,
                batch_size=1,
            )
        value = np.asarray(found, dtype=np.float64) if isinstance(found, list) else np.zeros(0)
        if value.size == 0:
            raise ValueError(f"{self.kind.__name__} gave {found!r} for one image, not a number")
        return value.reshape(-1)
