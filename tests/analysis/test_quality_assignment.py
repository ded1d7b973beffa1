"""What the one-to-many rule hands out, by layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from observation_cases import normalized, observation

from smidgen.analysis import count_assignments, observe, quality_assignment_chart
from smidgen.analysis.observation import Observation
from smidgen.analysis.quality_assignment import why_no_quality
from smidgen.assignment import QualityOneToMany
from smidgen.models import create_model
from smidgen.structures import ImageBatch, Predictions, Target

OBJECT, TWIN, ELSEWHERE = [8.0, 8.0, 24.0, 24.0], [8.0, 8.0, 24.0, 24.0], [40.0, 40.0, 60.0, 60.0]


def seen(objects: list[list[float]], rows: list[list[float]], **rule: float) -> Observation:
    """Two earlier layers that answer `rows` with no confidence at all; image 1 has no object."""
    layer = Predictions(torch.full((2, len(rows), 1), -30.0), normalized(rows).expand(2, -1, -1))
    found = observation(boxes=objects)
    output = replace(found.output, auxiliary=(layer, layer))
    return replace(found, output=output, quality=QualityOneToMany(**rule))  # type: ignore[arg-type]


def test_perfect_queries_make_an_object_ask_for_more() -> None:
    counts = count_assignments(seen([OBJECT], [OBJECT, OBJECT, ELSEWHERE]))
    first, second = counts.to_json()["layers"]
    assert (first["asked_per_object"], first["positives_per_object"]) == (2, 2)
    assert first["mean_iou"] == pytest.approx(1) and first["poor"] == first["contested"] == 0
    assert second == first | {"layer": 1}


def test_objects_that_want_the_same_query_conflict() -> None:
    (row, _) = count_assignments(seen([OBJECT, TWIN], [OBJECT, ELSEWHERE])).to_json()["layers"]
    assert row["contested"] == 1, "both ask for the one good query"
    assert row["poor"] == 0.5, "the loser is given one elsewhere"
    assert row["positives_per_object"] == 1


def test_batches_add_up_and_nothing_is_divided_by_nothing() -> None:
    one, none = (count_assignments(seen(objects, [OBJECT, ELSEWHERE])) for objects in ([OBJECT], []))
    both = one + none
    assert both.images == 4 and both.objects == 1 and both.to_json()["layers"] == one.to_json()["layers"]
    assert none.to_json()["layers"][0]["positives_per_object"] is None
    with pytest.raises(ValueError, match="layers"):
        _ = one + replace(one, asked=one.asked[:1])
    assert quality_assignment_chart(none).data == none.to_json()


@pytest.mark.parametrize("mode", ["replaces", "both"])
def test_the_rule_is_that_of_the_models_training(mode: str) -> None:
    image, target = (
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        Target.of(torch.tensor([OBJECT]), torch.tensor([0]), (64, 64)),
    )
    model = create_model("paq_dino_nano", num_classes=2, quality={"mode": mode, "num_candidates": 2}).eval()
    found = observe(model, ImageBatch.collate([image]), [target])
    assert found.quality is not None and found.quality.num_candidates == 2
    assert len(count_assignments(found).asked) == 2


def test_why_there_is_none_is_said() -> None:
    assert "one to many" in (why_no_quality(observation()) or "")
    with pytest.raises(ValueError, match="one to many"):
        count_assignments(observation())
    alone = seen([OBJECT], [OBJECT])
    assert "before the last" in (why_no_quality(replace(alone, output=replace(alone.output, auxiliary=()))) or "")
