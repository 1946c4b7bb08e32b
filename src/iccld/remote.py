"""Files in object storage, such as ``s3://bucket/folder/image.png``, read and written with fsspec.

``pathlib`` turns ``s3://bucket`` into ``s3:/bucket``. Both forms are accepted, so URLs may be stored as paths.
Credentials and endpoints come from the usual environment variables and files of each service.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from iccld.errors import InputError, first_line, how_to_install

# URL scheme → package that fsspec needs.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    "sftp": "paramiko",
    **dict.fromkeys(("file", "memory"), ""),
}
_FORM = re.compile(rf"({'|'.join(_PACKAGES)}):/+(.*)", re.DOTALL)
_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5, "mode": "standard"}}


def url_of(path: str | os.PathLike[str]) -> str | None:
    """Returns the URL of a file or folder in object storage, or ``None`` for all other paths."""
    match = _FORM.fullmatch(os.fspath(path))
    if match is None:
        return None
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path or URL as text."""
    return url_of(path) or os.fspath(path)


def read(url: str, limit: int) -> bytes:
    """Returns the first ``limit`` bytes of a file, in one request."""
    with _explaining(url):
        return bytes(_system(url).cat_file(url, start=0, end=limit))


def fetch(url: str, local: str | os.PathLike[str]) -> None:
    """Downloads a file in parts, so that it need not fit into memory."""
    with _explaining(url):
        _system(url).get_file(url, os.fspath(local))


def write(url: str, local: str | os.PathLike[str]) -> None:
    """Uploads a local file. Other processes see the old file or the complete new file, never a part."""
    with _explaining(url):
        if not url.startswith("file:"):
            _system(url).put_file(os.fspath(local), url)
            return
        temporary = f"{url}.{os.getpid()}.tmp"  # a copy on a disk is visible before it is complete
        _system(url).put_file(os.fspath(local), temporary)
        _system(url).mv(temporary, url)


def remove(url: str) -> None:
    """Removes a file."""
    with _explaining(url):
        _system(url).rm_file(url)


def names(url: str) -> list[str]:
    """Returns the sorted names of the files and folders in a folder. A missing folder has none."""
    with _explaining(url):
        try:
            listed = _system(url).ls(url, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in listed)


def find(url: str) -> dict[str, dict[str, Any]]:
    """Lists all files below a folder. Returns path relative to the folder → size in bytes and tag of the content.

    A URL of a file gives one entry, whose path is empty. Raises ``InputError`` if there are no files, or if a path
    leads out of the folder.
    """
    with _explaining(url):
        system = _system(url)
        base = system._strip_protocol(url).rstrip("/")
        listed = system.find(base, detail=True)
    found = {}
    for path, facts in sorted(listed.items()):
        name = path.removeprefix(base).lstrip("/")
        if ".." in name.split("/"):
            raise InputError(f"{url}: has a file named {name!r}, which leads out of the folder; rename it")
        tag = facts.get("ETag") or facts.get("etag") or facts.get("mtime") or facts.get("created") or ""
        found[name] = {"size": int(facts["size"]), "tag": str(tag)}
    if not found:
        raise InputError(f"{url}: no such file or folder; check bucket and path")
    return found


@cache
def _open_system(scheme: str) -> Any:
    import fsspec

    options: dict[str, Any] = {"config_kwargs": _TIMES} if scheme.startswith("s3") else {}
    if scheme == "file":
        options = {"auto_mkdir": True}
    return fsspec.filesystem(scheme, use_listings_cache=False, **options)


def _system(url: str) -> Any:
    return _open_system(url.partition(":")[0])


@contextlib.contextmanager
def _explaining(url: str) -> Iterator[None]:
    """Replaces the errors of all services by ``InputError`` with one line."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        package = _PACKAGES[url.partition(":")[0]]
        how = how_to_install("cloud") if package == "s3fs" else f"run: pip install {package}"
        raise InputError(f"{url}: needs {package}, which is not installed; {how}") from error
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file or folder; check bucket and path") from error
    except PermissionError as error:
        raise InputError(f"{url}: access is denied; check the credentials in the environment") from error
    except Exception as error:  # every service has its own classes of errors
        raise InputError(f"{url}: cannot be reached ({first_line(error) or type(error).__name__})") from error
