"""`python -m smidgen` is the command `smidgen`."""

from __future__ import annotations

import sys

from smidgen.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
