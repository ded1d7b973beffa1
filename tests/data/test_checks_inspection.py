"""A check finds every planted defect and nothing else, and what --fix writes has no errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted_defects import PLANTERS, Defect, Planted

from smidgen.data import open_dataset
from smidgen.data.checks import FINDING_KINDS, Finding, Inspection, inspect_dataset, write_clean_copy


@pytest.fixture(scope="module", params=sorted(PLANTERS))
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, Inspection]:
    planted = PLANTERS[request.param](tmp_path_factory.mktemp(request.param))
    return planted, inspect_dataset(planted.root, workers=2)


def as_defect(finding: Finding) -> Defect:
    return Defect(finding.kind, Path(finding.file).name)


def test_every_planted_defect_is_found_and_nothing_else(checked: tuple[Planted, Inspection]) -> None:
    planted, inspection = checked
    assert set(map(as_defect, inspection.findings)) == set(planted.defects)


def test_the_planted_sets_hold_at_least_40_defects(tmp_path: Path) -> None:
    defects = [defect for name, plant in PLANTERS.items() for defect in plant(tmp_path / name).defects]
    assert len(defects) >= 40
    # very_large_image needs a picture of 90 megapixels; its own test lowers the limit.
    assert {defect.kind for defect in defects} == set(FINDING_KINDS) - {"very_large_image"}


def test_details_say_what_to_do(checked: tuple[Planted, Inspection]) -> None:
    for finding in checked[1].findings:
        detail = finding.to_json()["detail"]
        assert detail.endswith(finding.remedy)
        assert finding.file


def test_a_mended_copy_has_no_errors(checked: tuple[Planted, Inspection], tmp_path: Path) -> None:
    planted, inspection = checked
    before = sorted((file, file.stat().st_mtime_ns) for file in planted.root.rglob("*"))
    copy = write_clean_copy(inspection, tmp_path / "copy")
    assert sorted((file, file.stat().st_mtime_ns) for file in planted.root.rglob("*")) == before
    assert inspect_dataset(copy.folder).errors == ()
    log = json.loads((copy.folder / "fixes.json").read_text())
    assert log["counts"] == copy.counts and len(log["changes"]) == len(copy.changes)
    unusable = {"unusable_split", "label_without_image", "duplicate_annotation_id"}  # nothing of them is in the copy
    mended = {error.kind for error in inspection.errors} - unusable - {"inverted_box", "not_normalized"}
    assert mended - {"duplicate_category"} <= set(copy.counts)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_second_copy_changes_nothing(checked: tuple[Planted, Inspection], tmp_path: Path) -> None:
    first = write_clean_copy(checked[1], tmp_path / "first")
    second = write_clean_copy(inspect_dataset(first.folder), tmp_path / "second")
    assert second.changes == ()
    for split in first.images:
        one, other = (open_dataset(copy.folder, split) for copy in (first, second))
        assert one.coco_ground_truth()["annotations"] == other.coco_ground_truth()["annotations"]
