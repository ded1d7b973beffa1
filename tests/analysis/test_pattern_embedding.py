from __future__ import annotations

import sys

import numpy as np
import pytest
from pattern_cases import mixed

from smidgen.analysis.pattern_embedding import (
    PatternVectors,
    embed,
    embedding_picture,
    knn_purity,
    pattern_vectors,
    silhouette,
    why_no_embedding,
)

WEIGHTS = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
SCORES = [[0.5, 0.5]] * 4


def two_clusters(number: int = 8, seed: int = 0, distance: float = 1.0) -> PatternVectors:
    """Images of two groups, and one without objects between them."""
    random = np.random.default_rng(seed)
    group = np.array([0] * number + [1] * number + [-1])
    centers = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0], [distance / 2, 0.0, 0.0]])
    return PatternVectors(centers[group] + 0.05 * random.standard_normal((len(group), 3)), group)


def test_an_image_s_vector_is_the_mean_of_its_rows() -> None:
    vectors = pattern_vectors(mixed(WEIGHTS, SCORES, labels=[1, 0, 1]))
    assert vectors.vectors.tolist() == [[0.5, 0.5], [0.5, 0.5]], "the row of padding is left out"
    assert vectors.group.tolist() == [1, -1], "class 1 has most objects; image 1 has none"
    grouped = pattern_vectors(mixed(WEIGHTS, SCORES, labels=[1, 0, 1]), group_of_class=[3, 0])
    assert grouped.group.tolist() == [0, -1]


def test_groups_apart_are_pure_and_groups_mixed_are_not() -> None:
    apart, together = two_clusters(), two_clusters(40, distance=0.0)
    assert knn_purity(apart, neighbors=5) == 1 and (silhouette(apart) or 0) > 0.8
    assert 0.35 < (knn_purity(together) or 0) < 0.65 and abs(silhouette(together) or 0) < 0.05


def test_too_few_images_have_no_figures() -> None:
    one = PatternVectors(np.ones((1, 3)), np.array([0]))
    assert knn_purity(one) is None and silhouette(one) is None
    assert (one + PatternVectors(np.zeros((1, 3)), np.array([1]))).to_json()["silhouette"] is None
    with pytest.raises(ValueError, match="same number of patterns"):
        _ = one + PatternVectors(np.ones((1, 2)), np.array([0]))


def test_an_image_alone_in_its_group_counts_nothing() -> None:
    vectors = PatternVectors(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]))
    assert silhouette(vectors) == pytest.approx(((5 - 1) / 5 + (4 - 1) / 4 + 0) / 3)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ModuleNotFoundError, match=r"smidgen\[tsne\]"):
        embed(two_clusters())
    assert "smidgen[tsne]" in (why_no_embedding(two_clusters()) or "")
    assert "at least 4 images" in (why_no_embedding(PatternVectors(np.ones((2, 3)), np.zeros(2, dtype=int))) or "")


def test_silhouette_is_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    vectors = two_clusters(distance=0.1)
    kept = vectors.group >= 0
    expected = metrics.silhouette_score(vectors.vectors[kept], vectors.group[kept])
    assert silhouette(vectors) == pytest.approx(expected, abs=1e-9)


def test_the_perplexity_is_limited_by_the_number_of_images() -> None:
    pytest.importorskip("sklearn")
    picture = embedding_picture(two_clusters(4), ["car", "person"])
    assert len(picture.data["points"]) == 9 and "silhouette" in picture.figure.axes[0].get_title()
    with pytest.raises(ValueError, match="at least 4 images"):
        embed(PatternVectors(np.ones((3, 3)), np.zeros(3, dtype=int)))
