"""Tar archives are read in place like folders. The reference is ``tarfile.extractfile``."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iccld import archives
from iccld.data.folders import files_below
from iccld.errors import InputError
from iccld.files import open_regular, read_bounded

_NAMES = st.text("abö.-_ ", min_size=1, max_size=120).filter(lambda name: name.strip(". ") == name)


def write_tar(path: Path, files: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@given(
    files=st.dictionaries(_NAMES, st.binary(max_size=3000), max_size=8),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_equal_those_of_tarfile(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], form: int
) -> None:
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", files, format=form)
    with tarfile.open(path) as tar:
        expected = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert list(archives.members(path)) == list(expected)
    for name, data in expected.items():
        assert read_bounded(path / name, 3000) == data
        with open_regular(path / name) as handle:
            handle.seek(len(data) // 2)
            assert handle.read() == data[len(data) // 2 :]


def test_a_member_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"x": b"12345"})
    with pytest.raises(InputError, match=r"a\.tar/x: is larger"):
        read_bounded(path / "x", 4)


def test_a_missing_member_is_a_missing_file(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"x": b"1"})
    with pytest.raises(InputError, match=r"a\.tar/y: cannot be read"):
        read_bounded(path / "y", 4)


def test_a_folder_that_ends_in_tar_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "a.tar" / "x").write_bytes(b"7")
    assert read_bounded(tmp_path / "a.tar" / "x", 4) == b"7"


def test_links_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"entry{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert not archives.members(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../x.png", "a/../../x.png", "a//x.png"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "a.tar", {name: b"1"})
    with pytest.raises(InputError, match="has a file with the name"):
        list(files_below(tmp_path, lambda name: name.endswith(".png"), in_archives=lambda path: True))


def test_archives_are_listed_only_on_request(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"f/x.png": b"1", "y.txt": b"2"})

    def wanted(name: str) -> bool:
        return name.endswith(".png")

    assert not list(files_below(tmp_path, wanted))
    assert list(files_below(tmp_path, wanted, in_archives=lambda path: True)) == [
        tmp_path / "a.tar" / "f" / "x.png"
    ]


def test_an_archive_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "a.tar", {"x.png": b"1"})
    os.symlink(tmp_path / "a.tar", tmp_path / "data" / "b.tar")
    with pytest.raises(InputError, match="leads out of the folder"):
        list(files_below(tmp_path / "data", lambda name: True, in_archives=lambda path: True))


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"x": b"1" * 5000, "y": b"2" * 5000}).read_bytes()
    compressed = write_tar(tmp_path / "c.tar", {"x": b"1"}).read_bytes()
    cuts = (whole[:4000], whole[:6000], whole[:5632], b"", b"text" * 500, gzip.compress(compressed))
    for number, data in enumerate(cuts):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"{number}\.tar: is no uncompressed tar archive"):
            archives.members(path)


def test_a_header_of_any_length_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with open(tmp_path / "a.tar", "wb") as handle:
        handle.write(info.tobuf(tarfile.GNU_FORMAT))
        handle.truncate(1 << 31)  # a sparse file
    with pytest.raises(InputError, match="a header is too long"):
        archives.members(tmp_path / "a.tar")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(InputError, match="is no regular file"):
        archives.members(tmp_path / "a.tar")


def test_members_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "x.tar").mkdir()
    path = write_tar(tmp_path / "x.tar" / "a.tar", {"./b.png": b"3"})
    assert read_bounded(path / "b.png", 4) == b"3", "also below a folder whose name ends in .tar"
    assert list(files_below(tmp_path, lambda name: True, in_archives=lambda path: True)) == [path / "b.png"]


def test_chained_headers_end_in_one_line(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(InputError, match="is no uncompressed tar archive"):
        archives.members(tmp_path / "a.tar")
