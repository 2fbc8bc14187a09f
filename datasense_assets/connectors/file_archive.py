"""Zip, gzip and tar.gz files: what is in them, and one member unpacked to a local file."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from datasense_assets.connectors.errors import BadData

MAX_UNPACKED_BYTES = 50 * 1024**3
_BROKEN = (zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)
_WORKBOOKS = frozenset({"xl/workbook.xml", "xl/workbook.bin", "content.xml"})


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def packing_of(path: Path) -> str:
    """`zip`, `tar` (gzipped), `gzip` or `plain`, by the first bytes and not by the name; a workbook is plain."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "plain" if is_workbook(path) else "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar" if _is_tar(path) else "gzip"
    return "plain"


def is_workbook(path: Path) -> bool:
    """Whether it is an Excel or OpenDocument workbook, of the packed or of the old kind."""
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return True
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_WORKBOOKS & set(archive.namelist()))
    except _BROKEN:
        return False


def members(path: Path, packing: str, where: str) -> list[str]:
    """Names of the files in a `zip` or `tar`.

    Raises:
        BadData: it is damaged.

    """
    with _archive_errors(where):
        if packing == "zip":
            with zipfile.ZipFile(path) as archive:
                # of two members of one name the later one is what every program unpacks
                return list(dict.fromkeys(item.filename for item in archive.infolist() if not item.is_dir()))
        with tarfile.open(path, "r:gz") as tar:
            return list(dict.fromkeys(item.name for item in tar if item.isfile()))


def unpack(path: Path, packing: str, member: str, target: Path, where: str) -> None:
    """Write the member's bytes to `target`; of a `gzip`, whatever the member.

    Raises:
        BadData: it is damaged, protected by a password or larger than 50 GB.

    """
    with _archive_errors(where), _opened(path, packing, member) as source, target.open("wb") as file:
        _copy(source, file, where)


def _copy(source: _Readable, file: BinaryIO, where: str) -> None:
    size = 0
    while chunk := source.read(1 << 20):
        size += len(chunk)
        if size > MAX_UNPACKED_BYTES:
            raise BadData(f"{where} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.", advice="Split it.")
        file.write(chunk)


def _is_tar(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            header = file.read(512)
    except (OSError, EOFError, zlib.error):
        return False
    return header[257:262] == b"ustar"


@contextmanager
def _opened(path: Path, packing: str, member: str) -> Iterator[_Readable]:
    if packing == "zip":
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file
    elif packing == "tar":
        with tarfile.open(path, "r:gz") as tar:
            inner = tar.extractfile(member)
            assert inner is not None  # noqa: S101  only regular files are listed
            yield inner
    else:
        with gzip.open(path) as unpacked:
            yield unpacked


@contextmanager
def _archive_errors(where: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what zipfile raises for an encrypted member
        if "password" not in str(error) and "encrypted" not in str(error):
            raise
        raise BadData(f"{where} is protected by a password.", advice="Give it without a password.") from None
    except _BROKEN as error:
        raise BadData(f"{where} is a damaged archive ({error}).", advice="Upload it again.") from None
