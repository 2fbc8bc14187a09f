"""What the config and credentials of each kind of connector may be, as pydantic models, and what is wrong with one.

It is checked for every source when the asset graph is built, so nothing heavier than pydantic is imported here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from datasense_assets.catalog.models import Problem
from datasense_assets.connectors.config_fields import ApiRoot, ConnectorConfig, server_name, web_address
from datasense_assets.connectors.file_config import CsvConfig, FileConfig

__all__ = [
    "CONFIGS",
    "ApiRoot",
    "ConnectorConfig",
    "CsvConfig",
    "FileConfig",
    "GoogleSheetsConfig",
    "HistoryConfig",
    "KoboConfig",
    "SurveyctoConfig",
    "SurveyctoDatasetsConfig",
    "check_config",
]


class HistoryConfig(ConnectorConfig):
    """Of sources whose rows change after the cursor has passed them. `reread_days`: each night what came in during so
    many days is read again (0: never). `full_read`: whether all is read again once a week, in one of its nights; left
    out, it is where older edits would be missed.
    """

    reread_days: int = Field(default=30, ge=0, le=3650)
    full_read: Literal["never", "weekly"] | None = None

    @property
    def misses_edits(self) -> bool:
        """Whether an edit to what is older than `reread_days` goes unseen; never, where nothing is looked for."""
        return self.reread_days > 0


class KoboConfig(HistoryConfig):
    """KoboToolbox. `base_url`: the server, a path included where it lives under one. `lag_seconds`: how far before
    its cursor a live read starts, since rows may appear late. `page_size`: submissions a call, 1000 at most. `edits`:
    how they are found by night, by reading again what was submitted lately or by the form's history.
    """

    CREDENTIALS = (frozenset({"token"}),)

    base_url: ApiRoot
    lag_seconds: int = Field(default=300, ge=0, le=86_400)
    page_size: int = Field(default=1000, ge=1, le=1000)
    edits: Literal["reread", "history"] = "reread"

    @property
    def misses_edits(self) -> bool:
        """A project's history names edits of any age."""
        return super().misses_edits and self.edits == "reread"


class GoogleSheetsConfig(ConnectorConfig):
    """A Google spreadsheet. `spreadsheet`: its id or address. `header_row`: the row of the headers, or several rows
    in order; in a range they count from its first row. `ranges`: tabs, named ranges or A1 ranges (`Budget!B3:K`) that
    are tables (none: every tab and named range). `key`: columns that identify a row (none: the row's number).
    `skip_unchanged`: whether a spreadsheet that Drive says has not changed is left alone.
    """

    CREDENTIALS = (frozenset({"service_account"}),)
    MAX_MINUTES = 60

    spreadsheet: str
    header_row: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(default=(1,), max_length=10)
    ranges: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    key: tuple[str, ...] = ()
    api_base_url: ApiRoot = "https://sheets.googleapis.com"
    drive_base_url: ApiRoot | None = None
    skip_unchanged: bool = True

    @property
    def host(self) -> str:
        """The server of the spreadsheets, not that of Drive."""
        return server_name(self.api_base_url)

    @field_validator("spreadsheet")
    @classmethod
    def _id_of_address(cls, value: str) -> str:
        value = value.strip()
        if "/d/e/" in value:
            raise ValueError("is the address of a published copy; give the one in the browser while editing")
        found = re.search(r"/spreadsheets/(?:u/[0-9]+/)?d/([A-Za-z0-9_-]+)", value)
        identity = found[1] if found else value
        if not re.fullmatch(r"[A-Za-z0-9_-]+", identity):
            raise ValueError(
                "is neither a spreadsheet's id nor its address (https://docs.google.com/spreadsheets/d/...)"
            )
        return identity

    @field_validator("header_row", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("header_row")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError("must name at least one row, and each once, from top to bottom")
        return value

    @field_validator("key", "ranges", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def _surveycto_server(value: str) -> str:
    address = web_address(value.strip()).rstrip("/")
    parts = urlsplit(address)
    if parts.path or parts.query or parts.fragment:
        raise ValueError("goes on after the server's name; give only that, for example https://example.surveycto.com")
    return address


class SurveyctoConfig(HistoryConfig):
    """SurveyCTO. `server`: its address alone. `review_status`: which submissions are loaded, by how they were
    reviewed. `lag_seconds`: how far before its cursor a live read starts, up to 90 days. `plain_columns`: names (less
    the number) of numbered questions that are taken for columns of the repeat group they stand behind.
    """

    CREDENTIALS = (frozenset({"username", "password"}), frozenset({"username", "password", "private_key"}))

    server: Annotated[str, AfterValidator(_surveycto_server)]
    review_status: tuple[Literal["approved", "pending", "rejected"], ...] = ("approved",)
    lag_seconds: int = Field(default=300, ge=0, le=90 * 86_400)
    plain_columns: tuple[str, ...] = ()

    @field_validator("review_status", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value.split("|") if isinstance(value, str) else value

    @field_validator("review_status")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no status; write one or several of approved, pending, rejected")
        return tuple(dict.fromkeys(value))

    @field_validator("plain_columns", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class SurveyctoDatasetsConfig(ConnectorConfig):
    """SurveyCTO's server datasets. `server`: its address alone."""

    CREDENTIALS = (frozenset({"username", "password"}),)

    server: Annotated[str, AfterValidator(_surveycto_server)]


CONFIGS: dict[str, type[ConnectorConfig]] = {
    "csv": CsvConfig,
    "file": FileConfig,
    "google_sheets": GoogleSheetsConfig,
    "kobo": KoboConfig,
    "surveycto": SurveyctoConfig,
    "surveycto_datasets": SurveyctoDatasetsConfig,
}
_MISSING_FIX = {
    "config.base_url": "For example base_url: https://kf.kobotoolbox.org.",
    "config.spreadsheet": "Copy the spreadsheet's address from the browser.",
    "config.server": "For example server: https://example.surveycto.com.",
}


def check_config(
    kind: str, model: type[ConnectorConfig], config: Mapping[str, Any], credential_names: Collection[str]
) -> list[Problem]:
    """All problems of one source's connector settings, in the order config, credentials."""
    problems: list[Problem] = []
    try:
        model.model_validate(dict(config))
    except ValidationError as error:
        problems += [_config_problem(model, item) for item in error.errors(include_url=False, include_input=False)]
    return problems + _credential_problems(kind, model, frozenset(credential_names))


def _config_problem(model: type[ConnectorConfig], item: Mapping[str, Any]) -> Problem:
    path = "config"
    for part in item["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    if item["type"] == "missing":
        return Problem(path=path, message="is missing.", fix=_MISSING_FIX.get(path))
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), model.model_fields, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        known = ", ".join(model.model_fields)
        return Problem(path=path, message="is not a setting of this connector.", fix=f"{hint}Known settings: {known}.")
    message = str(item["msg"]).removeprefix("Value error, ")
    return Problem(path=path, message=message[:1].lower() + message[1:] + ".")


def _credential_problems(kind: str, model: type[ConnectorConfig], given: frozenset[str]) -> list[Problem]:
    if given in model.CREDENTIALS:
        return []
    every = frozenset().union(*model.CREDENTIALS)
    ways = " or ".join(" and ".join(sorted(names)) or "none" for names in model.CREDENTIALS)
    fix = f"A {kind} source takes: {ways}."
    unknown = [
        Problem(path=f"credentials.{name}", message=f"is not a credential of the {kind} connector.", fix=fix)
        for name in sorted(given - every)
    ]
    if given & every in model.CREDENTIALS:
        return unknown
    nearest = min(model.CREDENTIALS, key=lambda names: (-len(names & given), len(names ^ given)))
    missing = [Problem(path=f"credentials.{name}", message="is missing.", fix=fix) for name in sorted(nearest - given)]
    surplus = [
        Problem(path=f"credentials.{name}", message="does not go with the others.", fix=fix)
        for name in sorted((given & every) - nearest)
    ]
    return unknown + missing + surplus
