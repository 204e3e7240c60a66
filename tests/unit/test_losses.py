"""Promises of losses: each class by name learns, its parts do what they say, or it says why not."""

import sys

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from clarity import catalogue
from clarity.losses.build import MetricTerm, TrainingLoss
from clarity.losses.mended import (
    DynamicSoftMarginLoss,
    HistogramLoss,
    LiftedStructureLoss,
    NTXentLoss,
    SmoothAPLoss,
    TupletMarginLoss,
)
from clarity.losses.recipe import NOT_USABLE, OF_VIEW_PAIRS, LossRecipe
from clarity.models.encoders import build_encoder
from clarity.models.recipe import EncoderRecipe

LOSSES = [name for name in catalogue.names("losses") if name not in NOT_USABLE]
VIEWS = dict.fromkeys(OF_VIEW_PAIRS, 2)
CLASSES, DIMENSION = 10, 16


def batch(count=60, seed=0):
    """Return real digits of all classes, six of each, as images [B, 1, 16, 16] with labels."""
    bunch = load_digits()
    generator = np.random.default_rng(seed)
    rows = np.concatenate(
        [generator.choice(np.flatnonzero(bunch.target == c), count // 10) for c in range(10)]
    )
    images = torch.from_numpy(bunch.images[rows]).float()[:, None] / 16
    return F.interpolate(images, scale_factor=2), torch.from_numpy(bunch.target[rows])


def embeddings(count=40, seed=0, classes=8):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.randn(count, DIMENSION, generator=generator, requires_grad=True), labels


def build(seed=0, **recipe):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TrainingLoss(LossRecipe(**recipe), CLASSES, DIMENSION)


def value(loss, x, labels, head=None):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return loss(x, labels, head or torch.nn.Identity())


@pytest.mark.parametrize("name", ["cross-entropy", *LOSSES])
def test_every_loss_falls_on_real_digits_with_finite_gradients(name):
    views = VIEWS.get(name, 1)
    images, labels = batch()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = EncoderRecipe(name="convnet", arguments={"widths": [8, 8, 16, DIMENSION]})
        encoder = build_encoder(recipe, 1, 16)
        head = torch.nn.Linear(DIMENSION, CLASSES)
        loss = TrainingLoss(LossRecipe(loss=name, views=views), CLASSES, DIMENSION)
        weights = [*encoder.parameters(), *loss.parameters()]
        optimizer = torch.optim.Adam([*weights, *head.parameters()], lr=0.01)
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 0.1
        inputs = torch.cat([images, images + noise]) if views == 2 else images
        values, moved = [], False
        for _ in range(30):
            found = loss(encoder(inputs), labels.repeat(views), head)
            optimizer.zero_grad()
            found.backward()
            for parameter in weights:
                assert parameter.grad is not None
                assert parameter.grad.isfinite().all()
            moved |= any(parameter.grad.abs().max() > 0 for parameter in encoder.parameters())
            optimizer.step()
            values.append(float(found.detach()))
    assert np.isfinite(values).all()
    assert np.mean(values[-3:]) < np.mean(values[:3])
    assert moved


def test_a_class_that_cannot_be_used_by_name_says_why_and_all_others_build():
    for name, reason in NOT_USABLE.items():
        kinds = [
            kind
            for kind in ("losses", "miners", "distances", "reducers")
            if name in catalogue.names(kind)
        ]
        assert kinds, f"{name} is no class of the library any more"
        if kinds == ["losses"]:
            recipe = LossRecipe(loss=name)
        else:
            recipe = LossRecipe(loss="TripletMarginLoss", **{kinds[0].removesuffix("s"): name})
        assert any(reason in problem for problem in recipe.problems("losses.x"))
    for name in LOSSES:
        assert not list(LossRecipe(loss=name, views=VIEWS.get(name, 1)).problems("losses.x"))


#: What each part works with, where it is not the triplet loss.
PARTS = {
    "ClassWeightedReducer": {"weights": [1.0] * CLASSES},
    "ThresholdReducer": {"low": 0.0},
    "PairMarginMiner": {"neg_margin": 1.6},
    "SparseCentersRegularizer": {"centers_per_class": 2},
}
#: These reduce what not every loss has.
LOSS_OF = {"DivisorReducer": "MarginLoss", "PerAnchorReducer": "ContrastiveLoss"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (key, name)
        for key, kind in (("miner", "miners"), ("distance", "distances"), ("reducer", "reducers"))
        for name in catalogue.names(kind)
        if name not in NOT_USABLE
    ],
)
def test_every_miner_distance_and_reducer_gives_a_number_with_finite_gradients(key, name):
    recipe = {"loss": "TripletMarginLoss", "margin": 1.0}
    if name in LOSS_OF:
        recipe = {"loss": LOSS_OF[name]}
    recipe[key] = {"name": name, **PARTS.get(name, {})}
    assert not list(LossRecipe(**recipe).problems("losses.x"))
    x, labels = embeddings()
    found = value(build(**recipe), x, labels)
    found.backward()
    assert found > 0
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", catalogue.names("regularizers"))
def test_every_regulariser_adds_its_weighted_penalty(name):
    of_embeddings = name in ("LpRegularizer", "ZeroMeanRegularizer")
    key = "regularizer" if of_embeddings else "weight-regularizer"
    loss = "SoftTripleLoss" if name == "SparseCentersRegularizer" else "ArcFaceLoss"
    extra = {"centers_per_class": 2} if loss == "SoftTripleLoss" else {}
    chosen = {"name": name, **PARTS.get(name, {})}
    x, labels = embeddings()
    values = [
        float(value(build(loss=loss, **extra, **more), x, labels))
        for more in ({}, {key: {**chosen, "weight": 1.0}}, {key: {**chosen, "weight": 3.0}})
    ]
    assert values[2] - values[0] == pytest.approx(3 * (values[1] - values[0]), rel=1e-3)
    assert values[1] != values[0]


def test_terms_are_summed_with_their_weights_and_cross_entropy_works_on_logits():
    x, labels = embeddings()
    head = torch.nn.Linear(DIMENSION, CLASSES)
    triplet = {"loss": "TripletMarginLoss", "margin": 0.5}
    both = build(terms=[{"loss": "cross-entropy", "weight": 2.0}, {**triplet, "weight": 0.5}])
    expected = 2 * F.cross_entropy(head(x), labels) + 0.5 * library.TripletMarginLoss(0.5)(
        x, labels
    )
    torch.testing.assert_close(value(both, x, labels, head), expected)


def test_cross_entropy_takes_label_smoothing_and_a_temperature():
    x, labels = embeddings()
    loss = build(loss="cross-entropy", label_smoothing=0.2, temperature=0.5)
    log_p = (x * 2).log_softmax(1)
    target = 0.8 * F.one_hot(labels, DIMENSION) + 0.2 / DIMENSION
    torch.testing.assert_close(value(loss, x, labels), -(target * log_p).sum(1).mean())


def test_a_self_supervised_loss_is_the_librarys_own_wrapper_and_sees_no_label():
    x, labels = embeddings()
    first, second = x.chunk(2)
    loss = build(loss="NTXentLoss", temperature=0.5, views=2, **{"self-supervised": True})
    expected = library.SelfSupervisedLoss(library.NTXentLoss(temperature=0.5))(first, second)
    torch.testing.assert_close(value(loss, x, labels), expected)
    torch.testing.assert_close(value(loss, x, labels.flip(0)), expected)


def test_a_memory_compares_with_embeddings_of_earlier_batches():
    (first, labels), (second, _) = embeddings(seed=0), embeddings(seed=1)
    loss = build(loss="ContrastiveLoss", memory=80)
    value(loss, first, labels)
    found = value(loss, second, labels)
    reference = library.CrossBatchMemory(library.ContrastiveLoss(), DIMENSION, memory_size=80)
    reference(first, labels)
    torch.testing.assert_close(found, reference(second, labels))
    assert not torch.allclose(found, value(build(loss="ContrastiveLoss"), second, labels))


def test_a_miner_uses_the_distance_of_its_loss_unless_it_names_its_own():
    distance = {"name": "LpDistance", "normalize_embeddings": False, "p": 1}
    shared = MetricTerm(
        LossRecipe(loss="TripletMarginLoss", miner="BatchHardMiner", distance=distance), 10, 16
    )
    assert shared.miner.distance.p == 1
    assert not shared.miner.distance.normalize_embeddings
    own = {"name": "BatchHardMiner", "distance": {"name": "LpDistance", "p": 3}}
    named = MetricTerm(LossRecipe(loss="TripletMarginLoss", miner=own, distance=distance), 10, 16)
    assert named.miner.distance.p == 3
    assert named.loss.distance.p == 1


def test_a_projection_stands_between_embeddings_and_metric_losses_but_not_the_head():
    x, labels = embeddings()
    head = torch.nn.Linear(DIMENSION, CLASSES)
    loss = build(
        terms=[{"loss": "cross-entropy"}, {"loss": "ProxyAnchorLoss"}],
        projection={"size": 4, "hidden": 8, "layers": 3},
    )
    widths = [layer.weight.shape for layer in loss.projection if hasattr(layer, "weight")]
    assert widths == [(8, DIMENSION), (8, 8), (4, 8)]
    assert loss.terms[1].loss.proxies.shape == (CLASSES, 4)
    expected = F.cross_entropy(head(x), labels) + loss.terms[1].loss(loss.projection(x), labels)
    torch.testing.assert_close(value(loss, x, labels, head), expected)


def test_classes_are_the_proxies_of_the_manifold_loss():
    loss = build(loss="ManifoldLoss")
    assert loss.terms[0].loss.proxies.shape == (CLASSES, DIMENSION)
    with pytest.raises(ValueError, match="K: found 3, wanted at least 10"):
        build(loss="ManifoldLoss", K=3)


class OwnLoss(torch.nn.Module):
    """A loss of a user's own, with a weight for each class."""

    def __init__(self, num_classes, embedding_size, factor=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_classes, embedding_size))
        self.factor = factor

    def forward(self, embeddings, labels, indices_tuple=None):
        return self.factor * (embeddings - self.weight[labels]).square().mean()


def test_a_users_own_loss_gets_the_sizes_that_it_asks_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_losses", sys.modules[__name__])
    name = "test_losses:OwnLoss"
    monkeypatch.syspath_prepend(str(__import__("pathlib").Path(__file__).parent))
    assert not list(LossRecipe(loss=name, factor=2.0).problems("losses.x"))
    wrong = list(LossRecipe(loss=name, facter=2.0).problems("losses.x"))
    assert "did you mean 'factor'" in wrong[0]
    x, labels = embeddings()
    torch.testing.assert_close(value(build(loss=name, factor=2.0), x, labels), 2 * (x**2).mean())


class TestSmoothAP:
    def test_at_a_low_temperature_it_is_one_minus_the_mean_average_precision(self):
        x, labels = embeddings(count=30, classes=4)
        labels[:3] = 9  # classes of other sizes than the rest
        unit = F.normalize(x, dim=1)
        similarities = (unit @ unit.T).detach().numpy()
        precisions = []
        for row in range(30):
            others = np.arange(30) != row
            positive = (labels == labels[row]).numpy()[others]
            precisions.append(average_precision_score(positive, similarities[row, others]))
        found = SmoothAPLoss(temperature=1e-5)(x, labels)
        assert float(found) == pytest.approx(1 - np.mean(precisions), abs=1e-4)

    def test_the_order_of_a_batch_does_not_matter(self):
        x, labels = embeddings(count=24, classes=4)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
        loss = SmoothAPLoss()
        torch.testing.assert_close(loss(x, labels), loss(x[order], labels[order]))

    def test_images_without_a_positive_do_not_count(self):
        x, labels = embeddings(count=24, classes=4)
        lonely = torch.cat([labels, torch.tensor([7])])
        away = torch.cat([x, -x.mean(0, keepdim=True) * 100])
        assert SmoothAPLoss()(away, lonely).isfinite()
        assert float(SmoothAPLoss()(x, torch.arange(24))) == 0


class TestDynamicSoftMargin:
    def test_the_first_step_is_the_librarys(self):
        x, labels = embeddings()
        mended, original = DynamicSoftMarginLoss(), library.DynamicSoftMarginLoss()
        torch.testing.assert_close(mended(x, labels), original(x, labels))

    def test_a_second_step_has_gradients_and_the_widest_difference_a_place(self):
        x, labels = embeddings()
        loss = DynamicSoftMarginLoss()
        loss(x, labels).backward()
        loss(x, labels).backward()
        assert x.grad.isfinite().all()
        # The positive is opposite and the negative the same: distances 2 and 0.
        corner = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]], requires_grad=True)
        assert loss(corner, torch.tensor([0, 0, 1, 1])).isfinite()


def test_the_histogram_loss_is_the_librarys_and_has_a_bin_for_equal_embeddings():
    x, labels = embeddings()
    labels[:3] = torch.tensor([20, 21, 22])  # images without a positive
    torch.testing.assert_close(HistogramLoss()(x, labels), library.HistogramLoss()(x, labels))
    same = torch.ones(6, DIMENSION, requires_grad=True)
    assert HistogramLoss()(same, torch.arange(6) % 2).isfinite()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (LiftedStructureLoss, {"neg_margin": 0.5, "pos_margin": 0.1, "distance": LpDistance()}),
        (LiftedStructureLoss, {"neg_margin": 0.5, "distance": CosineSimilarity()}),
        (NTXentLoss, {"temperature": 0.3}),
        (NTXentLoss, {"temperature": 0.3, "distance": LpDistance()}),
        (TupletMarginLoss, {"scale": 10}),
    ],
)
def test_a_loss_that_sums_over_negatives_by_image_is_the_librarys(kind, arguments):
    x, labels = embeddings()
    found, gradients = [], []
    for version in (kind, getattr(library, kind.__name__)):
        x.grad = None
        found.append(version(**arguments)(x, labels))
        found[-1].backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)
    # An image whose negatives were not mined counts for nothing.
    few = (torch.tensor([0, 1]), torch.tensor([8, 9]), torch.tensor([0]), torch.tensor([1]))
    assert kind()(x, labels, few).isfinite()
    # Two images of a class that are embedded alike have a gradient.
    same = torch.cat([x.detach()[:1], x.detach()]).requires_grad_(True)
    kind()(same, torch.cat([labels[:1], labels])).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"loss": "TripletMarginLos"}, "did you mean 'TripletMarginLoss'"),
        ({"loss": "cross-entropy", "label_smoothin": 0.1}, "did you mean 'label_smoothing'"),
        ({"loss": "cross-entropy", "label_smoothing": 1.5}, "wanted a number from 0 to below 1"),
        (
            {"loss": "cross-entropy", "miner": "HDCMiner"},
            "losses.x.miner: cross-entropy takes none",
        ),
        (
            {"loss": "NTXentLoss", "self-supervised": True},
            "losses.x.views: found 1, wanted at least 2",
        ),
        ({"loss": "VICRegLoss", "views": 3}, "losses.x.views: found 3, wanted 2"),
        ({"loss": "ArcFaceLoss", "memory": 100}, "compares with class weights"),
        ({"loss": "ArcFaceLoss", "views": 2, "self-supervised": True}, "has weights for classes"),
        ({"loss": "TripletMarginLoss", "miner": {"name": "BatchHardMinr"}}, "losses.x.miner:"),
        (
            {"loss": "TripletMarginLoss", "distance": {"name": "LpDistance", "pp": 1}},
            "losses.x.distance.pp: unknown argument",
        ),
        ({"loss": "cross-entropy", "projection": {}}, "cross-entropy has its head in that place"),
        (
            {"terms": [{"loss": "cross-entropy"}, {"loss": "SupConLoss", "temprature": 1}]},
            "losses.x.terms.1.temprature: unknown argument of SupConLoss; did you mean "
            "'temperature'",
        ),
        ({"terms": [{"weight": 2.0}]}, "losses.x.terms.0: no loss named"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_nearest_word(recipe, message):
    assert any(message in problem for problem in LossRecipe(**recipe).problems("losses.x"))


def test_a_recipe_comes_back_from_its_plain_form():
    for recipe in (
        {"terms": [{"loss": "cross-entropy"}, {"loss": "SupConLoss", "memory": 64}], "views": 2},
        {"loss": "TripletMarginLoss", "miner": "BatchHardMiner", "margin": 0.2},
    ):
        whole = LossRecipe(**recipe)
        assert LossRecipe(**whole.plain()) == whole


def test_terms_and_keys_of_a_single_loss_do_not_go_together():
    with pytest.raises(ValueError, match="found `terms` and miner, margin;"):
        LossRecipe(terms=[{"loss": "cross-entropy"}], margin=0.1, miner="HDCMiner")
