"""Promises of the embedding geometry: equal to the definitions, computed pair by pair."""

import numpy as np
import pytest

from clarity.models import geometry as module
from clarity.models.geometry import geometry
from clarity.tables.measures import MEASURES


def clusters(n=60, dimension=5, spread=0.8, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, n)
    centres = generator.normal(size=(4, dimension))
    noise = spread * generator.normal(size=(n, dimension))
    return (centres[labels] + noise).astype(np.float32), labels


def by_name(embeddings, labels):
    return geometry(embeddings, labels).set_index("measure")["value"]


def unit(embeddings):
    points = embeddings.astype(np.float64)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_silhouette_is_that_of_rousseeuw_with_cosine_distance():
    embeddings, labels = clusters()
    distances = 1 - unit(embeddings) @ unit(embeddings).T
    widths = []
    for i, label in enumerate(labels):
        own = [distances[i, j] for j in range(60) if labels[j] == label and j != i]
        others = [
            np.mean([distances[i, j] for j in range(60) if labels[j] == other])
            for other in set(labels) - {label}
        ]
        widths.append((min(others) - np.mean(own)) / max(min(others), np.mean(own)))
    assert by_name(embeddings, labels)["silhouette"] == pytest.approx(np.mean(widths), abs=1e-5)


def test_distance_ratio_is_the_mean_within_over_the_mean_between():
    embeddings, labels = clusters()
    within, between = [], []
    for i, first in enumerate(unit(embeddings)):
        for j, second in enumerate(unit(embeddings)):
            if i != j:
                (within if labels[i] == labels[j] else between).append(
                    np.linalg.norm(first - second)
                )
    expected = np.mean(within) / np.mean(between)
    assert by_name(embeddings, labels)["distance-ratio"] == pytest.approx(expected, abs=1e-5)


def test_retrieval_is_that_of_musgrave_counted_by_hand():
    embeddings, labels = clusters()
    similar = unit(embeddings) @ unit(embeddings).T
    precisions, averages = [], []
    for i in range(60):
        order = [j for j in np.argsort(-similar[i], kind="stable") if j != i]
        r = sum(labels[j] == labels[i] for j in range(60)) - 1
        hits = [labels[j] == labels[i] for j in order[:r]]
        precisions.append(sum(hits) / r)
        averages.append(sum(sum(hits[: k + 1]) / (k + 1) for k in range(r) if hits[k]) / r)
    found = by_name(embeddings, labels)
    assert found["r-precision"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert found["map-at-r"] == pytest.approx(np.mean(averages), abs=1e-6)
    assert found["map-at-r"] < found["r-precision"] < 1


def test_the_length_of_an_embedding_does_not_matter():
    embeddings, labels = clusters()
    lengths = np.random.default_rng(1).uniform(0.1, 10, (60, 1)).astype(np.float32)
    np.testing.assert_allclose(
        by_name(lengths * embeddings, labels), by_name(embeddings, labels), atol=1e-5
    )


def test_the_order_of_the_embeddings_does_not_matter():
    embeddings, labels = clusters()
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(
        by_name(embeddings[order], labels[order]), by_name(embeddings, labels), atol=1e-6
    )


def test_tight_clusters_are_perfect_and_noise_is_at_chance():
    embeddings, labels = clusters(spread=1e-3)
    found = by_name(embeddings, labels)
    assert found["silhouette"] > 0.99
    assert found["distance-ratio"] < 0.01
    assert found["r-precision"] == found["map-at-r"] == 1
    noise = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, 400)
    found = by_name(noise, labels)
    # A little below 0: the nearest of three other classes is nearer than the average one.
    assert -0.05 < found["silhouette"] < 0
    assert found["distance-ratio"] == pytest.approx(1, abs=0.01)
    assert found["r-precision"] == pytest.approx(0.25, abs=0.02)


def test_cluster_indices_are_those_of_their_papers():
    """Davies and Bouldin, 1979; Calinski and Harabasz, 1974, class by class."""
    embeddings, labels = clusters()
    points = unit(embeddings)
    means = [points[labels == c].mean(0) for c in range(4)]
    spreads = [np.linalg.norm(points[labels == c] - means[c], axis=1).mean() for c in range(4)]
    worst = [
        max(
            (spreads[a] + spreads[b]) / np.linalg.norm(means[a] - means[b])
            for b in range(4)
            if a != b
        )
        for a in range(4)
    ]
    between = sum((labels == c).sum() * ((means[c] - points.mean(0)) ** 2).sum() for c in range(4))
    within = sum(((points[labels == c] - means[c]) ** 2).sum() for c in range(4))
    found = by_name(embeddings, labels)
    assert found["davies-bouldin"] == pytest.approx(np.mean(worst), rel=1e-6)
    assert found["calinski-harabasz"] == pytest.approx((between / 3) / (within / 56), rel=1e-6)


def test_alignment_and_uniformity_are_those_of_wang_and_isola_pair_by_pair():
    embeddings, labels = clusters()
    points = unit(embeddings)
    pairs = [(i, j) for i in range(60) for j in range(i)]
    squared = np.array([((points[i] - points[j]) ** 2).sum() for i, j in pairs])
    same = np.array([labels[i] == labels[j] for i, j in pairs])
    found = by_name(embeddings, labels)
    assert found["alignment"] == pytest.approx(squared[same].mean(), rel=1e-9)
    assert found["uniformity"] == pytest.approx(np.log(np.exp(-2 * squared).mean()), rel=1e-9)


def test_precision_at_1_is_the_share_whose_nearest_is_of_their_class():
    embeddings, labels = clusters()
    similar = unit(embeddings) @ unit(embeddings).T - 9 * np.eye(60)
    expected = np.mean(labels[similar.argmax(1)] == labels)
    assert by_name(embeddings, labels)["precision-at-1"] == pytest.approx(expected)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_equal_directions_is_their_number(rank):
    embeddings = np.tile(np.eye(8, dtype=np.float32)[:rank], (6, 1))
    labels = np.arange(6 * rank) % 2
    assert by_name(embeddings, labels)["effective-rank"] == pytest.approx(rank, rel=1e-9)


def test_effective_rank_is_that_of_roy_and_vetterli():
    embeddings, labels = clusters()
    shares = np.linalg.svd(unit(embeddings), compute_uv=False)
    shares /= shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert by_name(embeddings, labels)["effective-rank"] == pytest.approx(expected, rel=1e-9)


def test_nc1_is_that_of_papyan_with_a_pseudo_inverse():
    embeddings, labels = clusters()
    points = unit(embeddings)
    means = np.stack([points[labels == c].mean(0) for c in range(4)])
    deviations = points - means[labels]
    centred = means - means.mean(0)
    within, between = deviations.T @ deviations / 60, centred.T @ centred / 4
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4
    assert by_name(embeddings, labels)["nc1"] == pytest.approx(expected, rel=1e-6)


def test_collapsed_classes_have_nc1_of_zero():
    labels = np.arange(40) % 4
    found = geometry(np.eye(4, 6, dtype=np.float32)[labels], labels).set_index("measure")
    assert found["value"]["nc1"] == pytest.approx(0, abs=1e-12)
    assert found["value"]["davies-bouldin"] == pytest.approx(0, abs=1e-12)
    # Scikit-learn calls this 1.
    assert np.isnan(found["value"]["calinski-harabasz"])
    assert found["reason"]["calinski-harabasz"] == "every class is one point"


@pytest.mark.parametrize(
    ("embeddings", "labels", "said", "known"),
    [
        (
            np.ones((20, 3)),
            np.arange(20) % 2,
            "collapsed: all embeddings are equal",
            {"alignment": 0, "uniformity": 0, "effective-rank": 1},
        ),
        (np.full((20, 3), np.nan), np.arange(20) % 2, "an embedding is not finite", {}),
        (np.eye(4), np.zeros(4, dtype=int), "all images are of one class", {"alignment": 2}),
        (np.eye(4), np.arange(4), "no class has two images", {"effective-rank": 4}),
    ],
)
def test_what_has_no_value_has_a_reason_and_the_rest_is_right(embeddings, labels, said, known):
    frame = geometry(embeddings.astype(np.float32), labels).set_index("measure")
    without = frame["value"].isna()
    assert set(frame.loc[without, "reason"]) == {said}
    assert set(frame.loc[~without, "reason"]) <= {""}
    for measure, value in known.items():
        assert frame.loc[measure, "value"] == pytest.approx(value, abs=1e-6)


def test_equal_class_means_are_no_number_that_looks_like_any_other():
    embeddings = np.tile(np.eye(4, dtype=np.float32), (4, 1))
    frame = geometry(embeddings, np.arange(16) // 4 % 2).set_index("measure")
    for measure in ("davies-bouldin", "nc1"):
        assert np.isnan(frame.loc[measure, "value"])
        assert frame.loc[measure, "reason"] == "the class means are equal"
    assert frame.loc["silhouette", "reason"] == ""


def test_nothing_to_measure_is_no_row():
    frame = geometry(np.zeros((0, 5), dtype=np.float32), np.zeros(0, dtype=np.int64))
    assert len(frame) == 0
    assert list(frame) == ["measure", "value", "direction", "reason"]


def test_blocks_of_rows_change_nothing(monkeypatch):
    whole = geometry(*clusters())
    monkeypatch.setattr(module, "ROWS", 7)
    np.testing.assert_allclose(geometry(*clusters())["value"], whole["value"], rtol=1e-6)


def test_of_many_images_the_same_are_measured_for_every_model(monkeypatch):
    monkeypatch.setattr(module, "POINTS", 40)
    embeddings, labels = clusters(n=100)
    chosen = module._subset(100)
    assert len(set(chosen)) == 40
    some = geometry(embeddings, labels)
    monkeypatch.setattr(module, "POINTS", 100)
    np.testing.assert_array_equal(
        some["value"], geometry(embeddings[chosen], labels[chosen])["value"]
    )


def test_each_measure_has_a_direction_and_a_meaning():
    frame = geometry(*clusters())
    assert dict(zip(frame["measure"], frame["direction"], strict=True)) == module.DIRECTIONS
    assert frame["value"].dtype == np.float64
    assert set(module.DIRECTIONS) <= set(MEASURES)
