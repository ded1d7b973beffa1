from __future__ import annotations

import pytest
from error_cases import analysis

from smidgen.analysis.error_type_chart import FEW, error_type_chart


def test_cells_hold_gains_and_counts():
    errors = analysis().errors
    picture = error_type_chart(errors)
    table, bars = picture.figure.axes
    overall = errors.by_size[0]
    texts = [text.get_text() for text in table.texts]
    assert texts[0] == f"{100 * overall.gain['Cls']:+.1f}\n{overall.counts['Cls']}"
    assert texts[6] == f"{100 * overall.gain['FP']:+.1f}"
    assert len(texts) == 8 * sum(one.objects > 0 for one in errors.by_size)
    drawn = [one for one in errors.by_size[1:] if one.objects >= FEW]
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == pytest.approx([100 * value for one in drawn for value in one.gain_overall.values()])
    assert picture.data == errors.to_json()
