"""Access to the Hugging Face hub: download of a model by its id, upload of a model, and one-line error messages."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from iccld.errors import InputError, first_line
from iccld.escaping import drawing_on_stderr
from iccld.progress import is_live

_LOG_IN = "log in with 'hf auth login' or set HF_TOKEN"
# Error messages by the name of the error's class. Names are used because the classes of connection errors depend on the
# HTTP client of the installed version of ``huggingface_hub``.
_MEANINGS = {
    "RevisionNotFoundError": "it has no such revision",
    "GatedRepoError": "its owner has to grant you access",
    "LocalTokenNotFoundError": f"there is no valid token; {_LOG_IN}",
    "RepositoryNotFoundError": f"there is no such repository, or it is private: then {_LOG_IN}",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    "LocalEntryNotFoundError": "no connection, or HF_HUB_OFFLINE is set, and no copy in the cache",
    **dict.fromkeys(("TransportError", "ConnectionError", "TimeoutError"), "no connection: {said}"),
}


def split_id(text: str) -> tuple[str, str | None] | None:
    """Splits ``user/model[@revision]`` into the id and the revision, which is ``None`` if it is missing.

    Returns ``None`` if the text has another form.
    """
    repo_id, _, revision = text.partition("@")
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        return None
    return repo_id, revision or None


def check_repo_id(repo_id: str) -> None:
    """Raises ``InputError`` if a text cannot be the name of a hub repository. The message describes valid names."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
        if split_id(repo_id) != (repo_id, None):
            raise HFValidationError("it has the form user/model")
    except HFValidationError as error:
        why = _without_secrets(first_line(error))
        raise InputError(f"{repo_id}: cannot be the name of a repository ({why}); give USER/MODEL") from error


def fetch(
    repo_id: str, revision: str | None, patterns: Sequence[str], *, dataset_into: Path | None = None
) -> Path:
    """Returns the cached folder of a hub repository. Downloads missing files that match the glob patterns.

    ``dataset_into`` is the folder for the files of a data set, which are not cached. Without it, the repository is a
    model. Raises ``InputError`` if the repository cannot be read.
    """
    from huggingface_hub import snapshot_download

    kind = None if dataset_into is None else "dataset"
    choice: dict[str, Any] = {"revision": revision, "repo_type": kind, "local_dir": dataset_into}
    try:
        with _bars_in_terminals_alone():
            return Path(str(snapshot_download(repo_id, allow_patterns=list(patterns), **choice)))
    except Exception as error:  # the hub's client raises many kinds of exceptions
        name = f"{repo_id}@{revision}" if revision else repo_id
        raise InputError(
            f"{name}: no such folder, and the hub could not give a {kind or 'model'} of that id ({_explain(error)}); "
            "check the path, or the id and the connection"
        ) from error


def push_files(
    write: Callable[[Path], Sequence[str]], repo_id: str, *, private: bool = False, token: str | None = None
) -> tuple[str, list[str]]:
    """Uploads files to a hub repository in one commit. Returns the URL of the repository and the names of the files.

    Args:
        write: Function that writes the files to a given empty folder and returns the names of the files.
        repo_id: Repository ``user/model``. A missing repository is created.
        private: Whether a new repository is private.
        token: Access token. ``None`` uses the account that is logged in.

    Raises:
        InputError: The repository cannot be created, or the upload failed. No file is uploaded in these cases.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        files = list(write(Path(folder)))  # before create_repo, so that an error creates no repository
        what = "nothing"
        try:
            address = str(api.create_repo(repo_id, private=private, exist_ok=True))
            what = "the repository is there, but nothing"
            with _bars_in_terminals_alone():
                api.upload_folder(repo_id=repo_id, folder_path=folder)
        except Exception as error:
            raise InputError(f"{repo_id}: {what} was uploaded ({_explain(error, writing=True)})") from error
    return address, files


def _explain(error: Exception, *, writing: bool = False) -> str:
    """Returns a short explanation of an error of the hub's client. ``writing`` is ``True`` for uploads."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if writing and status == 401:
        return _MEANINGS["LocalTokenNotFoundError"]
    if status == 403:
        return "your account may not do this; check the name and the rights of your token"
    said = _without_secrets(first_line(error))
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next((_MEANINGS[kind].format(said=said) for kind in kinds if kind in _MEANINGS), said)


def _without_secrets(text: str) -> str:
    """Replaces access tokens by "…". Keys and passwords in URLs are replaced too."""
    own = os.environ.get("HF_TOKEN", "").strip()
    if len(own) >= 8:
        text = text.replace(own, "…")
    text = re.sub(r"\bhf_\w{8,}|(?<=://)[^/\s@]+(?=@)", "…", text)
    return re.sub(r"(?i)(\bbearer\s+|\b(?:token|key|signature)=)[^\s&'\"]+", r"\1…", text)


@contextlib.contextmanager
def _bars_in_terminals_alone() -> Iterator[None]:
    """Hides the progress bars of the hub's client if stderr is not a terminal, so that log files contain no bars."""
    from huggingface_hub import utils

    hides = not is_live() and not utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    try:
        if hides:
            utils.disable_progress_bars()  # type: ignore[attr-defined]
        with drawing_on_stderr():
            yield
    finally:
        if hides:
            utils.enable_progress_bars()  # type: ignore[attr-defined]
