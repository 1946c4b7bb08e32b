"""Entry point of ``python -m iccld``, which is the same as ``iccld``."""

from __future__ import annotations

import sys

from iccld.cli import main

if __name__ == "__main__":
    sys.exit(main())
