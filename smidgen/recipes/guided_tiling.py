"""Guided tiling measured: how many tiles of sparse scenes need a look, and what is lost with the others.

    smidgen synth scenes --count 400 --val-count 100 --size 128x128 --objects 6-24 --density 3-12 --classes car
    smidgen train query_det_nano --recipe small_budget.scenes --data scenes --out RUN \
        --set "data.augmentation.short_sides=[80,96,128]"
    smidgen synth reduced --count 800 --val-count 60 --size 256x256 --objects 12-24 --density 1-5 --seed 11 \
        --classes car
    smidgen train query_det_nano --recipe small_budget.scenes --data reduced --init RUN/best --out GUIDE --epochs 6 \
        --set "data.augmentation.short_sides=[112,128,144]" --set data.augmentation.long_side=144
    smidgen synth sparse --count 40 --val-count 40 --size 2048x2048 --objects 12-24 --density 4-14 --seed 7 \
        --classes car
    python -m smidgen.recipes.guided_tiling RUN --guide-model GUIDE --data sparse --out DIR --scale 0.5 --block 512 \
        --seen-at 256 --recalls 0.95 0.99 0.995 1.0 --detect-on 20

The guide is taught with scenes at half their size, which is how it sees them from afar.
The thresholds are chosen on one split (--choose-on) for the recalls asked for, and everything is measured on the other.
--seen-at is the side at which the model sees a tile, its own by default; with the tile's side nothing is resized.
Writes guided_tiling.json and guided_tiling.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from smidgen.analysis.guide_tradeoff import RECALLS, GuideTradeoff, guide_picture, measure_guide
from smidgen.checkpoints import load
from smidgen.checkpoints.atomic_write import write_atomically
from smidgen.data import open_dataset
from smidgen.inference.guided_tiling import Guide
from smidgen.inference.tiling import Tiling
from smidgen.models import create_model


def seen_at(model: nn.Module, side_px: int | None) -> nn.Module:
    """The same weights for inputs of this side (None: as it is)."""
    if side_px is None:
        return model
    config: Any = model.config
    preprocessing = replace(config.preprocessing, short_side=side_px, long_side=side_px)
    config = replace(config, preprocessing=preprocessing)
    changed: nn.Module = create_model(str(model.name), classes=model.classes, config=config)  # type: ignore[arg-type]
    changed.load_state_dict(model.state_dict())
    return changed.eval()


def written(tradeoff: GuideTradeoff, out: Path) -> tuple[Path, Path]:
    """guided_tiling.json and guided_tiling.png in `out`."""
    values, text = out / "guided_tiling.json", json.dumps(tradeoff.to_json(), indent=1) + "\n"
    picture = guide_picture(tradeoff).save(out / "guided_tiling.png")
    write_atomically(values, lambda partial: partial.write_text(text, encoding="utf-8"))
    return values, picture


def main() -> None:
    """Command line."""
    options, parser = _options()
    try:
        model = seen_at(load(options.run, options.device), options.seen_at)
        guide_model = None if options.guide_model is None else load(options.guide_model, options.device)
        guide = Guide(scale=options.scale, block_px=options.block, model=guide_model)
        found = measure_guide(
            model,
            open_dataset(options.data, options.choose_on),
            open_dataset(options.data, options.split),
            Tiling(tile_px=options.tile, overlap=options.overlap),
            guide,
            recalls=options.recalls,
            detect_on=options.detect_on,
            protocol=options.protocol,
            progress=lambda done, of: print(f"{done} of {of} images", flush=True),
        )
        paths = written(found, options.out)
    except ValueError as error:
        parser.error(str(error))
    for point in found.points:
        asked = "all tiles" if point.wanted_recall is None else f"recall {point.wanted_recall:g}"
        print(
            f"{asked:12} {point.share:6.1%} of the tiles, {point.recall:6.1%} of the objects in them, "
            f"{point.found:6.1%} found, AP50 {point.metrics['AP50']:.3f}, {point.seconds:.2f} CPU s an image"
        )
    print(", ".join(map(str, paths)))


def _options() -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run or checkpoint folder of the detector")
    parser.add_argument("--guide-model", type=Path, help="another model whose maps guide (query_det, salience_detr)")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--choose-on", default="train", help="split on which thresholds are chosen")
    parser.add_argument("--split", default="val", help="split on which everything is measured")
    parser.add_argument("--out", type=Path, required=True, help="folder for the numbers and the picture")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--seen-at", type=int, help="side at which the model sees a tile, px")
    parser.add_argument("--scale", type=float, default=0.25, help="of the look from afar")
    parser.add_argument("--block", type=int, help="side of the blocks in which the reduced image is shown, px")
    parser.add_argument("--recalls", type=float, nargs="*", default=list(RECALLS))
    parser.add_argument("--detect-on", type=int, help="number of images that the detector sees; all by default")
    parser.add_argument("--protocol", default="coco")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(), parser


if __name__ == "__main__":
    main()
