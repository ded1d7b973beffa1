"""What matching per image and building denoising queries at once save: ratios of one run.

Matching: 4 images x 900 queries x 500 objects. The peer builds one cost matrix of all queries against all images'
objects and cuts the diagonal blocks out of it, as the DETR family's released code does. Denoising: the peer walks over
copies and images, all objects of an image at once. Both peers are written here; each pair is checked to give the same
answer before it is timed.

    python benchmarks/matching.py [--images 4] [--queries 900] [--objects 500] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from smidgen.assignment import HungarianAssignment
from smidgen.boxes import inverse_sigmoid
from smidgen.queries.denoising import ContrastiveDenoising, DenoisingNoise
from smidgen.structures import Matches, Predictions, Target

NUM_CLASSES = 80
WIDTH = 256


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    targets = [_target(options.objects) for _ in range(options.images)]
    boxes = torch.rand(options.images, options.queries, 4) * 0.5 + 0.1
    predictions = Predictions(torch.randn(options.images, options.queries, NUM_CLASSES), boxes)
    print(
        f"{options.images} images x {options.queries} queries x {options.objects} objects, 1 thread, median of", end=" "
    )
    print(f"{options.rounds}")
    _matching(predictions, targets, options.rounds)
    for objects in (10, 50, options.objects):
        _denoising([_target(objects) for _ in range(options.images)], 4 * options.rounds)


def _matching(predictions: Predictions, targets: Sequence[Target], rounds: int) -> None:
    rule = HungarianAssignment()
    ours, peers = rule(predictions, targets), concatenated_matching(rule, predictions, targets)
    assert torch.equal(ours.query, peers.query) and torch.equal(ours.target, peers.target)
    _report(
        "matching, per image",
        "concatenated batch",
        lambda: rule(predictions, targets),
        lambda: concatenated_matching(rule, predictions, targets),
        rounds,
    )


def _denoising(targets: Sequence[Target], rounds: int) -> None:
    part = ContrastiveDenoising(NUM_CLASSES, WIDTH, max_objects=None)
    groups = part.group_rule(max(len(target) for target in targets))
    noise = DenoisingNoise.draw(2 * groups * sum(len(target) for target in targets), NUM_CLASSES)
    with torch.no_grad():
        queries, (content, reference) = part(targets, noise), looped_denoising(part, targets, groups, noise)
        assert torch.equal(queries.content, content)
        torch.testing.assert_close(queries.reference, reference, atol=1e-6, rtol=0)
        _report(
            f"denoising of {len(targets[0])} objects, all at once",
            "image by image",
            lambda: part(targets, noise),
            lambda: looped_denoising(part, targets, groups, noise),
            rounds,
        )


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


def looped_denoising(
    part: ContrastiveDenoising, targets: Sequence[Target], groups: int, noise: DenoisingNoise
) -> tuple[Tensor, Tensor]:
    """Content and reference, filled copy by copy and image by image."""
    most = max(len(target) for target in targets)
    content = torch.zeros(len(targets), 2 * groups * most, part.label_encoder.embedding_dim)
    reference = torch.full((len(targets), 2 * groups * most, 4), 0.5)
    row = 0
    for copy in range(2 * groups):
        for image, target in enumerate(targets):
            here, slots = slice(row, row + len(target)), slice(copy * most, copy * most + len(target))
            labels = torch.where(noise.flip[here] < part.flip_probability, noise.labels[here], target.labels)
            content[image, slots] = part.label_encoder(labels)
            move = (2 * noise.direction[here] - 1) * (noise.amount[here] + copy % 2) * part.box_noise
            reference[image, slots] = inverse_sigmoid(_moved(target.boxes_cxcywh, move), part.eps).sigmoid()
            row += len(target)
    return content, reference


def _moved(boxes_cxcywh: Tensor, move: Tensor) -> Tensor:
    half = boxes_cxcywh[:, 2:] / 2
    corners = torch.cat([boxes_cxcywh[:, :2] - half, boxes_cxcywh[:, :2] + half], dim=1)
    corners = (corners + move * half.repeat(1, 2)).clamp(0, 1)
    return torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)


def _report(name: str, peer_name: str, ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> None:
    # Taken in turns, so that a busy moment of the machine falls on both.
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(rounds)]
    our_time, peer_time = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{name}: {our_time * 1e3:.1f} ms; {peer_name}: {peer_time * 1e3:.1f} ms; ratio {peer_time / our_time:.1f}x")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _target(num_objects: int) -> Target:
    corners = torch.rand(num_objects, 2) * 900
    boxes = torch.cat([corners, corners + torch.rand(num_objects, 2) * 60 + 4], dim=1)
    return Target.of(boxes, torch.randint(0, NUM_CLASSES, (num_objects,)), (1000, 1000))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--queries", type=int, default=900)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


if __name__ == "__main__":
    main()
