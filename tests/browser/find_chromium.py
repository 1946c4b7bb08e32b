"""Where the browser tests find Chromium; run as a script, it installs Debian's where none is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Without these a starting Chromium asks the network for updates; pages of the tests are files and loopback alone.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome: ``ICCLD_CHROMIUM``, else the first one on the path."""
    named = os.environ.get("ICCLD_CHROMIUM")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """Installs Chromium where that is possible without asking: as root, with apt."""
    if find_chromium():
        return 0
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("installing chromium", flush=True)
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=False)
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]
        subprocess.run(install, stdout=subprocess.DEVNULL, check=True)
    if find_chromium():
        return 0
    print("no Chromium: install chromium or Chrome, or name one in ICCLD_CHROMIUM", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
