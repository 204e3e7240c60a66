"""Promises of the Quantus adapter: equal to Quantus where it is right, mended where it is not.

For each defect of Quantus 0.6.0 that the adapter works round, a test shows the defect in Quantus
itself, so that a release without it is noticed, and that CLarity's score is free of it.
"""

from itertools import pairwise

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.helpers import asserts, warn
from quantus_direct import PLAIN, distinct
from scipy.ndimage import gaussian_filter
from torch import nn

from clarity.metrics import quantus_calls as adapter
from clarity.metrics.similarity import ssim

# ---- known answers ----------------------------------------------------------------------------


def probabilities(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = model(torch.from_numpy(np.array(images))).softmax(dim=1).double().numpy()
    return found[np.arange(len(classes)), classes]


# ---- defects ----------------------------------------------------------------------------------


def direct(metric, cell, maps, *, softmax=False, masks=None, batch_size=64, **more):
    """Call Quantus itself on the whole batch."""
    return metric(
        model=cell.model,
        x_batch=np.array(cell.images),
        y_batch=np.array(cell.classes[:, 0]),
        a_batch=maps,
        s_batch=None if masks is None else np.array(masks[:, None]),
        softmax=softmax,
        channel_first=True,
        batch_size=batch_size,
        **more,
    )


def test_what_quantus_does_is_put_back_after_each_call():
    checks = asserts.assert_attributions, warn.warn_perturbation_caused_no_change
    make.score(make.subject(), metric="PixelFlipping", features_in_step=64)
    with adapter.mended():
        assert asserts.assert_attributions is not checks[0]
    with pytest.raises(ZeroDivisionError), adapter.mended():
        raise ZeroDivisionError
    assert (asserts.assert_attributions, warn.warn_perturbation_caused_no_change) == checks


def test_defect_ssim_along_a_line():
    """Turning both maps by a quarter changes nothing in two dimensions."""
    first = gaussian_filter(np.random.default_rng(0).normal(size=(24, 24)), (4, 0))
    second = np.roll(first, 2, axis=0)
    along_rows = quantus.ssim(first.ravel(), second.ravel())
    along_columns = quantus.ssim(first.T.ravel(), second.T.ravel())
    assert abs(along_rows - along_columns) > 0.05
    ours = ssim(np.stack([first, first.T]), np.stack([second, second.T]))
    assert ours[0] == pytest.approx(ours[1])


def test_defect_numpy_has_no_trapz():
    assert not hasattr(np, "trapz")
    cell = make.with_maps(make.subject(channels=1), distinct())
    maps = cell.maps[:, :1].copy()
    curves = direct(quantus.PixelFlipping(features_in_step=32, **PLAIN), cell, maps, softmax=True)
    areas = direct(
        quantus.PixelFlipping(features_in_step=32, return_auc_per_sample=True, **PLAIN),
        cell,
        maps,
        softmax=True,
    )
    by_hand = [sum((a + b) / 2 for a, b in pairwise(c)) for c in curves]
    np.testing.assert_allclose(areas, by_hand, rtol=1e-5)
    metric = quantus.PixelFlipping(features_in_step=32, **PLAIN)
    direct(metric, cell, maps, softmax=True)
    assert metric.get_auc_score == pytest.approx(np.mean(by_hand), rel=1e-5)
    areas_over = direct(
        quantus.IROF(return_aggregate=False, **PLAIN), cell, maps, softmax=True, batch_size=1
    )
    assert np.isfinite(areas_over).all()


def test_a_changed_copy_of_the_model_is_explained_as_it_is():
    cell = make.subject()
    explain = adapter._explain_func(make.batch(cell, scale="none"))
    other = make.convnet(3, 16)
    with torch.no_grad():
        other[0].weight.mul_(2)
    found = explain(other, cell.images, cell.classes[:, 0])
    expected = cell.explain(other, cell.images, cell.classes[:, 0])[:, None]
    np.testing.assert_array_equal(found, expected)
    assert not np.allclose(found, cell.maps[:, :1])


def test_scores_come_from_the_model_itself_and_leave_no_copy_behind():
    """A softmax inside a model, as in attention, is left where it is."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Softmax(dim=1)
            self.last = make.convnet(3, 16)

        def forward(self, images):
            return self.last(self.first(images))

    cell = make.subject(model=Attention().eval())
    found = make.values(cell, metric="PixelFlipping", features_in_step=256)
    start = probabilities(cell.model, cell.images, cell.classes[:, 0])
    black = probabilities(cell.model, 0 * cell.images, cell.classes[:, 0])
    np.testing.assert_allclose(found, (1 + black / start) / 2, rtol=1e-5)
