"""What holds for every member of the dense family: counts, batch mates, odd sizes, gradients, empty images, cost."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import detection

from smidgen.decoder.cascaded_head import ComputedCells
from smidgen.evaluation.flop_count import count_flops
from smidgen.losses.dense_loss import giou_of_deltas
from smidgen.losses.small_object_map import SmallObjectLoss
from smidgen.models import configure, create_criterion, create_model
from smidgen.structures import DenseOutput, Detections, ImageBatch, Target, evidence_of
from smidgen.structures.regions import RegionAnswers

ONE_STAGE = ["retinanet_nano", "fcos_nano", "query_det_nano", "query_det_fcos_nano"]
TWO_STAGE = ["faster_rcnn_nano", "query_det_faster_rcnn_nano"]
NANO = ONE_STAGE + TWO_STAGE


def _model(name: str, **settings: object) -> torch.nn.Module:
    torch.manual_seed(1)
    model = create_model(name, num_classes=4, **settings).eval()
    _disagree(model)
    return model


def _disagree(model: torch.nn.Module) -> None:
    """Untrained query maps say the same of every cell; after this some fire and some do not."""
    if getattr(model, "query_head", None) is not None:
        with torch.no_grad():
            model.query_head.prediction.weight.mul_(200.0)


def _image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _target(boxes: list[list[float]], labels: list[int], size_hw: tuple[int, int]) -> Target:
    return Target.of(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.long), size_hw
    )


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [("query_det_r50", 80, 40_934_069), ("query_det_r50", 10, 39_481_919), ("retinanet_r50", 80, 37_915_572)],
)
def test_parameters_are_those_of_the_official_model(name: str, num_classes: int, count: int) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_faster_rcnn_has_torchvisions_parameters_but_for_the_boxes_of_background() -> None:
    with torch.device("meta"):
        ours = create_model("faster_rcnn_r50", num_classes=90)
        theirs = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    norms = sum(
        parameter.numel()
        for module in theirs.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    boxes_of_background = 4 * (1024 + 1)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1] - norms - boxes_of_background


@pytest.mark.parametrize("name", NANO)
@torch.no_grad()
def test_batch_mates_change_nothing_on_the_same_canvas(name: str) -> None:
    model = _model(name)
    image, mate = _image(64, 90), _image(96, 50, 1)
    blank = torch.zeros(3, 96, 128, dtype=torch.uint8)
    alone = model.detect(ImageBatch.collate([image, blank], 32), [(64, 90), (96, 128)])[0]
    crowded = model.detect(ImageBatch.collate([image, mate, blank], 32), [(64, 90), (96, 50), (96, 128)])[0]
    _same(crowded, alone)


def _same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["query_det_nano", "query_det_faster_rcnn_nano"])
@pytest.mark.parametrize("size", [(32, 32), (1, 400)])
@torch.no_grad()
def test_odd_sizes_give_boxes_inside_the_image(name: str, size: tuple[int, int]) -> None:
    (found,) = _model(name).detect(ImageBatch.collate([_image(*size)], 32), [size])
    assert found.boxes_xyxy.isfinite().all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= torch.tensor([size[1], size[0], size[1], size[0]])).all()


@pytest.mark.parametrize("name", NANO)
def test_every_parameter_learns(name: str) -> None:
    model = create_model(name, num_classes=4).train()
    # A large and a small object, so that fine and coarse levels have positives; and an image without any.
    sizes = [(128, 128), (96, 128)]
    targets = [_target([[4, 4, 100, 90], [40, 40, 50, 52], [60, 4, 64, 9]], [0, 2, 3], sizes[0])]
    targets.append(_target([], [], sizes[1]))
    images = ImageBatch.collate([_image(*size, seed) for seed, size in enumerate(sizes)], 32)
    losses = create_criterion(model)(model(images, targets), targets, 0.0)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", NANO)
def test_a_batch_without_objects_trains(name: str) -> None:
    model = create_model(name, num_classes=4).train()
    targets = [_target([], [], (64, 64))]
    losses = create_criterion(model)(model(ImageBatch.collate([_image(64, 64)], 32), targets), targets, 0.0)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@torch.no_grad()
def test_without_a_cascade_every_cell_is_computed_and_with_the_full_context_keys_say_the_same() -> None:
    images = ImageBatch.collate([_image(96, 128), _image(64, 64, 1)], 32)
    dense = _model("query_det_nano", cascade=None)(images)
    sparse = _model("query_det_nano", cascade={"context": 4, "threshold": 0.5})(images)
    assert all(level.cells is None for level in dense.levels)
    computed = evidence_of(sparse.evidence, ComputedCells)
    assert computed is not None
    for index in (0, 1):
        keys = sparse.levels[index].cells
        assert keys is not None
        assert 0 < len(keys) < len(dense.levels[index].logits)
        torch.testing.assert_close(sparse.levels[index].logits, dense.levels[index].logits[keys.index])


def test_training_answers_everywhere_and_teaches_the_maps_of_p3_and_p4() -> None:
    output = create_model("query_det_nano", num_classes=2).train()(ImageBatch.collate([_image(64, 64)], 32))
    assert all(level.cells is None for level in output.levels)
    assert [(level, tuple(maps.shape)) for level, maps in output.query_logits] == [(1, (1, 8, 8)), (2, (1, 4, 4))]


def test_a_cascade_that_reads_untaught_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"maps of levels 1 to 3 .*model\.small_objects\.levels=\(1, 2\)"):
        create_model("query_det_nano", num_classes=1, cascade={"start": 3})


@pytest.mark.parametrize("levels", [(), (1, 2, 9), (-1, 1, 2)])
@pytest.mark.parametrize("name", ["query_det_nano", "query_det_fcos_nano", "query_det_faster_rcnn_nano"])
def test_maps_of_levels_that_do_not_exist_are_refused_before_training(name: str, levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"of some of the levels 0 to \d, got model\.small_objects\.levels="):
        create_model(name, num_classes=1, small_objects={"levels": levels})


def test_the_trunk_that_queries_share_runs_once() -> None:
    model, asked = _model("query_det_faster_rcnn_nano"), []
    model.head.trunk.register_forward_hook(lambda trunk, inputs, maps: asked.append(len(inputs[0])))
    images, targets = ImageBatch.collate([_image(64, 64)], 32), [_target([], [], (64, 64))]
    model(images)
    assert asked == [3], "densely P4 to P6 only; keys of P3 and P2 are read by kernels"
    output = model(images, targets)
    assert asked == [3, 5]
    for level, logits in output.query_logits:
        alone = model.query_head(model.neck(model.backbone(images.normalized(model.preprocessing))).levels[level])
        torch.testing.assert_close(logits, alone)


def test_the_box_loss_of_anchors_can_be_giou() -> None:
    for name in ("retinanet_nano", "query_det_nano"):
        model = create_model(name, num_classes=1, box_loss="giou")
        assert create_criterion(model).box_loss is giou_of_deltas


def test_one_field_of_an_optional_cascade_keeps_the_others() -> None:
    assert configure("query_det_nano", {"num_classes": 1, "cascade": {"threshold": 0.4}}).cascade.context == 2
    assert configure("query_det_nano", {"num_classes": 1, "cascade": None}).cascade is None
    with pytest.raises(ValueError, match=r"did you mean model\.cascade\.threshold"):
        configure("query_det_nano", {"num_classes": 1, "cascade": {"thresholds": 0.4}})


@torch.no_grad()
def test_regions_lie_in_their_images_and_no_more_than_asked_for() -> None:
    model = _model("query_det_faster_rcnn_nano", num_regions=50)
    output: DenseOutput = model(ImageBatch.collate([_image(64, 96), _image(96, 64, 1)], 32))
    answers = evidence_of(output.evidence, RegionAnswers)
    assert answers is not None
    for image, (height, width) in enumerate(output.sizes_hw):
        boxes = answers.regions.boxes_xyxy[answers.regions.image == image]
        assert 0 < len(boxes) <= 50
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()


SHARES = {  # of the whole detector at 800 x 1344, with stride 2 in the 3x3 convolutions (spec 5.1)
    ("retinanet_r50", (0,)): 0.431,
    ("retinanet_r50", (1, 2, 3, 4)): 0.144,
    ("query_det_r50", (0, 1)): 0.743,
}


@pytest.mark.parametrize("name", ["retinanet_r50", "query_det_r50"])
def test_shares_of_the_levels_are_those_that_the_paper_complains_of(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=80).eval()
    flops = count_flops(model, (800, 1344))
    for (system, levels), share in SHARES.items():
        if system == name:
            spent = sum(flops.by_part[f"head: level {level}"].everything for level in levels)
            assert spent / flops.total.everything == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("system", ["query_det_nano", "query_det_fcos_nano", "query_det_faster_rcnn_nano"])
def test_every_small_object_is_taught_to_a_cell_but_in_parity_mode(system: str) -> None:
    between_centers = torch.tensor([[45.0, 45.0, 51.0, 51.0]])  # 6 px where four cells of P4 meet
    for parity in (False, True):
        criterion = create_criterion(create_model(system, num_classes=2, parity=parity))
        dense_loss = getattr(criterion, "first", criterion)
        term = next(term for _, term in dense_loss.terms if isinstance(term, SmallObjectLoss))
        target = Target.of(between_centers, torch.zeros(1, dtype=torch.long), size_hw=(128, 128))
        assert term.targets((8, 8), 16, [target]).any().item() is not parity
