"""Promises of gradients, draws, baselines and passes: shared work, the same for every batch."""

import captum.attr
import numpy as np
import pytest
import torch
from explained import classifier, pictures
from torch import nn

from clarity.attribution import gradients
from clarity.attribution.baselines import baseline_distribution, baseline_images
from clarity.attribution.batching import MOST_ROWS, bytes_of_row, rows_of_pass
from clarity.attribution.gradients import GradientShap, class_gradients
from clarity.attribution.noise import draws_of_noise, over_noise
from clarity.attribution.recipe import Baseline, Noise
from clarity.attribution.targets import TargetFunction


@pytest.fixture(scope="module")
def score() -> TargetFunction:
    return TargetFunction(classifier())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures()


TARGETS = torch.tensor([[0, 1, 4], [1, 2, 0], [2, 3, 1], [3, 4, 2], [4, 0, 3], [0, 2, 4]])


class Counting(nn.Module):
    """A score that counts the images that go forward."""

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.score = score
        self.rows = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.rows += len(images)
        return self.score(images)


def test_gradients_of_several_classes_take_one_forward_pass(score, images):
    counting = Counting(score)
    found = class_gradients(counting, images, TARGETS)
    assert counting.rows == len(images)
    for slot in range(3):
        leaf = images.clone().requires_grad_(True)
        chosen = score(leaf)[torch.arange(6), TARGETS[:, slot]].sum()
        torch.testing.assert_close(found[:, slot], torch.autograd.grad(chosen, leaf)[0])


@pytest.mark.parametrize(
    ("name", "arguments", "passes"),
    [
        ("Saliency", {}, 1),
        ("InputXGradient", {}, 1),
        ("IntegratedGradients", {"n_steps": 5}, 5),
        ("IntegratedGradients", {"n_steps": 3, "multiply_by_inputs": False}, 3),
    ],
)
def test_gradient_methods_equal_captums_and_pass_forward_once_for_all_classes(
    name, arguments, passes, score, images
):
    counting = Counting(score)
    found = getattr(gradients, name)(counting, rows=4, **arguments).attribute_classes(
        images, TARGETS
    )
    assert counting.rows == 6 * passes
    built = {k: v for k, v in arguments.items() if k == "multiply_by_inputs"}
    called = {k: v for k, v in arguments.items() if k not in built}
    if name == "Saliency":
        called["abs"] = False
    for slot in range(3):
        theirs = getattr(captum.attr, name)(score, **built).attribute(
            images.clone().requires_grad_(True), target=TARGETS[:, slot], **called
        )
        torch.testing.assert_close(found[:, slot], theirs.detach(), rtol=1e-4, atol=1e-6)


def test_integrated_gradients_start_at_the_baseline_of_each_image(score, images):
    base = pictures().flip(0)
    found = gradients.IntegratedGradients(score, rows=7, n_steps=6).attribute_classes(
        images, TARGETS, baselines=base
    )
    for slot in range(3):
        theirs = captum.attr.IntegratedGradients(score).attribute(
            images, baselines=base, target=TARGETS[:, slot], n_steps=6
        )
        torch.testing.assert_close(found[:, slot], theirs.detach(), rtol=1e-4, atol=1e-6)


def test_gradient_shap_is_the_weighted_gradient_at_drawn_places(images):
    # On a linear score the gradient is the weight everywhere: w (x - mean of the drawn baselines).
    torch.manual_seed(0)
    weight = torch.randn(3, 3 * 32 * 32)

    class Linear(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1) @ weight.T

    references = pictures(4).flip(0)
    method = GradientShap(Linear(), rows=4, seed=3, n_samples=400)
    classes = torch.tensor([[0, 2]] * 6)
    found = method.attribute_classes(images, classes, baselines=references)
    sums = found.sum(dim=(2, 3, 4))
    scores = Linear()(images)[:, [0, 2]]
    base = Linear()(references).mean(dim=0)[[0, 2]]
    drawn = Linear()(references).std(dim=0)[[0, 2]]
    # The baseline of a draw is one of four: five standard errors of the mean of 400.
    assert ((sums - (scores - base)).abs() < 5 * drawn / 20).all()
    ratio = found[:, 0] / weight[0].reshape(3, 32, 32)
    difference = ratio[0] - ratio[1]
    torch.testing.assert_close(difference, images[0] - images[1], rtol=1e-2, atol=1e-3)


def test_gradient_shap_equals_captums_where_nothing_is_random(score, images):
    # One baseline and a share of the way of 0 or 1 alike: many draws against many draws.
    black = torch.zeros(1, 3, 32, 32)
    ours = GradientShap(score, rows=64, seed=0, n_samples=200)
    found = ours.attribute(images, TARGETS[:, 0], baselines=black)
    path = captum.attr.IntegratedGradients(score).attribute(
        images, baselines=0.0, target=TARGETS[:, 0], n_steps=200
    )
    # Expected gradients with one baseline are Integrated Gradients at random places of the path.
    error = (found - path).flatten(1).norm(dim=1) / path.flatten(1).norm(dim=1)
    assert (error < 0.15).all()


def test_draws_are_the_same_for_every_batch_and_other_for_another_seed(score, images):
    references = pictures(5)
    explain = GradientShap(score, rows=4, seed=0, n_samples=3, stdevs=0.1)
    together = explain.attribute_classes(images, TARGETS, baselines=references)
    alone = GradientShap(score, rows=1, seed=0, n_samples=3, stdevs=0.1)
    one = alone.attribute_classes(images[2:3], TARGETS[2:3], baselines=references)
    torch.testing.assert_close(one, together[2:3], rtol=1e-4, atol=1e-6)
    other = GradientShap(score, rows=4, seed=1, n_samples=3, stdevs=0.1)
    assert not torch.allclose(
        other.attribute_classes(images, TARGETS, baselines=references), together, rtol=0.01
    )


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad-squared", "vargrad"])
def test_noise_is_reduced_as_its_definition_says(name):
    noise = Noise(name=name, samples=7, stdev=0.2)
    draws = draws_of_noise(noise, torch.Size([3, 8, 8]), seed=4)
    assert draws.shape == (7, 3, 8, 8)
    values = draws.numpy().astype(np.float64)
    expected = {
        "smoothgrad": values.mean(axis=0),
        "smoothgrad-squared": (values**2).mean(axis=0),
        "vargrad": values.var(axis=0),
    }[name]
    np.testing.assert_allclose(over_noise(iter(draws), noise), expected, rtol=1e-4, atol=1e-6)


def test_noise_has_the_deviation_that_is_asked_for():
    draws = draws_of_noise(Noise(name="vargrad", samples=50, stdev=0.3), torch.Size([3, 16, 16]), 0)
    assert abs(float(draws.std()) - 0.3) < 0.005
    again = draws_of_noise(Noise(name="vargrad", samples=50, stdev=0.3), torch.Size([3, 16, 16]), 0)
    assert torch.equal(draws, again)


def test_baselines_are_what_their_names_say(images):
    def made(**recipe: object) -> torch.Tensor:
        return baseline_images(Baseline(**recipe), images, pictures(5), seed=0)

    for name, value in (("black", 0.0), ("grey", 0.5), ("white", 1.0)):
        assert (made(name=name) == value).all()
    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(made(name="mean"), mean)
    blurred = made(name="blur", blur=0.1)
    torch.testing.assert_close(blurred.mean(), images.mean(), rtol=0.02, atol=0.0)
    # What changes from pixel to pixel is gone.
    assert blurred.diff(n=2, dim=3).std() < images.diff(n=2, dim=3).std() / 3
    uniform = made(name="uniform")
    assert torch.equal(uniform[0], uniform[5])
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() <= 1
    sample = made(name="sample")
    assert any(torch.equal(sample[0], reference) for reference in pictures(5))


def test_a_blurred_image_is_the_same_alone_and_in_any_batch(images):
    recipe = Baseline(name="blur", blur=0.3)
    together = baseline_images(recipe, images, None, 0)
    torch.testing.assert_close(baseline_images(recipe, images[3:4], None, 0), together[3:4])


def test_a_distribution_has_several_images_and_none_that_depends_on_the_image(images):
    sample = baseline_distribution(Baseline(name="sample", count=3), images, pictures(5), 0)
    assert torch.equal(sample, pictures(5)[:3])
    assert baseline_distribution(Baseline(name="black"), images, None, 0).shape == (1, 3, 32, 32)
    noise = baseline_distribution(Baseline(name="uniform", count=4), images, None, 0)
    assert len(torch.unique(noise.flatten(1), dim=0)) == 4
    with pytest.raises(ValueError, match="found 'blur', which is another for each image"):
        baseline_distribution(Baseline(name="blur"), images, None, 0)
    with pytest.raises(ValueError, match="no training images are at hand"):
        baseline_images(Baseline(name="sample"), images, None, 0)


def test_the_rows_of_a_pass_follow_from_network_and_memory_alone(score, images):
    taken = bytes_of_row(score, images[0])
    # The first convolution alone yields 16 maps of 32 x 32 floats, kept for the way back.
    assert taken > 2 * 16 * 32 * 32 * 4
    of_a_class = 2 * 3 * 32 * 32 * 4
    assert rows_of_pass(score, images[0], 10.5 * (taken + of_a_class) / 2**30) == 10
    many = 10.5 * (taken + 40 * of_a_class) / 2**30
    assert rows_of_pass(score, images[0], many, classes=40) == 10
    assert rows_of_pass(score, images[0], taken / 2**31) == 1
    assert rows_of_pass(score, images[0], 1e6) == MOST_ROWS
    assert not any(module._forward_hooks for module in score.modules())
