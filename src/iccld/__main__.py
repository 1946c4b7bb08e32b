"""Entry point of ``python -m iccld``, which does the same as the command ``iccld``."""

from __future__ import annotations

import sys

from iccld.cli import main

if __name__ == "__main__":
    sys.exit(main())
