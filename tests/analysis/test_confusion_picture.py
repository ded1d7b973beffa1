from __future__ import annotations

import numpy as np
from error_cases import analysis

from smidgen.analysis.confusion_picture import MOST_CLASSES, confusion_picture
from smidgen.evaluation.confusion import ConfusionMatrix


def test_every_count_is_written_in_its_square():
    confusion = analysis().confusion
    picture = confusion_picture(confusion)
    axes = picture.figure.axes[0]
    written = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert written == {
        (int(row), int(column)): str(confusion.counts[row, column]) for row, column in np.argwhere(confusion.counts)
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == [*confusion.names, "missed"]
    assert picture.data == confusion.to_json()


def test_many_classes_become_others_and_nothing_is_lost():
    counts = np.random.default_rng(0).integers(0, 2000, (41, 41))
    counts[-1, -1] = 0
    confusion = ConfusionMatrix(tuple(f"a rather long name of class {i}" for i in range(40)), counts, 0.5, 0.5)
    axes = confusion_picture(confusion).figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == MOST_CLASSES + 1 and labels[-2:] == ["11 others", "false alarms"]
    assert max(len(label) for label in labels) <= 22
    image = next(one for one in axes.get_images() if one.get_array().shape == (31, 31))
    assert image is not None
    assert confusion_picture(confusion).data["counts"] == counts.tolist()
