"""`python -m vitrail`: the command line."""

from __future__ import annotations

import sys

from vitrail.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
