"""Local copies of folders and files in object storage, for data sets and models that are read several times."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from iccld import remote
from iccld.documents import read_json, typed
from iccld.errors import InputError
from iccld.files import AnyPath, in_bytes, replacing, write_json
from iccld.progress import track

CACHE = "ICCLD_CACHE"
"""Environment variable with the folder of local copies. The default is ``~/.cache/iccld``."""
_INDEX = ".iccld-mirror-"
_THREADS = 16


def local_copy(path: AnyPath) -> Path:
    """Returns a local path. A URL (``iccld.remote``) is copied first. Any other path is returned as it is.

    Files with the size and tag of an earlier copy are not copied again. Files that the storage no longer has are
    removed. Raises ``InputError`` if the URL cannot be read.
    """
    url = remote.url_of(path)
    if url is None:
        return Path(path)
    found, base = remote.find(url), url.rstrip("/")
    name = ""
    if "" in found:  # the URL of a file
        base, _, name = base.rpartition("/")
        found = {name: found[""]}
    top = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "iccld")
    folder = top / hashlib.sha256(base.encode()).hexdigest()[:16] / base.rpartition("/")[2]
    index = folder / f"{_INDEX}{name}.json"
    try:
        before = typed(dict[str, dict[str, Any]], read_json(index, limit=2**31), str(index))
    except InputError:  # there is no earlier copy, or its index is damaged
        before = {}
    stale = [n for n, facts in found.items() if before.get(n) != facts or not (folder / n).is_file()]

    def fetch(name: str) -> None:
        with replacing(folder / name) as temporary:
            remote.fetch(f"{base}/{name}", temporary)
            if temporary.stat().st_size != found[name]["size"]:
                raise InputError(f"{base}/{name}: changed while it was copied; try again when it is complete")

    if stale:
        amount = in_bytes(sum(found[name]["size"] for name in stale))
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in track(threads.map(fetch, stale), len(stale), f"copying {amount} from {url}"):
                pass
    for gone in before.keys() - found.keys():
        (folder / gone).unlink(missing_ok=True)
    write_json(index, found)
    return folder / name
