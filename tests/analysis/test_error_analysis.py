from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from error_cases import analysis, empty_analysis, error_case

from smidgen.analysis.error_analysis import analyze_errors
from smidgen.evaluation import load_protocol
from smidgen.evaluation.figures import compute_figures

PARTS = {"error_types", "precision_recall", "confusion", "calibration", "label_noise", "wasserstein"}


def test_its_parts_agree_with_the_protocol_and_each_other():
    truth, results = error_case()
    found, figures = analysis(), compute_figures(truth, results, load_protocol("aitod")).overall
    assert found.errors.by_size[0].average_precision == pytest.approx(figures["AP50"])
    assert found.curves.mean("all").mean() == pytest.approx(figures["AP50"])
    for index, name in enumerate(("AP", "APvt", "APt", "APs", "APm")):
        assert found.wasserstein.by_size[index].iou == pytest.approx(figures[name])
        assert found.label_noise is not None
        assert found.label_noise.by_size[index].exact == pytest.approx(figures[name])
    best = found.curves.pooled[0].best
    assert best is not None and found.confusion.score_threshold == best.score
    assert found.confusion.counts[:-1].sum() == len(truth.area)
    assert all(found.errors.by_size[0].counts.values()), "the case holds every type of error"


def test_json_has_every_part_and_no_nan():
    for found in (analysis(), empty_analysis()):
        document = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert set(document) == {"protocol", *PARTS}


def test_a_picture_for_each_part_even_of_nothing(tmp_path):
    assert set(analysis().pictures()) == set(empty_analysis().pictures()) == PARTS
    for name, picture in empty_analysis().pictures().items():
        assert picture.save(tmp_path / f"{name}.png").stat().st_size > 1000


def test_logits_and_no_noise_leave_parts_out():
    truth, results = error_case(images=2)
    logits = replace(results, scores=results.scores * 9 - 5)
    found = analyze_errors(truth, logits, load_protocol("coco"), noise_seeds=0, score_threshold=-5.0)
    assert found.calibration is None and found.label_noise is None and found.confusion.score_threshold == -5.0
    assert set(found.pictures()) == PARTS - {"calibration", "label_noise"}
    assert found.to_json()["calibration"] is None


def test_the_numbers_do_not_load_torch():
    code = "import sys, smidgen.analysis.error_analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
