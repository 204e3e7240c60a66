"""Promises of the embedding geometry: equal to the definitions, computed pair by pair."""

import numpy as np
import pytest

from clarity.models.geometry import geometry


def clusters(n=60, dimension=5, spread=0.8, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, n)
    centres = generator.normal(size=(4, dimension))
    noise = spread * generator.normal(size=(n, dimension))
    return (centres[labels] + noise).astype(np.float32), labels


def by_name(embeddings, labels):
    return geometry(embeddings, labels).set_index("measure")["value"]


def unit(embeddings):
    return embeddings.astype(np.float64) / np.linalg.norm(embeddings, axis=1, keepdims=True)


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


def test_each_measure_has_a_direction():
    frame = geometry(*clusters())
    assert frame.to_dict("list")["measure"] == [
        "silhouette",
        "distance-ratio",
        "r-precision",
        "map-at-r",
    ]
    assert frame["direction"].tolist() == ["higher", "lower", "higher", "higher"]
    assert frame["value"].dtype == np.float64
