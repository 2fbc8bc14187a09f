"""Getting at the bytes of a CSV file: a local path within its root, a download, a member of a zip, gz or tar.gz.

The result is always a plain local file, so that what reads it may seek and read it twice. Downloads and unpacked
members are kept in one temporary folder until the connector is closed.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from datasense_assets.connectors.base import NetworkPolicy
from datasense_assets.connectors.config import CsvConfig
from datasense_assets.connectors.errors import BadConfig, BadData, ResourceGone
from datasense_assets.connectors.http import HttpClient, shown

CSV_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".psv"})
MAX_UNPACKED_BYTES = 50 * 1024**3
_BROKEN = (zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class CsvFile:
    """The configured file, fetched once at first need; `members` are its CSV files, by name."""

    def __init__(self, config: CsvConfig, policy: NetworkPolicy, client: HttpClient | None) -> None:
        """Keep the parts; nothing is opened."""
        self._config = config
        self._policy = policy
        self._client = client
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._raw: Path | None = None
        self._fingerprint: str | None = None
        self._unpacked: dict[str, Path] = {}

    @property
    def name(self) -> str:
        """The file's own name, as its address ends."""
        path = unquote(urlsplit(self._config.url).path) if self._config.is_web else self._config.url
        return PurePosixPath(path.replace("\\", "/")).name or "file.csv"

    @property
    def where(self) -> str:
        """The file as it may be named in a message."""
        return shown(self._config.url) if self._config.is_web else self._config.url

    def temporary(self, name: str) -> Path:
        """A new path in the temporary folder."""
        if self._folder is None:
            if self._policy.scratch is not None:
                self._policy.scratch.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix="csv-", dir=self._policy.scratch)
        return Path(self._folder.name) / name

    def close(self) -> None:
        """Delete what was downloaded and unpacked."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._raw = None
        self._unpacked.clear()

    def fingerprint(self) -> str | None:
        """What changes when the file does (ETag, Last-Modified, or a local file's time and size), None if unknown.

        Raises:
            SourceError: the file cannot be reached.

        """
        if self._config.is_web:
            if self._raw is not None:
                return self._fingerprint
            assert self._client is not None  # noqa: S101  given for every web address
            return self._client.file_version(self._config.url).fingerprint
        stat = self._local().stat()
        return f"file:{stat.st_mtime_ns}:{stat.st_size}"

    def members(self) -> list[str]:
        """Names of the CSV files there are: the file itself, or those in the archive, sorted.

        Raises:
            SourceError: the file cannot be reached or is no CSV and no archive of any.

        """
        raw = self._fetched()
        kind = _kind_of(raw, self.where)
        if kind == "plain":
            return [self.name]
        if kind == "gzip":
            return [self.name.removesuffix(".gz") or self.name]
        with self._archive_errors():
            names = _zip_names(raw, self.where) if kind == "zip" else _tar_names(raw)
        found = _csv_names(names)
        if not found:
            listed = ", ".join(names[:20]) or "nothing"
            raise BadData(f"{self.where} holds no CSV file; it holds {listed}.", advice="Put a .csv file into it.")
        return found

    def choose(self, resource: str | None) -> str:
        """The one member that is meant: the config's, else `resource`, else the only one.

        Raises:
            ResourceGone: no member of that name.
            BadConfig: several members and none was named; all are listed.

        """
        found = self.members()
        wanted = self._config.member or resource
        if _kind_of(self._fetched(), self.where) in ("plain", "gzip"):
            return found[0]  # a single file is itself, whatever it was called when it was discovered
        if wanted in found:
            return str(wanted)
        if self._config.member is None and len(found) == 1:
            return found[0]
        listed = ", ".join(found)
        if wanted:
            raise ResourceGone(f"{self.where} has no member {wanted!r}.", advice=f"Its CSV files are: {listed}.")
        raise BadConfig(
            f"{self.where} holds several CSV files and none is named.", advice=f"Set `member` to one of: {listed}."
        )

    def open_plain(self, resource: str | None) -> Path:
        """A local file with the bytes of the chosen member, unpacked.

        Raises:
            SourceError: it cannot be reached, chosen or unpacked.

        """
        raw = self._fetched()
        kind = _kind_of(raw, self.where)
        if kind == "plain":
            return raw
        member = self.choose(resource)
        if member not in self._unpacked:
            target = self.temporary(f"member-{len(self._unpacked)}")
            with self._archive_errors(), _opened(raw, kind, member) as source, target.open("wb") as file:
                self._copy(source, file)
            self._unpacked[member] = target
        return self._unpacked[member]

    def _copy(self, source: _Readable, file: BinaryIO) -> None:
        size = 0
        while chunk := source.read(1 << 20):
            size += len(chunk)
            if size > MAX_UNPACKED_BYTES:
                raise BadData(f"{self.where} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.", advice="Split it.")
            file.write(chunk)

    @contextmanager
    def _archive_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what zipfile raises for an encrypted member
            if "password" not in str(error) and "encrypted" not in str(error):
                raise
            raise BadData(f"{self.where} is protected by a password.", advice="Give it without a password.") from None
        except _BROKEN as error:
            raise BadData(f"{self.where} is a damaged archive ({error}).", advice="Upload it again.") from None

    def _fetched(self) -> Path:
        if self._raw is None:
            if self._config.is_web:
                assert self._client is not None  # noqa: S101  given for every web address
                target = self.temporary("download")
                self._fingerprint = self._client.download(self._config.url, target).fingerprint
                self._raw = target
            else:
                self._raw = self._local()
        return self._raw

    def _local(self) -> Path:
        root = self._policy.files_root
        path = Path(self._config.url).expanduser()
        if root is not None:
            root = root.resolve()
            path = (root / path).resolve()
            if not path.is_relative_to(root):  # said before looking, so that nothing outside can be probed
                raise BadConfig(
                    f"{self.where} lies outside the folder that files may be read from.",
                    advice="Give a path below that folder, relative to it.",
                )
        private = self._policy.private_folder
        if private is not None and path.resolve().is_relative_to(private.resolve()):
            raise BadConfig(
                f"{self.where} lies in the platform's own folder, which no source is read from.",
                advice="Give the path of a file elsewhere.",
            )
        if not path.exists():
            raise ResourceGone(f"There is no file {self.where}.", advice="Check the path.")
        if not path.is_file():
            raise BadConfig(f"{self.where} is not a file.", advice="Give the path of one CSV, zip or gz file.")
        return path


def _kind_of(path: Path, where: str) -> str:
    """`zip`, `tar` (gzipped), `gzip` or `plain`, by the first bytes and not by the name."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK\x03\x04") or start.startswith(b"PK\x05\x06"):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar" if _is_tar(path) else "gzip"
    if start.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise _workbook(where)
    return "plain"


def _is_tar(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            header = file.read(512)
    except (OSError, EOFError, zlib.error):
        return False
    return header[257:262] == b"ustar"


def _workbook(where: str) -> BadData:
    return BadData(
        f"{where} is an Excel workbook, not CSV.", advice="Save the sheet as CSV (UTF-8) and give that file."
    )


def _zip_names(path: Path, where: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = [item.filename for item in archive.infolist() if not item.is_dir()]
    if "xl/workbook.xml" in names or "content.xml" in names:
        raise _workbook(where)
    return names


def _tar_names(path: Path) -> list[str]:
    with tarfile.open(path, "r:gz") as archive:
        return [item.name for item in archive if item.isfile()]


def _csv_names(names: list[str]) -> list[str]:
    real = [n for n in names if "__MACOSX/" not in n and not PurePosixPath(n).name.startswith(".")]
    found = sorted(n for n in real if PurePosixPath(n).suffix.lower() in CSV_SUFFIXES)
    return found or (real if len(real) == 1 else [])


@contextmanager
def _opened(path: Path, kind: str, member: str) -> Iterator[_Readable]:
    if kind == "zip":
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file
    elif kind == "tar":
        with tarfile.open(path, "r:gz") as tar:
            inner = tar.extractfile(member)
            assert inner is not None  # noqa: S101  only regular files are listed
            yield inner
    else:
        with gzip.open(path) as unpacked:
            yield unpacked
