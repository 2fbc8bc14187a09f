"""The config of sources that are files: where they lie, how they are packed, what is in them.

It is checked for every source when the asset graph is built, so nothing heavier than pydantic is imported here.
"""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from datasense_assets.connectors.config_fields import ApiRoot, ConnectorConfig, Names, server_name, web_address

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
S3_CREDENTIALS = frozenset({"access_key_id", "secret_access_key"})
Format = Literal["auto", "csv", "excel", "json", "parquet"]
HeaderRow = Annotated[int, Field(ge=1, le=1000)]
Text = Annotated[str, StringConstraints(min_length=1)]


def _rows(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class FileConfig(ConnectorConfig):
    """A file, or all those of a folder or of a pattern.

    `url`: an http(s) address, a local path, or `s3://bucket/key`; a path or key that is a folder or a pattern (`*`,
    `?`, `**`) means all files there. `format`: what they hold; `auto` looks. `member`: the file inside a zip or tar.gz,
    or a pattern; left out, each is a table. `sheet`: sheets of a workbook; left out, each visible one is a table.
    `combine`: whether files (or members) become one table; left out, those of a folder or pattern do.
    `file_column`: the column with the file's name where several become one table. `encoding`: `auto` or a name that
    Python knows. `delimiter`: `auto`, one character or its name. `key`: columns that identify a row (none: the row's
    number). `header_row`: the line of the header; for a workbook also several rows, from top to bottom.
    `endpoint_url`, `region`: of an S3 that is not Amazon's own.
    """

    CREDENTIALS = (
        frozenset(),
        frozenset({"token"}),
        frozenset({"username", "password"}),
        S3_CREDENTIALS,
        S3_CREDENTIALS | {"session_token"},
    )

    url: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    format: Format = "auto"
    member: Text | None = None
    sheet: Names = ()
    combine: bool | None = None
    file_column: Text = "file"
    encoding: str = "auto"
    delimiter: str = "auto"
    key: Names = ()
    header_row: Annotated[tuple[HeaderRow, ...], BeforeValidator(_rows)] = Field(default=(1,), max_length=10)
    endpoint_url: ApiRoot | None = None
    region: Annotated[str, StringConstraints(pattern="^[a-z0-9-]{1,40}$")] | None = None

    @property
    def is_web(self) -> bool:
        """Whether the file is fetched over http(s)."""
        return self.url.lower().startswith(("http://", "https://"))

    @property
    def is_s3(self) -> bool:
        """Whether the file is in a bucket."""
        return self.url.lower().startswith("s3://")

    @property
    def host(self) -> str:
        """The web server, or the S3 that the bucket is in; '' for a local path."""
        if self.is_s3:
            return server_name(self.endpoint_url) if self.endpoint_url else "s3.amazonaws.com"
        return server_name(self.url) if self.is_web else ""

    @field_validator("url")
    @classmethod
    def _address_or_path(cls, value: str) -> str:
        parts = urlsplit(value) if "://" in value else None
        if parts is not None and parts.scheme.lower() in ("http", "https"):
            return web_address(value)
        if parts is not None and parts.scheme.lower() == "s3":
            if "@" in parts.netloc:
                raise ValueError("holds a user name or password; name them under `credentials` instead")
            if not parts.netloc or not parts.path.strip("/"):
                raise ValueError("is not s3://bucket/key")
            return value
        if parts is not None:
            raise ValueError(
                f"starts with {parts.scheme}://, which is not read; give an http(s) or s3 address or a local path"
            )
        if "\0" in value:
            raise ValueError("is not a path")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            info = codecs.lookup(value) if value != "auto" else None
        except LookupError:
            raise ValueError(f"{value!r} is no known encoding; write auto, utf-8, utf-16, cp1252 ...") from None
        # rot13, base64 and the like are codecs too, but not of text
        if info is not None and not getattr(info, "_is_text_encoding", True):
            raise ValueError(f"{value!r} is not a text encoding; write auto, utf-8, utf-16, cp1252 ...")
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value == "auto":
            return value
        value = DELIMITERS.get(value, value)
        if len(value) != 1 or value in '"\r\n' or not value.isascii():
            raise ValueError("must be auto, comma, semicolon, tab, pipe or one ASCII character")
        return value

    @field_validator("header_row")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError("must name at least one row, and each once, from top to bottom")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.format not in ("auto", "excel"):
            if len(self.header_row) > 1:
                raise ValueError("`header_row` can name several rows of a workbook only")
            if self.sheet:
                raise ValueError("`sheet` is of a workbook, and the format is another")
        if not self.is_s3 and (self.endpoint_url or self.region):
            raise ValueError("`endpoint_url` and `region` go with an s3:// address only")
        return self


class CsvConfig(FileConfig):
    """As `FileConfig`; whatever the files are named, they are read as CSV, and anything else is refused."""

    format: Literal["csv"] = "csv"
