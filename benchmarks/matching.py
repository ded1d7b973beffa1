"""What matching together and building denoising queries at once save: ratios of one run.

Matching: 4 images x 900 queries x 500 objects, one set, and the seven sets of a step (six decoder layers and the
proposals). The peer builds one cost matrix of all queries against all images' objects and cuts the diagonal blocks out
of it, set by set, as the DETR family's released code does. Denoising: the peers walk over copies and images, all
objects of an image at once, and over every single object. All peers are written here; each is checked to give the same
answer before it is timed.

    python benchmarks/matching.py [--images 4] [--queries 900] [--objects 500] [--sets 7] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from measuring import Recording, parser, recording
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from smidgen.assignment import HungarianAssignment
from smidgen.boxes import inverse_sigmoid
from smidgen.boxes.host_matching import MatchRequest, match_together
from smidgen.queries.denoising import ContrastiveDenoising, DenoisingNoise
from smidgen.structures import Matches, Predictions, Target

NUM_CLASSES = 80
WIDTH = 256
DENOISED = (10, 50)  # objects per image, beside those that were asked for


def main() -> None:
    options = _options()
    with recording(__file__, options) as record:
        targets = tuple(_target(options.objects) for _ in range(options.images))
        sets = [_predictions(options.images, options.queries, targets) for _ in range(options.sets)]
        for chosen in (sets[:1], sets):
            measure_matching(record, chosen, targets)
        for objects in (*DENOISED, options.objects):
            measure_denoising(record, [_target(objects) for _ in range(options.images)])


def measure_matching(record: Recording, sets: Sequence[Predictions], targets: tuple[Target, ...]) -> None:
    """All sets together, set by set, and set by set in the concatenated form."""
    rule = HungarianAssignment()
    ways = {
        "concatenated": partial(set_by_set, partial(concatenated_matching, rule), sets, targets),
        "set by set": partial(set_by_set, rule, sets, targets),
        "together": partial(matched_together, rule, sets, targets),
    }
    for way in ("set by set", "together"):
        for ours, peers in zip(ways[way](), ways["concatenated"](), strict=True):
            assert torch.equal(ours.query, peers.query) and torch.equal(ours.target, peers.target)
    images, queries = sets[0].logits.shape[:2]
    name = f"matching of {len(sets)} sets, {images} images x {queries} queries x {len(targets[0])} objects"
    record.measure(name, ways, against="concatenated")


def matched_together(
    rule: HungarianAssignment, sets: Sequence[Predictions], targets: tuple[Target, ...]
) -> list[Matches]:
    """As a training step does it."""
    return match_together([MatchRequest(rule, each, targets) for each in sets])


def set_by_set(match, sets: Sequence[Predictions], targets: tuple[Target, ...]) -> list[Matches]:  # type: ignore[no-untyped-def]
    """One set after the other."""
    return [match(each, targets) for each in sets]


def concatenated_matching(rule: HungarianAssignment, predictions: Predictions, targets: Sequence[Target]) -> Matches:
    """All queries against all objects, then each image's block."""
    batch, queries, classes = predictions.logits.shape
    flat = Predictions(
        predictions.logits.reshape(1, batch * queries, classes), predictions.boxes_cxcywh.reshape(1, batch * queries, 4)
    )
    # One image's worth of objects in shares of 1 x 1, so that images of different sizes can stand side by side.
    corners = torch.cat(
        [target.boxes_xyxy / target.boxes_xyxy.new_tensor(target.size_hw[::-1] * 2) for target in targets]
    )
    everything = Target.of(corners, torch.cat([target.labels for target in targets]), (1, 1))
    (cost,) = rule.costs(flat, [everything])
    blocks = cost.reshape(batch, queries, -1).cpu().split([len(target) for target in targets], dim=-1)
    pairs = [linear_sum_assignment(block[image].numpy()) for image, block in enumerate(blocks)]
    image = torch.cat([torch.full((len(query),), index) for index, (query, _) in enumerate(pairs)])
    query, target = (torch.cat([torch.from_numpy(pair[side]) for pair in pairs]) for side in range(2))
    return Matches(image, query, target)


def measure_denoising(record: Recording, targets: Sequence[Target]) -> None:
    """Content and reference of DINO's denoising queries."""
    part = ContrastiveDenoising(NUM_CLASSES, WIDTH, max_objects=None)
    groups = part.group_rule(max(len(target) for target in targets))
    noise = DenoisingNoise.draw(2 * groups * sum(len(target) for target in targets), NUM_CLASSES)
    ways = {
        "object by object": partial(looped_denoising, part, targets, groups, noise, each_object=True),
        "image by image": partial(looped_denoising, part, targets, groups, noise),
        "at once": partial(denoising_at_once, part, targets, noise),
    }
    with torch.no_grad():
        content, reference = ways["at once"]()
        for way in ("object by object", "image by image"):
            assert torch.equal(content, ways[way]()[0])
            torch.testing.assert_close(reference, ways[way]()[1], atol=1e-6, rtol=0)
        name = f"denoising of {len(targets)} images x {len(targets[0])} objects, {groups} groups"
        record.measure(name, ways, against="object by object")


def denoising_at_once(
    part: ContrastiveDenoising, targets: Sequence[Target], noise: DenoisingNoise
) -> tuple[Tensor, Tensor]:
    """As a detector does it, known matches included."""
    queries = part(targets, noise)
    return queries.content, queries.reference


def looped_denoising(
    part: ContrastiveDenoising,
    targets: Sequence[Target],
    groups: int,
    noise: DenoisingNoise,
    each_object: bool = False,
) -> tuple[Tensor, Tensor]:
    """Filled copy by copy and image by image; each_object: and object by object."""
    most = max(len(target) for target in targets)
    content = torch.zeros(len(targets), 2 * groups * most, part.label_encoder.embedding_dim)
    reference = torch.full((len(targets), 2 * groups * most, 4), 0.5)
    row = 0
    for copy in range(2 * groups):
        for image, target in enumerate(targets):
            boxes = target.boxes_cxcywh
            step = 1 if each_object else max(1, len(target))
            for start in range(0, len(target), step):
                objects, here = slice(start, start + step), slice(row, row + step)
                slots = slice(copy * most + start, copy * most + start + step)
                labels = torch.where(
                    noise.flip[here] < part.flip_probability, noise.labels[here], target.labels[objects]
                )
                content[image, slots] = part.label_encoder(labels)
                move = (2 * noise.direction[here] - 1) * (noise.amount[here] + copy % 2) * part.box_noise
                reference[image, slots] = inverse_sigmoid(_moved(boxes[objects], move), part.eps).sigmoid()
                row += step
    return content, reference


def _moved(boxes_cxcywh: Tensor, move: Tensor) -> Tensor:
    half = boxes_cxcywh[:, 2:] / 2
    corners = torch.cat([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], dim=1)
    corners = (corners + move * half.repeat(1, 2)).clamp(0, 1)
    return torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)


def _predictions(images: int, queries: int, targets: Sequence[Target]) -> Predictions:
    """Boxes near objects, as in a network that has learned something."""
    chosen = [target.boxes_cxcywh[torch.randint(len(target), (queries,))] for target in targets]
    boxes = torch.stack([boxes * (1 + 0.1 * torch.randn(queries, 4)) for boxes in chosen])
    return Predictions(torch.randn(images, queries, NUM_CLASSES), boxes.clamp(1e-3, 1))


def _target(num_objects: int) -> Target:
    corners = torch.rand(num_objects, 2) * 900
    boxes = torch.cat([corners, corners + torch.rand(num_objects, 2) * 60 + 4], dim=1)
    return Target.of(boxes, torch.randint(0, NUM_CLASSES, (num_objects,)), (1000, 1000))


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=5, images=(4, 2), queries=(900, 100), objects=(500, 40), sets=(7, 3))
    return options.parse_args()


if __name__ == "__main__":
    main()
