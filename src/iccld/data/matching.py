"""Images of a folder, and the files that match a glob pattern of ``dataset.toml``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from iccld.archives import ENDING
from iccld.data.folders import data_glob, data_key, files_below, fixed_folders
from iccld.data.image_files import is_image_name
from iccld.errors import InputError


def list_images(
    folder: Path, below: Path | None = None, *, in_archives: Callable[[str], bool] | None = None
) -> list[Path]:
    """Returns the sorted image files of a folder and its subfolders. Hidden files are skipped."""
    return sorted(files_below(folder, is_image_name, below, in_archives=in_archives))


def match_glob(root: Path, pattern: str) -> dict[tuple[str, ...], tuple[str, Path]]:
    """Finds the image files that match a glob pattern of ``dataset.toml``. ``*.tar/`` matches archives.

    Returns:
        Key (``iccld.data.folders.data_key``) → (name, file). An image and a label map with the same key are a pair. The
        name is the file's path without the folders before the first wildcard.

    Raises:
        InputError: The pattern or a link leads out of ``root``, or two files have the same key.
    """
    folders, rest = fixed_folders(pattern, "*?{")
    mark = f"{ENDING}/"
    # The walk begins above the first archive, since an archive is no folder.
    while any(folder.endswith(ENDING) for folder in folders):
        rest = f"{folders.pop()}/{rest}"
    archive_glob = data_glob(rest.partition(mark)[0] + ENDING) if mark in rest else None
    base = Path(root, "/" if pattern.startswith("/") else "", *folders)
    found: dict[tuple[str, ...], tuple[str, Path]] = {}

    def is_wanted(archive: str) -> bool:
        return (
            archive_glob is not None
            and archive_glob.match(Path(archive).relative_to(base).as_posix()) is not None
        )

    for path in list_images(base, root, in_archives=is_wanted):
        name = path.relative_to(base).as_posix()
        key = data_key(rest, name)
        if key in found:
            raise InputError(
                f"{path}: has the same name as {found[key][0]}, so they cannot be told apart; remove one of them, "
                "or write a dataset.toml with one ending in its globs ('iccld data init' begins one)"
            )
        if key is not None:
            found[key] = (name, path)
    return found
