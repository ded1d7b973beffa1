"""`python -m smidgen` is the command `smidgen`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; Ctrl-C while it is still being imported ends it as quietly as later on."""
    try:
        from smidgen.cli.app import main as run

        return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
