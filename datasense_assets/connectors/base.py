"""What every connector is: a reader of the world that describes its tables and yields pages of text.

A connector knows one kind of source. It never types a value, never names a Postgres column and never writes: it yields
Arrow pages whose columns are the source's own keys and whose values are text (or null), and says how far it has read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from datasense_assets.catalog.models import Choice, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

ROW_ID = "_ds_row_id"
PARENT_ID = "_ds_parent_id"
INDEX = "_ds_index"
_PAGES_OWN = frozenset({ROW_ID, PARENT_ID, INDEX})


def kept_key(key: str) -> str:
    """The key of a source's own column: itself, or another one where a page has a column of that name anyway."""
    return f"{key} (2)" if key in _PAGES_OWN else key


def own_name(key: str) -> str:
    """What the source calls the column that has this key."""
    return next((name for name in _PAGES_OWN if kept_key(name) == key), key)


@dataclass(frozen=True)
class NetworkPolicy:
    """What a connector may reach: `timeout` in seconds of silence; `files_root` is the only folder that local files
    may come from (None: any); `private_folder` is one that none may come from, the platform's own state; `scratch` is
    where downloads are kept while a load runs (None: the system's). `longest_wait`: seconds that one call may be waited
    for, whether a quota or the server asks for it; where it is longer, the run gives its slot back. `connect_timeout`:
    seconds that one of a server's addresses may take to answer at all. `attempts`: how often one call is tried.
    """

    allow_private_addresses: bool = False
    timeout: float = 60.0
    files_root: Path | None = None
    private_folder: Path | None = None
    scratch: Path | None = None
    longest_wait: float = 60.0
    connect_timeout: float = 15.0
    attempts: int = 4

    @property
    def hurried(self) -> NetworkPolicy:
        """The same for someone who waits at a terminal: a server that does not answer is given up in seconds."""
        return replace(
            self, timeout=min(self.timeout, 20.0), connect_timeout=min(self.connect_timeout, 5.0), attempts=2
        )


@dataclass(frozen=True)
class Quota:
    """Calls that a server allows, on each host, to all who share something: an account, a project, or nothing.

    `name`: what it is changed by, `<kind>.<what>`, for example `google_sheets.project`. `shared_by`: an account's name
    or a long random token ('': whoever asks that host); it is stored as a hash only, so it is never a password, which
    could be guessed from one. `calls` in any `seconds` (None: any number). `one_at_a_time`: the server answers one
    request at a time. `host`: the one server that it is about, as `server_of` names it ('': each that is asked). A
    connector's quotas go from the narrowest to the widest: the first of a host is what that server's own request to
    wait is remembered for.
    """

    name: str
    shared_by: str = field(default="", repr=False)
    calls: int | None = None
    seconds: float = 60.0
    one_at_a_time: bool = False
    host: str = ""


class CallBudget(Protocol):
    """Quotas shared by all processes that read with one credential; asked before every call.

    `host` is the server's name, with its port where the address gives one.
    """

    def call(self, host: str) -> AbstractContextManager[float]:
        """Wait until a call is allowed, and hold the right to it for the block; gives the seconds waited.

        Raises:
            OutOfQuota: it would take longer than a run may wait.
        """

    def block(self, host: str, seconds: float) -> None:
        """Tell the others that the server asked for this long a pause."""


@dataclass(frozen=True)
class ColumnInfo:
    """What a source says of a column: its own key, its labels by language, its declared type (None: unknown).

    `notes`: what people should know of its values, in sentences without its name; told with each load, and by the
    status until a load brings others.
    """

    key: str
    label: str
    type: ColumnType | None = None
    labels: dict[str, str] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    personal: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableInfo:
    """A table that a source has. `path` is () for the top table, else the names of the repeat groups down to it.

    `is_sample`: the source has no description of it; columns, and repeat groups, are those of some of its rows.
    """

    resource: str
    title: str
    columns: tuple[ColumnInfo, ...]
    path: tuple[str, ...] = ()
    rows: int | None = None
    history_start: date | None = None
    is_sample: bool = False


@dataclass(frozen=True)
class Window:
    """Half-open stretch of time [start, end), both with a time zone."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class ReadRequest:
    """What to read of one resource.

    `window` set: exactly the rows of that window (backfill). Else `cursor` set: what is new since it, less the
    connector's lag. Neither: everything. `key`: columns (by the source's keys) that identify a row, for connectors
    whose source has no row id of its own; () leaves it to the connector's config. `resume`: the mark that a page of an
    equal request bore, earlier or in another process: only what came after that page is read.

    `changed_since` set: the rows that may have changed since then, to find edits: those that came in since, or those
    that the source itself says were edited since, where it can tell.
    """

    resource: str
    cursor: str | None = None
    window: Window | None = None
    key: tuple[str, ...] = ()
    resume: str | None = None
    changed_since: datetime | None = None

    @property
    def again(self) -> bool:
        """Whether a part is read again: neither by the cursor, nor all there is."""
        return self.window is not None or self.changed_since is not None


@dataclass(frozen=True)
class Rejected:
    """A row that came in and could not be read: 1-based line (or record) number, reason, the raw text (cut)."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Page:
    """A page of one table (`path` as in `TableInfo`).

    `data`: `pyarrow.Table` whose columns are all `string`, named by the source's keys, plus `_ds_row_id` (unique in
    the table, stable between reads, never null) and for repeat groups `_ds_parent_id` and `_ds_index` (from 1).
    `cursor`: the highest position seen so far in this read, None where the connector has no history.
    A top table's page comes before the pages of its rows' repeat groups. `resume`: a mark from which an equal request
    can go on after this page (`ReadRequest.resume`); None where it cannot, as between a row and its repeats' rows.
    """

    path: tuple[str, ...]
    data: pa.Table
    cursor: str | None = None
    rejected: tuple[Rejected, ...] = ()
    resume: str | None = None


@dataclass
class ReadStats:
    """Counted by the HTTP client and the reader while a load goes on. `padded_rows` had fewer fields than the header;
    `notes` are sentences for the load's report (an encoding that was guessed, for example).
    """

    api_calls: int = 0
    bytes: int = 0
    throttled_seconds: float = 0.0
    padded_rows: int = 0
    notes: list[str] = field(default_factory=list)


class Connector(Protocol):
    """One opened source: made by `open_connector` from its config and resolved credentials."""

    kind: ClassVar[str]
    has_history: ClassVar[bool]
    stats: ReadStats

    def check(self) -> str:
        """Try address and credential with the cheapest call; return one sentence for the user, raise SourceError."""

    def discover(self) -> list[TableInfo]:
        """Every table there is to load, repeat groups included, parents before children; raise SourceError."""

    def describe(self, resource: str) -> list[TableInfo]:
        """The tables of one resource, the top table first; raise SourceError."""

    def fingerprint(self, resource: str, previous: str | None) -> str | None:
        """What changes whenever the resource's content does, by one cheap call at most; None where nothing tells.

        Asked before `read`, once for each load. `previous`: what was said when the resource was last loaded whole;
        the very same text again means that it need not be read. Raise SourceError.
        """

    def read(self, request: ReadRequest) -> Iterator[Page]:
        """Pages of the resource as asked; raise SourceError (at any page)."""

    def count(self, resource: str) -> int | None:
        """How many rows the source has now; None where it cannot tell cheaply."""

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Every `_ds_row_id` of the top table, in lists; only called where `count` is not None."""

    def close(self) -> None:
        """Free connections."""
