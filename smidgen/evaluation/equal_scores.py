"""In which order detections of equal score stand, where an official tool leaves that to an unstable sort.

The VisDrone-DET toolkit in Python sorts with numpy's default sort and turns the result around, once for an image's
detections of a class and once for those of all images. What that does to equal scores depends on how many there are,
and on the processor: a class's AP may move in the second decimal of a per cent. The same calls in the same arrangement
give the same order.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from smidgen.evaluation.annotations import Results


def best_first(scores: Float[NDArray[np.float64], " D"]) -> Int[NDArray[np.int64], " D"]:
    """The toolkit's order."""
    return np.argsort(scores)[::-1]


def order_in_images(results: Results) -> Int[NDArray[np.int64], " D"]:
    """Rows by image and class, each group in the toolkit's order."""
    grouped = np.lexsort((results.category, results.image))
    image, category = results.image[grouped], results.category[grouped]
    starts = np.flatnonzero((np.diff(image, prepend=-1) != 0) | (np.diff(category, prepend=-1) != 0))
    return np.concatenate([group[best_first(results.scores[group])] for group in np.split(grouped, starts[1:])])


def order_over_images(
    scores: Float[NDArray[np.float64], " D"], detection: Int[NDArray[np.int64], " D"]
) -> Int[NDArray[np.int64], " D"]:
    """Order of one class's detections, given in any order. detection: their rows after `order_in_images`."""
    by_image = np.argsort(detection)
    return by_image[best_first(scores[by_image])]
