"""Files in a bucket of S3, or of a server that speaks its language: one object, a folder or a pattern, through s3fs.

Only the source's own credentials are used, none of this machine's; without any, requests are not signed. Every socket
is opened to an address that the policy allows, whatever name led there.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import fsspec.asyn
from botocore import exceptions as aws
from s3fs import S3FileSystem

from datasense_assets.connectors.addresses import server_of
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, ReadStats
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    CredentialRefused,
    ResourceGone,
    SourceError,
    Throttled,
    Unavailable,
)
from datasense_assets.connectors.file_config import FileConfig
from datasense_assets.connectors.file_places import FoundFile, wanted_names
from datasense_assets.connectors.http import MAX_FILE_BYTES
from datasense_assets.connectors.network import may_connect

_AGAIN = "It is tried again later."
_PATTERN = frozenset("*?[")
_REFUSED = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
)
_SLOW = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"})
_GONE = frozenset({"NoSuchKey", "NoSuchBucket", "404"})


class _BrokenOff(Unavailable):
    """A body ended before its end; what asks for it asks again."""


class S3Place:
    """The objects that an `s3://` address means."""

    def __init__(
        self,
        config: FileConfig,
        credentials: Mapping[str, str],
        policy: NetworkPolicy,
        stats: ReadStats,
        suffixes: frozenset[str],
        temporary: Callable[[str], Path],
        budget: CallBudget | None,
    ) -> None:
        """Keep the parts; nothing is connected."""
        self.where = config.url
        self._path = "s3://" + config.url[len("s3://") :]
        self._config, self._credentials, self._policy = config, credentials, policy
        self._stats, self._suffixes, self._temporary, self._budget = stats, suffixes, temporary, budget
        self._refused_host = False
        self._opened: S3FileSystem | None = None
        self._found: dict[str, dict[str, Any]] | None = None
        self._is_set: bool | None = None
        self._fetched: dict[str, Path] = {}

    @property
    def is_set(self) -> bool:
        """Whether the key is a pattern or a folder."""
        if self._is_set is None:
            self._list()
        return bool(self._is_set)

    def files(self) -> list[FoundFile]:
        """The objects by name; one listing, kept."""
        return [FoundFile(name, f"s3://{info['name']}") for name, info in self._list().items()]

    def fetch(self, file: FoundFile) -> Path:
        """The object's bytes as a local file; a body that breaks off is fetched again."""
        if file.name not in self._fetched:
            info = self._list()[file.name]
            size = int(info.get("size") or info.get("Size") or 0)
            if size > MAX_FILE_BYTES:
                raise BadConfig(f"{file.where} is larger than {MAX_FILE_BYTES:,} bytes.", advice="Split it.")
            target = self._temporary("object")
            for attempt in range(1, self._policy.attempts + 1):
                try:
                    with suppress(_BrokenOff), self._call(file.where) as filesystem:
                        filesystem.get_file(info["name"], str(target))
                except ResourceGone:
                    if not self.is_set:
                        raise
                    raise Unavailable(f"{file.where} went away while it was read.", advice=_AGAIN) from None
                got = target.stat().st_size if target.exists() else 0
                self._stats.bytes += got
                if got == size:
                    break
                if attempt == self._policy.attempts:
                    raise Unavailable(f"{file.where} broke off after {got:,} of {size:,} bytes.", advice=_AGAIN)
            self._fetched[file.name] = target
        return self._fetched[file.name]

    def fingerprint(self, previous: str | None) -> str | None:  # noqa: ARG002  a listing tells the same at once
        """Keys, ETags, sizes and times of all objects, by one listing (a call for each 1,000)."""
        lines = [
            f"{name} {info.get('ETag')} {info.get('size')} {info.get('LastModified')}"
            for name, info in self._list().items()
        ]
        return "s3 " + hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()

    def _list(self) -> dict[str, dict[str, Any]]:
        if self._found is None:
            with self._call(self.where) as filesystem:
                self._found = self._looked(filesystem)
        return self._found

    def _looked(self, filesystem: S3FileSystem) -> dict[str, dict[str, Any]]:
        key = self._path
        if not _PATTERN & set(key) and not key.endswith("/"):
            info = filesystem.info(key)
            if info["type"] == "file":
                self._is_set = False
                return {PurePosixPath(key).name: info}
        self._is_set = True
        if _PATTERN & set(key):
            base = "/".join(part for part in _plain_parts(key))
            found = filesystem.glob(key, detail=True)
            infos = [info for info in found.values() if info["type"] == "file"]
        else:
            base = key.rstrip("/")
            infos = [info for info in filesystem.ls(base, detail=True) if info["type"] == "file"]
        start = len(base.removeprefix("s3://").rstrip("/")) + 1
        named = {info["name"][start:]: info for info in infos}
        names = sorted(named) if _PATTERN & set(key) else wanted_names(list(named), self._suffixes)
        if not names:
            raise ResourceGone(f"{self.where} holds no file to read.", advice="Check the bucket, folder or pattern.")
        return {name: named[name] for name in names}

    @contextmanager
    def _call(self, where: str) -> Iterator[S3FileSystem]:
        allowed = nullcontext(0.0) if self._budget is None else self._budget.call(server_of(self._server))
        with allowed as waited, self._plain_words(where):
            self._stats.throttled_seconds += waited
            yield self._filesystem()

    @property
    def _server(self) -> str:
        return self._config.endpoint_url or "https://s3.amazonaws.com"

    def _filesystem(self) -> S3FileSystem:
        if self._opened is None:
            self._opened = S3FileSystem(
                anon="access_key_id" not in self._credentials,
                key=self._credentials.get("access_key_id", "").strip() or None,
                secret=self._credentials.get("secret_access_key", "").strip() or None,
                token=self._credentials.get("session_token", "").strip() or None,
                endpoint_url=self._config.endpoint_url,
                client_kwargs={"region_name": self._config.region or "us-east-1"},
                config_kwargs={
                    "connect_timeout": self._policy.connect_timeout,
                    "read_timeout": self._policy.timeout,
                    "retries": {"total_max_attempts": self._policy.attempts, "mode": "standard"},
                    "proxies": {},
                    "ignore_configured_endpoint_urls": True,
                    "connector_args": {"socket_factory": self._socket},
                    "s3": {"addressing_style": "path"} if self._config.endpoint_url else {},
                },
                skip_instance_cache=True,
                use_listings_cache=False,
                loop=fsspec.asyn.get_loop(),
            )
            self._opened.retries = 1  # those of botocore are enough: each of s3fs's would be so many again
            self._opened.connect()
            self._opened.s3.meta.events.register("before-send.s3", self._count)
        return self._opened

    def _count(self, **_: Any) -> None:
        self._stats.api_calls += 1

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = address
        if not may_connect(ip_address(target[0].partition("%")[0]), allow_private=self._policy.allow_private_addresses):
            self._refused_host = True
            raise OSError("the address may not be connected to")
        return socket.socket(family, kind, protocol)

    @contextmanager
    def _plain_words(self, where: str) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  s3fs raises OSErrors, botocore's and aiohttp's own
            raise self._source_error(error, where) from None

    def _source_error(self, error: Exception, where: str) -> SourceError:
        if self._refused_host:
            return BadConfig(
                f"{self._server} is an address of a private network, where sources may not be read from.",
                advice="Give a public address, or set DATASENSE_ALLOW_PRIVATE_ADDRESSES=true on your own machine.",
            )
        code, status = _code_of(error)
        signed = "access_key_id" in self._credentials
        if code in _REFUSED:
            return CredentialRefused(
                f"{self._server} refused the credential ({code}).", advice="Check the access key and its secret."
            )
        if code in _SLOW or status in (429, 503):
            return Throttled(f"{self._server} asks to wait ({code}).", advice=_AGAIN)
        if code in _GONE or isinstance(error, FileNotFoundError):
            return ResourceGone(f"{where} is not there.", advice="Check the bucket and the key.")
        if status == 403 or isinstance(error, PermissionError):
            return AccessForbidden(
                f"{where} may not be read {'with this credential' if signed else 'without a credential'}.",
                advice="Check the access key, and allow s3:GetObject on the object and s3:ListBucket on the bucket."
                if signed
                else "Give `access_key_id` and `secret_access_key` under `credentials`.",
            )
        if isinstance(error, aws.ParamValidationError | aws.InvalidRegionError | ValueError):
            return BadConfig(f"{where} is no address of a bucket and a key.", advice="Write s3://bucket/key.")
        is_body = isinstance(error, aiohttp.ClientPayloadError | aws.ResponseStreamingError | aws.IncompleteReadError)
        kind = _BrokenOff if is_body else Unavailable
        return kind(f"{self._server} failed for {where} ({code or type(error).__name__}).", advice=_AGAIN)


def _plain_parts(key: str) -> list[str]:
    parts = key.split("/")
    cut = next(i for i, part in enumerate(parts) if _PATTERN & set(part))
    return parts[:cut]


def _code_of(error: BaseException) -> tuple[str, int]:
    """S3's code and the answer's status, wherever in the chain botocore's own exception is."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, aws.ClientError):
            answer = current.response
            status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
            return str(answer.get("Error", {}).get("Code", "")), status
        current = current.__cause__ or current.__context__
    return "", 0
