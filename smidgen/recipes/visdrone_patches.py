"""VisDrone-DET prepared as QueryDet's authors do: training images cut into four, the others whole, in COCO layout.

    python -m smidgen.recipes.visdrone_patches DATA OUT [--workers 4]

DATA has the unpacked VisDrone2019-DET-train, VisDrone2019-DET-val and others as they are distributed; 6471 training
images become 25,884. OUT is then what --data of `query_det.visdrone` wants. The rule and how ignored regions are
treated stand in `smidgen.data.visdrone`; --without-ignored-regions leaves them out, as the released code does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from smidgen.data.visdrone_patches import prepare_visdrone


def main(arguments: list[str] | None = None) -> None:
    """Command line; what was left out is said on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the unpacked distribution")
    parser.add_argument("out", type=Path, help="folder for <split>/annotations.json and <split>/images/")
    parser.add_argument("--cut", nargs="*", default=["train"], help="splits to cut into four")
    parser.add_argument("--without-ignored-regions", action="store_true", help="teach them as background")
    parser.add_argument("--workers", type=int, default=1, help="threads")
    options = parser.parse_args(arguments)
    try:
        found = prepare_visdrone(
            options.data,
            options.out,
            cut=options.cut,
            keep_ignored_regions=not options.without_ignored_regions,
            workers=options.workers,
            progress=_say,
        )
    except ValueError as error:
        parser.error(str(error))
    for split, notes in found.items():
        for line in notes.lines():
            print(f"{split}: {line}", file=sys.stderr)
    print(options.out)


def _say(done: int, total: int) -> None:
    """Every 500 images, and at the end."""
    if done % 500 == 0 or done == total:
        print(f"{done} of {total} images", file=sys.stderr)


if __name__ == "__main__":
    main()
