from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smidgen.evaluation import list_protocols, load_protocol

OWN = """
name: mine
version: 3
iou_thresholds: [0.5, 0.75]
areas: {all: [0, 1.0e+10], dot: [0, 16]}
detection_limits: [10]
figures:
  AP: {measure: average_precision}
  APdot: {measure: average_precision, area: dot, iou: 0.75}
"""


def test_protocols_carry_name_and_version():
    assert {"aitod@1", "coco@1", "soda_d@1", "visdrone@1", "visdrone_coco@1"} <= set(list_protocols())
    assert load_protocol("coco") == load_protocol("coco@1")
    assert load_protocol("aitod").label == "aitod@1"


def test_thresholds_equal_the_official_tool_to_the_last_bit():
    official = np.linspace(0.5, 0.95, int(np.round((0.95 - 0.5) / 0.05)) + 1, endpoint=True)
    for name in ("coco", "aitod"):
        assert load_protocol(name).thresholds.tolist() == official.tolist()


@pytest.mark.parametrize(("wrong", "near"), [("cocoo", "coco"), ("aitod@2", "aitod@1"), ("AITOD", None)])
def test_unknown_protocol_names_the_nearest(wrong: str, near: str | None):
    with pytest.raises(ValueError, match=f"did you mean '{near}" if near else "aitod@1, coco@1"):
        load_protocol(wrong)


def test_own_file_is_read_and_a_protocol_passes_through(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    protocol = load_protocol(file)
    assert protocol.label == "mine@3" and protocol.limit_of(protocol.figures["APdot"]) == 10
    assert load_protocol(protocol) is protocol


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[0.5, 0.75]", "[0.75, 0.5]", "increasing iou_thresholds"),
        ("area: dot", "area: dots", "expected an area of"),
        ("iou: 0.75", "iou: 0.7", "none of iou_thresholds"),
        ("[0, 16]", "[16, 0]", "low < high"),
        ("version: 3", "edition: 3", "edition"),
        ("measure: average_precision,", "measure: precision,", "average_precision"),
        ("detection_limits: [10]", "detection_limits: []", "detection_limits"),
        ("name: mine", "name: [", "does not describe a protocol"),
    ],
)
def test_faulty_files_are_refused(tmp_path: Path, old: str, new: str, said: str):
    file = tmp_path / "mine.yml"
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(ValueError, match=said):
        load_protocol(file)


def test_missing_file_is_said():
    with pytest.raises(ValueError, match="does not exist"):
        load_protocol("nowhere.yaml")


def test_rules_default_to_those_of_coco_and_stand_in_the_settings(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN + "class_mean: images\nlimit_per: image\nunit: per_cent\nscore_floor: 0.05\n")
    settings = load_protocol(file).settings()
    assert (settings["protocol"], settings["version"]) == ("mine", 3)
    assert settings["score_floor"] == 0.05
    assert [settings["rules"][rule] for rule in ("class_mean", "limit_per", "unit")] == ["images", "image", "per_cent"]
    assert load_protocol("coco").settings()["rules"]["ignored_regions"] == "crowd"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("class_means: images", "class_means: unknown, did you mean 'class_mean'"),
        ("class_mean: image", "class_mean: .*'classes' or 'images'"),
        ("ignored_regions: drop", "ignored_regions: .*'crowd' or 'remove'"),
        ("score_floor: low", "score_floor"),
        ("  AP2: {measure: average_precision, class_means: classes}", "figures.AP2.class_means: .*'class_mean'"),
    ],
)
def test_faulty_rules_are_refused_by_name(tmp_path: Path, line: str, said: str):
    file = tmp_path / "mine.yaml"
    file.write_text(f"{OWN}{line}\n")
    with pytest.raises(ValueError, match=said):
        load_protocol(file)
