"""Randomisation: owns Quantus' metrics of whether maps depend on the class and on the weights.

Weights are drawn anew by each layer's own initialisation, from a seed that is a hash of the layer's
name: all images, methods and losses meet the same random network, layers of one shape get different
weights, and networks that have the same layers randomised are equal to the byte, so that metrics
that randomise alike have them explained once (`clarity.metrics.memory`).
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from clarity.attribution.targets import HEAD_OF, Score, TargetFunction
from clarity.metrics.batch import Batch, Curves, MetricUnavailable, Scores, is_constant
from clarity.metrics.contrastivity import no_map, random_others, without_foil
from clarity.metrics.similarity import similarity_named
from clarity.seeds import derive_seed


class RandomLogit:
    """How alike the map of the label is to that of a random other class; lower is better.

    Sixt et al., 2020, "When Explanations Lie", section 4, with SSIM in two dimensions. It rewards
    noise: two unrelated maps score best. Quantus draws the other class by the image's place in the
    batch, from as many classes as it is told, and takes SSIM along a line; here the class is drawn
    from the image's seed, as Quantus would for this image alone, and its map is the stored one
    where there is one. ``similarity`` takes the place of Quantus' function.
    """

    category = "randomisation"
    direction = "lower"
    explained = "1"
    nulls: ClassVar = {"agnostic": 1.0}
    paper = "Sixt et al., 2020"

    def __init__(self, similarity: Literal["ssim", "spearman", "cosine"] = "ssim") -> None:
        """Choose the similarity: 2-D SSIM, rank correlation or cosine.

        Raises:
            ValueError: if there is no such similarity.
        """
        self.similarity = similarity_named(similarity)

    def __call__(self, batch: Batch) -> Scores:
        """Compare each map with that of a random other class.

        Raises:
            MetricUnavailable: if the model scores one class alone.
        """
        maps = batch.maps_of(random_others(batch))
        usable = ~no_map(maps)
        values = np.full(len(batch), np.nan)
        values[usable] = self.similarity(batch.maps[usable], maps[usable])
        return without_foil(Scores(values), maps)


class MPRT:
    """How alike a map stays when the weights are drawn anew, layer by layer; lower is better.

    The model parameter randomisation test of Adebayo et al., 2018, "Sanity Checks for Saliency
    Maps": the similarity (by default the rank correlation of absolute values) of the map of the
    model to that of the model with random layers, from the last layer down (``top_down``), from the
    first up (``bottom_up``), or one layer at a time (``independent``). The curve has a value a
    layer, in the order of randomisation; the value is their mean, or the last. In [-1, 1]: 1 for a
    method that ignores the weights, such as an edge detector. Noise has 0, the best.

    A layer is whatever can reset itself (`resettable`), with the running statistics of batch
    normalisation; parameters that belong to no such layer, as position embeddings, stay. Quantus'
    mean has the untouched model in it, whose similarity is 1, since it looks for it by a wrong
    name; its layers of one shape all get the same weights; its SSIM fails, and would be taken along
    a line. Where a random network has a constant map there is no similarity, and no mean: the
    image is left out, its curve kept.

    ``similarity`` takes the place of Quantus' function. ``points`` bounds the cost: so many layers
    are explained, evenly spaced, the last among them.
    """

    category = "randomisation"
    direction = "lower"
    sign = "absolute"
    explained = "1 if skip_layers else min(points or layers, layers)"
    moderate: ClassVar = {"points": 8}
    paper = "Adebayo et al., 2018"

    def __init__(
        self,
        layer_order: Literal["top_down", "bottom_up", "independent"] = "top_down",
        return_last_correlation: bool = False,
        skip_layers: bool = False,
        similarity: Literal["ssim", "spearman", "cosine"] = "spearman",
        points: int | None = None,
    ) -> None:
        """Choose the layers and the similarity.

        Args:
            layer_order: top_down, bottom_up or independent.
            return_last_correlation: the value is that of the wholly random model, not the mean.
            skip_layers: explain the wholly random model alone.
            similarity: ssim (in two dimensions), spearman or cosine.
            points: how many layers to explain; all by default.

        Raises:
            ValueError: if there is no such order or similarity, or if the wholly random model is
                asked for but layers are randomised one at a time.
        """
        self._similarity = similarity_named(similarity)
        self._last = return_last_correlation or skip_layers
        self._stages = _Stages(layer_order, 1 if skip_layers else points, self._last)

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images by each random model.

        Raises:
            MetricUnavailable: if the model has no layer that can be reset.
        """

        def explain(changed: Batch) -> np.ndarray:
            return changed.explain_all(changed.images, changed.classes)

        def compare(rows: np.ndarray, maps: np.ndarray) -> np.ndarray:
            return self._similarity(batch.maps[rows], maps)

        return _by_layer(batch, self._stages, explain, compare, self._last)


class SmoothMPRT:
    """`MPRT` of maps that are averaged over noise on the image; lower is better.

    Hedström et al., 2023, "Sanity Checks Revisited: An Exploration to Repair the Model Parameter
    Randomisation Test": both the map of the model and those of the random models are means over
    ``nr_samples`` of normal noise, of the standard deviation ``noise_magnitude`` times the range of
    the image's values; one of the samples has no noise, as in Quantus, so that a single sample is
    `MPRT`. Sign and scale apply to the mean. Value, curve and range are those of `MPRT`.

    The noise is drawn from the image's seed, the same for all models, so that the weights alone
    differ. Quantus never calls the function that it is given to explain with, but always its own
    gradients; compares a given map that is not smoothed with smoothed ones; and draws its noise
    from numpy's global state, anew for each layer.
    """

    category = "randomisation"
    direction = "lower"
    sign = "absolute"
    explained = "nr_samples * (1 + (1 if skip_layers else min(points or layers, layers))) - 1"
    moderate: ClassVar = {"nr_samples": 4, "skip_layers": True}
    paper = "Hedström et al., 2023"

    def __init__(
        self,
        layer_order: Literal["top_down", "bottom_up", "independent"] = "bottom_up",
        nr_samples: int = 50,
        noise_magnitude: float = 0.1,
        return_last_correlation: bool = False,
        skip_layers: bool = False,
        similarity: Literal["ssim", "spearman", "cosine"] = "spearman",
        points: int | None = None,
    ) -> None:
        """Choose the noise, the layers and the similarity.

        Args:
            layer_order: see `MPRT`.
            nr_samples: maps in a mean.
            noise_magnitude: standard deviation of the noise, in ranges of the image.
            return_last_correlation: see `MPRT`.
            skip_layers: see `MPRT`.
            similarity: see `MPRT`.
            points: see `MPRT`.

        Raises:
            ValueError: as `MPRT` does, or if there is no sample.
        """
        if nr_samples < 1:
            raise ValueError(f"nr_samples: found {nr_samples}, wanted at least 1")
        self._similarity = similarity_named(similarity)
        self._samples = nr_samples
        self._magnitude = noise_magnitude
        self._last = return_last_correlation or skip_layers
        self._stages = _Stages(layer_order, 1 if skip_layers else points, self._last)

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images by each random model, under each noise.

        Raises:
            MetricUnavailable: if the model has no layer that can be reset.
        """
        raw = replace(batch, prepared=lambda maps: maps)
        smooth = self._mean(raw, raw.maps_of(raw.classes))
        broken, flat = _unusable(smooth)
        smooth = batch.prepared(smooth)

        def explain(changed: Batch) -> np.ndarray:
            plain = replace(changed, prepared=raw.prepared)
            clean = plain.explain_all(plain.images, plain.classes)
            return batch.prepared(self._mean(plain, clean))

        def compare(rows: np.ndarray, maps: np.ndarray) -> np.ndarray:
            return self._similarity(smooth[rows], maps)

        return (
            _by_layer(batch, self._stages, explain, compare, self._last)
            .leave_out(flat, "the mean over noise is a constant map")
            .leave_out(broken, "the mean over noise has values that are not finite")
        )

    def _mean(self, raw: Batch, clean: np.ndarray) -> np.ndarray:
        """Return the mean of the maps without noise and of those under each noise: [N, H, W]."""
        images = raw.images
        axes = (1, 2, 3)
        spread = images.max(axis=axes, keepdims=True) - images.min(axis=axes, keepdims=True)
        generators = list(raw.generators())
        total = clean.astype(np.float64)
        for _ in range(self._samples - 1):
            noise = np.stack([generator.randn(*images.shape[1:]) for generator in generators])
            noisy = (images + self._magnitude * spread * noise).astype(np.float32)
            total += raw.explain_all(noisy, raw.classes)
        return (total / self._samples).astype(np.float32)


class EfficientMPRT:
    """How much more complex a map becomes when all weights are drawn anew; higher is better.

    Hedström et al., 2023, "Sanity Checks Revisited: An Exploration to Repair the Model Parameter
    Randomisation Test": (H' - H) / H, with H the entropy of the histogram of the map of the model
    and H' that of the wholly random model. 0 if the map's values stay spread as they were, -1 at
    least. A method that ignores the weights has 0; maps that are random anyway have about 0.

    It equals Quantus with its 100 bins between the least and the greatest value of a map. Quantus'
    rules for the number of bins are not offered: they take the number of axes of a map for that of
    its pixels, and the spread of the whole batch. With ``skip_layers`` false the curve has the same
    quotient after each layer; the value stays the last.
    """

    category = "randomisation"
    direction = "higher"
    scale = "none"
    explained = "1 if skip_layers else layers"
    paper = "Hedström et al., 2023"

    def __init__(
        self,
        layer_order: Literal["top_down", "bottom_up"] = "bottom_up",
        skip_layers: bool = True,
        n_bins: int = 100,
    ) -> None:
        """Choose the layers and the number of bins.

        Args:
            layer_order: top_down or bottom_up; it does not change the value.
            skip_layers: explain the wholly random model alone.
            n_bins: of the histograms.

        Raises:
            ValueError: if there is no such order, or if it does not end in a random model.
        """
        self._bins = n_bins
        self._stages = _Stages(layer_order, 1 if skip_layers else None, whole=True)

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images by the random model.

        Raises:
            MetricUnavailable: if the model has no layer that can be reset.
        """
        before = self._complexity(batch.maps)

        def explain(changed: Batch) -> np.ndarray:
            return changed.explain_all(changed.images, changed.classes)

        def compare(rows: np.ndarray, maps: np.ndarray) -> np.ndarray:
            return np.asarray(self._complexity(maps) / before[rows] - 1)

        return _by_layer(batch, self._stages, explain, compare, last=True)

    def _complexity(self, maps: np.ndarray) -> np.ndarray:
        """Return the entropy of the histogram of each map, in nats: [N]."""
        # Here, since it takes half a second, and only this metric needs it.
        from scipy.stats import entropy

        # In 64 bits: between 32-bit values that are nearly alike there is no room for the bins.
        counts = [np.histogram(values, bins=self._bins)[0] for values in maps.astype(np.float64)]
        return np.asarray(entropy(np.array(counts).reshape(len(maps), self._bins), axis=1))


class _Stages:
    """Which layers are randomised, in which order, and after which of them maps are made."""

    def __init__(self, order: str, points: int | None, whole: bool) -> None:
        """Take the order, how many stages are wanted, and whether the last has to be all random."""
        orders = ("top_down", "bottom_up", "independent")
        if order not in orders:
            raise ValueError(f"layer_order: found '{order}', wanted one of {', '.join(orders)}")
        if order == "independent" and whole:
            raise ValueError(
                "layer_order: found 'independent', which randomises one layer at a time, with a "
                "value of the wholly random model; wanted top_down or bottom_up"
            )
        if points is not None and points < 1:
            raise ValueError(f"points: found {points}, wanted at least 1")
        self._order = order
        self._points = points

    def of(self, batch: Batch) -> Iterator[tuple[str, Batch]]:
        """Yield the name of the layer that was randomised last, and the batch of that model."""
        names = [name for name, _ in resettable(batch.model)]
        if not names:
            raise MetricUnavailable("the model has no layer whose weights could be drawn anew")
        if self._order == "top_down":
            names.reverse()
        points = min(self._points or len(names), len(names))
        # Evenly spaced, the last always among them.
        shown = {-(-len(names) * (place + 1) // points) - 1 for place in range(points)}
        changed = batch.model_copy()
        for place, name in enumerate(names):
            if self._order != "independent" or place in shown:
                _randomise(dict(resettable(changed))[name], name)
            if place in shown:
                yield name, batch.of(changed)
                # A new copy each time, since methods may keep what they derived from the weights.
                kept = batch if self._order == "independent" else batch.of(changed)
                changed = kept.model_copy()


def _by_layer(
    batch: Batch,
    stages: _Stages,
    explain: Callable[[Batch], np.ndarray],
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    last: bool,
) -> Scores:
    """Compare maps of random models with the untouched one, stage by stage.

    Args:
        batch: the images.
        stages: the random models.
        explain: makes the maps of a random model [N, H, W].
        compare: from rows [n] and their maps of a random model [n, H, W] to values [n].
        last: whether the value is that of the last stage, rather than the mean.
    """
    names: list[float | str] = []
    curve, broken, flat = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for name, changed in stages.of(batch):
        maps = explain(changed)
        names.append(name)
        for known, found in zip((broken, flat), _unusable(maps), strict=True):
            known.append(found)
        rows = np.flatnonzero(~(broken[-1] | flat[-1]))
        values = np.full(len(batch), np.nan)
        values[rows] = compare(rows, maps[rows])
        curve.append(values)
    points = np.stack(curve, axis=1)
    counts = slice(-1, None) if last else slice(None)
    return (
        Scores(points[:, counts].mean(axis=1), curves=Curves("layer", names, list(points)))
        .leave_out(np.any(flat[counts], axis=0), "constant map of a random network")
        .leave_out(
            np.any(broken[counts], axis=0),
            "the map of a random network has values that are not finite",
        )
    )


def _unusable(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which maps [N, H, W] are not finite, and which others are constant: two bool [N].

    SSIM to a constant map is near 0 and would look like a difference.
    """
    broken = np.asarray(~np.isfinite(maps).all(axis=(1, 2)))
    flat = np.zeros(len(maps), dtype=bool)
    flat[~broken] = is_constant(maps[~broken])
    return broken, flat


def _randomise(layer: Any, name: str) -> None:
    """Draw the weights of a layer anew, from a seed that is a hash of its name."""
    # On the CPU, whose generator draws the same numbers whatever device the model is on.
    with torch.random.fork_rng(devices=[]):
        fresh = copy.deepcopy(layer).cpu()
        torch.default_generator.manual_seed(derive_seed("randomisation", name))
        _reset(fresh)
    # In place, so that what the model's memory knows of it is known to be out of date.
    layer.load_state_dict(fresh.state_dict())


def _reset(layer: Any) -> None:
    """Let a layer draw its weights."""
    if isinstance(layer, nn.MultiheadAttention):
        layer._reset_parameters()  # torch gives it no public name
    else:
        layer.reset_parameters()


def resettable(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the layers with weights of their own that the scores depend on, first to last.

    Those are the modules of the encoder that can be reset, then the head that the score is taken
    from, if it was fitted; prototypes and neighbours are no weights. Of a module without an
    encoder, all that can be reset.
    """
    parts: list[tuple[str, nn.Module]] = [("", model)]
    if isinstance(model, TargetFunction):
        heads = {"linear": "head", "probe": "probe", "probe-normalised": "probe_normalised"}
        head = heads.get(HEAD_OF.get(model.target, ""))
        parts = [("encoder.", model.encoder)]
        if head is not None:
            parts.append((head, getattr(model.model, head)))
    elif isinstance(model, Score):
        parts = [("encoder.", model.encoder)]
    return [
        (f"{prefix}{name}", module)
        for prefix, part in parts
        for name, module in part.named_modules()
        if hasattr(module, "reset_parameters") or isinstance(module, nn.MultiheadAttention)
    ]
