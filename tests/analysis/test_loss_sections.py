"""The page's words and tables about losses, on observations whose objects die where they are meant to."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from loss_cases import Query, asked

from smidgen.analysis.loss_advice import MEANINGS, REMEDIES, remedies
from smidgen.analysis.loss_grid import loss_grid
from smidgen.analysis.loss_sections import overview_section, stage_sections, within_reach
from smidgen.analysis.loss_stages import STAGES, LossRules
from smidgen.analysis.traced_losses import TracedLosses, trace_losses
from smidgen.models import configure, list_models

# Three objects: one found, one whose right answer scores 0.15, one answered under another name.
BOXES = [(0.0, 0.0, 10.0, 10.0), (16.0, 16.0, 28.0, 28.0), (40.0, 8.0, 80.0, 48.0)]
QUERIES = [
    Query(BOXES[0], (0.9, 0.0), token=0),
    Query(BOXES[1], (0.15, 0.0), token=26),
    Query(BOXES[2], (0.1, 0.8), token=42),
]


def config_of(name: str, **fields: Any) -> Any:
    return configure(name, {"num_classes": 2, **fields})


def traced() -> TracedLosses:
    return trace_losses(asked(BOXES, QUERIES), LossRules(), ("car", "bus"))


def test_the_table_shows_present_sizes_only_and_its_sums_are_right() -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", loss_grid(traced().lost))
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert [words.split("<br>")[0] for words in cells[0][1:4]] == ["tiny", "medium", "all sizes"]
    last = {row[0]: row[1:4] for row in cells}
    assert last["missed"] == ["1 (50%)", "1 (100%)", "2 (67%)"]
    assert last["found"] == ["1 (50%)", "0", "1 (33%)"] and last["objects"] == ["2", "1", "3"]
    assert last["score too low"][0] == "1 (50%)" and last["wrong class"][1] == "1 (100%)"
    assert "filtered by salience" not in last, "the detector has no such stage"


def test_a_section_for_each_loss_with_its_crops_and_what_a_lower_score_wins_back() -> None:
    losses = traced()
    sections = {section.title: section for section in stage_sections(losses, config_of("dino_nano"))}
    assert set(sections) == {"Score too low: 1 of 2", "Wrong class: 1 of 2"}
    assert "1 from 0.1 on" in sections["Score too low: 1 of 2"].paragraphs[0]
    assert within_reach(losses.lost, 0.2) == 0 and within_reach(losses.lost, 0.1) == 1
    (crops,) = sections["Wrong class: 1 of 2"].pictures
    assert len(crops) == 1 and crops[0].caption.startswith("car, 40 px, image 7: bus 0.80")
    assert len(overview_section(losses).charts) == 2


def test_halves_add_up_to_the_whole() -> None:
    whole = (traced() + traced()).to_json()
    assert whole["missed"] == 4 and len(whole["examples"]["low_score"]) == 2


def test_every_stage_has_words_and_every_remedy_a_field_of_some_model() -> None:
    assert set(MEANINGS) == set(REMEDIES) == set(STAGES)
    kinds = {type(config_of(name)) for name in list_models("*_nano")}
    known = {path for kind in kinds for path in paths_of(kind)}
    asked_for = {field for stage in REMEDIES.values() for field, _ in stage if field}
    assert asked_for <= known, asked_for - known
    words = (words for stage in REMEDIES.values() for field, words in stage if field)
    assert all("{value}" in one for one in words)


def paths_of(kind: Any, before: str = "") -> set[str]:
    """Dotted fields of a configuration, also behind `| None`."""
    found = set()
    hints = get_type_hints(kind)
    for field in fields(kind):
        found.add(before + field.name)
        parts = [part for part in (hints[field.name], *get_args(hints[field.name])) if isinstance(part, type)]
        for part in filter(is_dataclass, parts):
            found |= paths_of(part, f"{before}{field.name}.")
    return found


def test_remedies_name_the_settings_that_a_model_has_with_their_values() -> None:
    words = remedies("filtered", config_of("salience_detr_nano", level_ratios=(0.4, 0.8, 1.0)))
    assert any("model.level_ratios" in one and "[0.4, 0.8, 1]" in one for one in words)
    assert remedies("filtered", config_of("fcos_nano")) == []
    assert any("model.readout.nms_iou" in one for one in remedies("suppressed", config_of("fcos_nano")))
