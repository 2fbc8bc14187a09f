"""Where files lie: a local path, folder or pattern below the allowed root, or one http(s) address.

A place lists its files, brings one here as a local file, and says by one cheap call what changes when they do. Buckets
are in `file_s3`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.base import NetworkPolicy, ReadStats
from datasense_assets.connectors.errors import BadConfig, ResourceGone
from datasense_assets.connectors.file_version import FileVersion
from datasense_assets.connectors.http import HttpClient

BELIEVED_SECONDS = 86_400.0
"""How long `not modified` is believed of a server whose mark is weak: a time of change, or a weak ETag."""
_SETTLED_SECONDS = 2.0
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FoundFile:
    """A file of a place: `name` below the folder or pattern (a single file's own name), `where` as messages say it."""

    name: str
    where: str


class Place(Protocol):
    """Where a source's files are; `where` names it in messages, `is_set` where it is a folder or a pattern."""

    where: str

    @property
    def is_set(self) -> bool:
        """Whether there may be several files."""

    def files(self) -> list[FoundFile]:
        """The files there are, by name; raise SourceError."""

    def fetch(self, file: FoundFile) -> Path:
        """A local file with its bytes; raise SourceError."""

    def fingerprint(self, previous: str | None) -> str | None:
        """As `Connector.fingerprint`, for all the files together."""


def wanted_names(names: list[str], suffixes: frozenset[str]) -> list[str]:
    """The names that end like data, sorted; hidden files and what archivers add are none."""
    real = [n for n in names if "__MACOSX/" not in n and not PurePosixPath(n).name.startswith(".")]
    return sorted(n for n in real if suffixes & set(PurePosixPath(n.lower()).suffixes[-2:]))


class LocalPlace:
    """Files of this machine, none outside the policy's root nor inside its private folder."""

    def __init__(self, url: str, policy: NetworkPolicy, stats: ReadStats, suffixes: frozenset[str]) -> None:
        """Keep the parts; nothing is looked at."""
        self.where, self._policy, self._stats, self._suffixes = url, policy, stats, suffixes
        self._paths: dict[str, Path] = {}
        self._counted: set[str] = set()

    @property
    def is_set(self) -> bool:
        """Whether it is a folder, or a pattern that is no file's own name."""
        path = self._checked(Path(self.where).expanduser())
        return path.is_dir() or (not path.exists() and _PATTERN.search(self.where) is not None)

    def files(self) -> list[FoundFile]:
        """The file itself, or those of the folder or pattern."""
        path = Path(self.where).expanduser()
        if not self.is_set:
            path = self._checked(path)
            if not path.exists():
                raise ResourceGone(f"There is no file {self.where}.", advice="Check the path.")
            if not path.is_file():
                raise BadConfig(f"{self.where} is not a file.", advice="Give the path of a file or of a folder.")
            self._paths = {path.name: path}
            return [FoundFile(path.name, self.where)]
        base, pattern = self._base_and_pattern(path)
        found = {each.relative_to(base).as_posix(): each for each in base.glob(pattern)}
        names = [name for name, each in found.items() if each.is_file() and not each.name.startswith(".")]
        if pattern == "*":
            names = wanted_names(names, self._suffixes)
        if not names:
            raise ResourceGone(f"{self.where} holds no file to read.", advice="Check the folder or the pattern.")
        self._paths = {name: self._checked(found[name]) for name in sorted(names)}
        shown = PurePosixPath(self.where)
        if pattern != "*":
            shown = PurePosixPath(
                *shown.parts[: next(i for i, part in enumerate(shown.parts) if _PATTERN.search(part))]
            )
        return [FoundFile(name, str(shown / name)) for name in self._paths]

    def fetch(self, file: FoundFile) -> Path:
        """The file where it lies; its bytes count as read, once."""
        path = self._path(file)
        if file.name not in self._counted:
            self._counted.add(file.name)
            self._stats.bytes += path.stat().st_size
        return path

    def fingerprint(self, previous: str | None) -> str | None:
        """Names, sizes and times of change (those of the entry too, which a copy cannot keep); and the content where a
        file has changed just now, since another change within the clock's tick would not show.
        """
        entries = []
        for file in self.files():
            path = self._path(file)
            stat = path.stat()
            entry = f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"
            fresh = time.time() - max(stat.st_mtime, stat.st_ctime) < _SETTLED_SECONDS
            entries.append((entry, path, fresh))
        plain = _digest(entry for entry, _, _ in entries)
        kept = (previous or "").split(" ")
        if not any(fresh for _, _, fresh in entries) and (len(kept) < 3 or kept[1] != plain):
            return f"files {plain}"
        if len(kept) == 2 and kept[1] == plain:
            return previous
        return f"files {plain} {_digest(file_hash(path) for _, path, _ in entries)}"

    def missing(self) -> str | None:
        """A file that was there when they were listed and is not any more; None where all are."""
        return next((name for name, path in self._paths.items() if not path.exists()), None)

    def _path(self, file: FoundFile) -> Path:
        if file.name not in self._paths:
            self.files()
        return self._paths[file.name]

    def _base_and_pattern(self, path: Path) -> tuple[Path, str]:
        checked = self._checked(path)
        if checked.is_dir():
            return checked, "*"
        cut = next(i for i, part in enumerate(path.parts) if _PATTERN.search(part))
        return self._checked(Path(*path.parts[:cut])), str(PurePosixPath(*path.parts[cut:]))

    def _checked(self, path: Path) -> Path:
        root = self._policy.files_root
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
        return path


class WebPlace:
    """One address, downloaded at most once; a server that knows conditions is asked with them."""

    is_set = False

    def __init__(self, url: str, client: HttpClient, temporary: Callable[[str], Path]) -> None:
        """Keep the parts; nothing is asked."""
        self.where, self._url = shown(url), url
        self._client, self._temporary = client, temporary
        self._name = PurePosixPath(unquote(urlsplit(url).path)).name or "file"
        self._raw: Path | None = None
        self._said: str | None = None

    def files(self) -> list[FoundFile]:
        """The one file; nothing is asked."""
        return [FoundFile(self._name, self.where)]

    def fetch(self, file: FoundFile) -> Path:  # noqa: ARG002  there is one
        """The downloaded file."""
        if self._raw is None:
            self._download(None)
        assert self._raw is not None  # noqa: S101  a download without conditions brings the file
        return self._raw

    def fingerprint(self, previous: str | None) -> str | None:
        """The server's marks and the content's hash.

        One request: with the marks of `previous` as conditions where those are still believed. A server that knows no
        conditions sends the file, and its content decides.
        """
        if self._said is None:
            self._download(previous)
        if previous is None or self._said is None or self._said == previous:
            return self._said
        before, now = json.loads(previous), json.loads(self._said)
        return previous if before["content"] == now["content"] and _is_believed(before) else self._said

    def _download(self, previous: str | None) -> None:
        before = json.loads(previous) if previous is not None else None
        unless = None
        if before is not None and _is_believed(before) and (before["etag"] or before["modified"]):
            unless = FileVersion(before["etag"], before["modified"], "")
        target = self._temporary("download")
        version = self._client.download(self._url, target, unless=unless)
        if version is None:
            self._said = previous
            return
        self._raw = target
        said = {"etag": version.etag, "modified": version.settled_modified, "content": file_hash(target)}
        self._said = json.dumps({**said, "at": int(time.time())})


def _is_believed(said: dict[str, str | None]) -> bool:
    """A strong ETag always; a time of change (of one second) or a weak ETag for a day, then the file is read again."""
    strong = said["etag"] is not None and not said["etag"].startswith("W/")
    return strong or time.time() - float(said["at"] or 0) < BELIEVED_SECONDS


def file_hash(path: Path) -> str:
    """Of the bytes, 32 hex digits; about a second a gigabyte."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _digest(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
