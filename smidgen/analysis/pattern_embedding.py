"""Images laid out by how their queries are mixed: do images of the same things use the same patterns?

PaQ-DETR (CVPR 2026, arXiv 2603.06917), figure 6: t-SNE (van der Maaten and Hinton, JMLR 2008) of one vector per image,
colored by its dominant super-category, over about 200 images with perplexity 30. The vector is the mean of the weights
over the image's queries (the paper leaves it open). Clusters in a t-SNE plot can deceive, so two numbers of the vectors
themselves stand beside it: kNN purity, the share of the nearest neighbors with the same color, and the silhouette
(Rousseeuw, 1987). Only the picture needs scikit-learn, an extra: pip install 'smidgen[tsne]'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smidgen.analysis.observation import Observation
from smidgen.analysis.panels import Picture, how_many
from smidgen.analysis.pattern_usage import existing_rows, weights_of

PERPLEXITY = 30.0
NEIGHBORS = 10
LEAST_IMAGES = 4
NOTHING = -1
MOST_COLORS = 10


@dataclass(frozen=True, slots=True)
class PatternVectors:
    """One vector of pattern weights per image; those of several batches are put together.

    vectors: images x m, rows sum to 1. group: of each image, the index of its dominant class or super-category, -1 for
    an image without objects.
    """

    vectors: npt.NDArray[np.float64]
    group: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)

    def __add__(self, other: PatternVectors) -> PatternVectors:
        if self.vectors.shape[1] != other.vectors.shape[1]:
            raise ValueError(
                "expected vectors of the same number of patterns to put together, got "
                f"{self.vectors.shape[1]} and {other.vectors.shape[1]}"
            )
        return PatternVectors(np.concatenate([self.vectors, other.vectors]), np.concatenate([self.group, other.group]))

    def to_json(self) -> dict[str, Any]:
        """Plain values; the figures are None where too few images have objects."""
        return {"images": len(self), "knn_purity": knn_purity(self), "silhouette": silhouette(self)}


def pattern_vectors(observation: Observation, group_of_class: Sequence[int] | None = None) -> PatternVectors:
    """The vectors of one batch. group_of_class: by class index, its super-category (None = each class its own).

    An image's group is the one with most objects, the lowest of several. Raises ValueError where the output has no
    PatternWeights.
    """
    existing = existing_rows(observation)[..., None]
    total = (weights_of(observation).double() * existing).sum(dim=1) / existing.sum(dim=1).clamp(min=1)
    groups = [_dominant(target.labels.cpu().numpy(), group_of_class) for target in observation.targets]
    return PatternVectors(total.cpu().numpy(), np.array(groups, dtype=np.int64))


def knn_purity(vectors: PatternVectors, neighbors: int = NEIGHBORS) -> float | None:
    """Mean share of each image's nearest neighbors (Euclidean) with its group; images without objects do not take part.

    None where fewer than two images have objects.
    """
    distance, group = _distances(vectors)
    if len(group) < 2:
        return None
    nearest = distance.argsort(axis=1, kind="stable")[:, : min(neighbors, len(group) - 1)]
    return float((group[nearest] == group[:, None]).mean())


def silhouette(vectors: PatternVectors) -> float | None:
    """Mean over images of (b - a) / max(a, b) in [-1, 1]: a, mean distance to the own group's other images; b, to those
    of the nearest other group. An image alone in its group counts 0.

    None where not at least two groups share three images.
    """
    distance, group = _distances(vectors)
    members = group[:, None] == np.unique(group)
    if members.shape[1] < 2 or len(group) <= members.shape[1]:
        return None
    sums, sizes = np.where(np.isfinite(distance), distance, 0.0) @ members, members.sum(axis=0)
    own = (sums / np.maximum(sizes - 1, 1))[members]
    other = np.where(members, np.inf, sums / sizes).min(axis=1)
    alone = sizes[members.argmax(axis=1)] == 1
    values = np.where(alone, 0.0, (other - own) / np.maximum(np.maximum(own, other), 1e-300))
    return float(values.mean())


def embed(vectors: PatternVectors, perplexity: float = PERPLEXITY, seed: int = 0) -> npt.NDArray[np.float64]:
    """t-SNE of the vectors, images x 2, from PCA; a third of the other images limits the perplexity.

    Raises ModuleNotFoundError without scikit-learn, ValueError for fewer than four images or two patterns.
    """
    if len(vectors) < LEAST_IMAGES or vectors.vectors.shape[1] < 2:
        raise ValueError(
            f"expected at least {LEAST_IMAGES} images and 2 patterns for a t-SNE picture, "
            f"got {len(vectors)} and {vectors.vectors.shape[1]}"
        )
    limited = min(perplexity, (len(vectors) - 1) / 3)
    made: npt.NDArray[np.float64] = _tsne(perplexity=limited, init="pca", random_state=seed).fit_transform(
        vectors.vectors
    )
    return made


def why_no_embedding(vectors: PatternVectors) -> str | None:
    """What is missing for the picture, in words for people; None where nothing is."""
    if len(vectors) < LEAST_IMAGES or vectors.vectors.shape[1] < 2:
        return f"it needs at least {LEAST_IMAGES} images and 2 patterns"
    try:
        _tsne()
    except ModuleNotFoundError as error:
        return str(error)
    return None


def embedding_picture(vectors: PatternVectors, group_names: Sequence[str] = (), seed: int = 0) -> Picture:
    """A dot per image at its place in the t-SNE plane, colored by its group.

    group_names: by group index. data: `PatternVectors.to_json()` and, per image, [x, y, group]. Errors as in `embed`.
    """
    points = embed(vectors, seed=seed)
    figure = Figure(figsize=(9.0, 7.2), layout="constrained")
    figure.suptitle(f"How the queries of {how_many(len(vectors), 'image')} are mixed from the patterns", fontsize=13)
    axes = figure.subplots()
    _draw_groups(axes, points, vectors.group, group_names)
    axes.set_title(_figures(vectors), fontsize=10)
    rows = [[float(x), float(y), int(group)] for (x, y), group in zip(points, vectors.group, strict=True)]
    return Picture(figure, {**vectors.to_json(), "points": rows})


def _dominant(labels: npt.NDArray[Any], group_of_class: Sequence[int] | None) -> int:
    if not len(labels):
        return NOTHING
    groups = labels if group_of_class is None else np.asarray(group_of_class)[labels]
    return int(np.bincount(groups).argmax())


def _distances(vectors: PatternVectors) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Distances of all pairs of images with objects (infinite to itself), and their groups."""
    kept = vectors.group != NOTHING
    points = vectors.vectors[kept]
    squares = (points**2).sum(axis=1)
    squared = squares[:, None] + squares - 2 * points @ points.T
    distance = np.sqrt(np.maximum(squared, 0.0))
    np.fill_diagonal(distance, np.inf)
    return distance, vectors.group[kept]


def _tsne(**options: Any) -> Any:
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("t-SNE needs an extra: pip install 'smidgen[tsne]'") from error
    return TSNE(**options)


def _figures(vectors: PatternVectors) -> str:
    values = vectors.to_json()
    if values["knn_purity"] is None:
        return "a dot per image"
    words = f"a dot per image; {values['knn_purity']:.0%} of the nearest neighbors have the same color"
    return words if values["silhouette"] is None else f"{words}, silhouette {values['silhouette']:.2f}"


def _draw_groups(
    axes: Axes, points: npt.NDArray[np.float64], group: npt.NDArray[np.int64], names: Sequence[str]
) -> None:
    """The largest groups have a color each; the rest is light gray, images without objects are hollow."""
    numbers = {int(one): int((group == one).sum()) for one in np.unique(group)}
    colored = sorted((one for one in numbers if one != NOTHING), key=lambda one: -numbers[one])
    for rank, one in enumerate(colored[:MOST_COLORS]):
        name = names[one] if one < len(names) else f"group {one}"
        label = f"{name} ({numbers[one]})"
        x, y = points[group == one].T
        axes.scatter(x, y, s=34, color=colormaps["tab10"](rank), label=label, linewidths=0)
    if colored[MOST_COLORS:]:
        rest = np.isin(group, colored[MOST_COLORS:])
        x, y = points[rest].T
        axes.scatter(x, y, s=34, color="#D0D0D0", label=f"others ({int(rest.sum())})", linewidths=0)
    if NOTHING in numbers:
        x, y = points[group == NOTHING].T
        axes.scatter(x, y, s=34, facecolors="none", edgecolors="#888888", label=f"no objects ({numbers[NOTHING]})")
    axes.set(xticks=[], yticks=[])
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="most objects are")
