"""What counting costs: multiply-adds of DQ-DETR's counter and of the light one, and their share of the whole detector.

    python benchmarks/counting_cost.py [--quick] [--rounds N]

For the finest memory level of an 800 x 800 image at width 256 (200 x 200 cells), as in lsq_detr_r50, and the time at
width 128 on 64 x 64 cells. --quick: only the small one, and the share in lsq_detr_nano.
"""

from __future__ import annotations

from functools import partial

import torch
from measuring import Recording, parser, recording

from smidgen.evaluation.cost import profile
from smidgen.models import create_model
from smidgen.recipes.counting import COUNTERS, counter_gmacs


@torch.inference_mode()
def main() -> None:
    options = parser(__doc__, rounds=7).parse_args()
    with recording(__file__, options) as record:
        for width, cells in [(128, 64)] if options.quick else [(128, 64), (256, 200)]:
            count_multiply_adds(record, width, cells)
        counters = {name: make(128) for name, make in COUNTERS.items()}
        maps, padding = torch.randn(1, 128, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
        calls = {name: partial(counter, maps, padding) for name, counter in counters.items()}
        record.measure("width 128, 64 x 64 cells, forward", calls, against="categorical")
        shares = [(256, "lsq_detr_nano")] if options.quick else [(256, "lsq_detr_nano"), (800, "lsq_detr_r50")]
        for size, model in shares:
            count_share(record, model, size)


def count_multiply_adds(record: Recording, width: int, cells: int) -> None:
    costs = {f"{name}_gmacs": counter_gmacs(make(width), width, (cells, cells)) for name, make in COUNTERS.items()}
    share = costs["light_gmacs"] / costs["categorical_gmacs"]
    record.count(f"width {width}, {cells} x {cells} cells", **costs, light_share=share)


def count_share(record: Recording, name: str, size: int) -> None:
    """The counter's share of a whole detector."""
    for counting, make in COUNTERS.items():
        detector = create_model(name, num_classes=9, counting=counting)
        width, stride = detector.config.transformer.width, detector.config.backbone.strides[0]
        whole = profile(detector, size_hw=(size, size), latency=False).gmacs_without_sampling
        part = counter_gmacs(make(width), width, (size // stride, size // stride))
        record.count(f"{name}, {size} x {size}, {counting}", gmacs=part, of_gmacs=whole, share=part / whole)


if __name__ == "__main__":
    main()
