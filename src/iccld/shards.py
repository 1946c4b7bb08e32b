"""Division of a command's images among processes that do not communicate (``--shard I/N``)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from iccld.errors import InputError

_MOST = 1_000_000


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 0) of ``count`` parts. A hash of an image's name decides which part has the image."""

    index: int
    count: int

    def takes(self, name: str) -> bool:
        """Returns whether the image with this name belongs to the shard."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """Name of the shard in file names, such as ``0-of-8``."""
        return f"{self.index}-of-{self.count}"


WHOLE = Shard(0, 1)


def parse_shard(text: str, what: str = "--shard") -> Shard:
    """Parses ``I/N``. Raises ``InputError`` unless 0 ≤ I < N. ``what`` names the text in the message."""
    match = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 0 <= index < count <= _MOST:
        example = "0/8, 1/8, … 7/8 for eight processes"
        raise InputError(f"{what} {text!r}: is no part I/N with I from 0 to N - 1; give {example}")
    return Shard(index, count)
