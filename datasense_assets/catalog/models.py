"""What exists, as frozen values: organisations, sources, their tables and columns, recipes.

These models are what `read_snapshot` returns and what every room above works with. They hold no secret: credentials
are read by `catalog.credentials` inside a run.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SLUG_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,39}$"
Slug = Annotated[str, StringConstraints(pattern=SLUG_PATTERN)]
RecipeName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

RESERVED_SOURCE_SLUGS = frozenset({"recipes"})
POSTGRES_NAME_BYTES = 63


def identifier(slug: str) -> str:
    """The slug as part of a name: `-` becomes `_` (asset keys, schemas, tables, groups, tags)."""
    return slug.replace("-", "_")


def bounded_name(name: str, limit: int = POSTGRES_NAME_BYTES) -> str:
    """The name itself where it fits in `limit` bytes, else a prefix and eight hex digits of its hash."""
    if len(name.encode()) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    prefix = name.encode()[: limit - 9].decode(errors="ignore")
    return f"{prefix}_{digest}"


def org_schema(org_slug: str) -> str:
    """The warehouse schema, and the role that owns it: `org_<org>`."""
    return f"org_{identifier(org_slug)}"


def table_name(source_slug: str, table_slug: str) -> str:
    """The warehouse table of a source's table: `<source>__<table>`, at most 63 bytes."""
    return bounded_name(f"{identifier(source_slug)}__{identifier(table_slug)}")


class Frozen(BaseModel):
    """A value: immutable, compared by content, refusing unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnType(StrEnum):
    """Types a column can have, in recipes and in loaded tables alike."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"
    JSON = "json"


class Grain(StrEnum):
    """Length of a partition."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Tier(StrEnum):
    """Service level of an organisation; premium is served first."""

    STANDARD = "standard"
    PREMIUM = "premium"


_TIME = r"([01]\d|2[0-3]):[0-5]\d"
AlertKind = Literal["failing", "late", "check", "credential", "schema_change"]


class Alerting(Frozen):
    """How an organisation wants to be told what is wrong; times of day are in its own time zone.

    `kinds`: of what (None: everything). `quiet_hours`: when nothing is sent, such as `21:00-07:00`. `digest`: one
    message a day with all there is to tell, at that time.
    """

    kinds: tuple[AlertKind, ...] | None = None
    quiet_hours: Annotated[str, StringConstraints(pattern=rf"^{_TIME}-{_TIME}$")] | None = None
    digest: Annotated[str, StringConstraints(pattern=rf"^{_TIME}$")] | None = None


class Deletes(StrEnum):
    """What happens to a row that its source no longer has."""

    IGNORE = "ignore"
    MARK = "mark"
    REMOVE = "remove"


class Cron(Frozen):
    """A schedule by cron expression, in the organisation's time zone."""

    cron: str


NamedSchedule = Literal["15min", "hourly", "daily", "weekly", "manual"]
Schedule = NamedSchedule | Cron
FullReload = Literal["weekly", "never"]


class Partitions(Frozen):
    """Time partitions of a source. `start` None: the day the source was added (or the form was deployed)."""

    every: Grain = Grain.DAY
    start: date | None = None


class Choice(Frozen):
    """One entry of a form's choice list: stored value and label by language ('' is the unnamed language)."""

    value: str
    labels: dict[str, str] = Field(default_factory=dict)


class SourceColumn(Frozen):
    """A column of a loaded table: `name` in Postgres, `key` at the source, `label` for people.

    `current`: the source has it now; one that it no longer has stays, without new values.
    """

    name: str
    key: str
    label: str
    type: ColumnType
    position: int
    labels: dict[str, str] = Field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    personal: bool = False
    current: bool = True


class SourceTable(Frozen):
    """A table of a source. A repeat group has `parent` (the slug of its parent table), its own slug
    `<parent>__<repeat>` and `path` (the names of the repeat groups down to it, as in `connectors.base.TableInfo`);
    `resource` is the connector's own id of the top table (form, tab, file); `history_start` is the day of its
    first possible row, where the source knows it; `checks` are as written, not looked over.
    """

    id: int
    slug: str
    resource: str
    path: tuple[str, ...] = ()
    parent: str | None = None
    title: str | None = None
    types: dict[str, ColumnType] = Field(default_factory=dict)
    key: tuple[str, ...] = ()
    history_start: date | None = None
    columns: tuple[SourceColumn, ...] = ()
    checks: tuple[Any, ...] = ()


class Source(Frozen):
    """A source as the graph sees it: no credentials. `fresh_within_seconds` None: twice the interval of its schedule;
    `full_reload` None: as its connector's config says.
    """

    id: int
    slug: str
    connector: str
    config: dict[str, Any] = Field(default_factory=dict)
    schedule: Schedule = "daily"
    partitions: Partitions = Partitions()
    created_on: date
    deletes: Deletes = Deletes.IGNORE
    discover_all: bool = False
    max_minutes: int | None = None
    paused: bool = False
    fresh_within_seconds: int | None = None
    full_reload: FullReload | None = None
    tables: tuple[SourceTable, ...] = ()

    @property
    def fresh_within(self) -> timedelta | None:
        """How old its data may be, where that is written."""
        return None if self.fresh_within_seconds is None else timedelta(seconds=self.fresh_within_seconds)

    @property
    def first_day(self) -> date:
        """The first partition's day: as set, else the first day the source knows of, else the day it was added."""
        if self.partitions.start is not None:
            return self.partitions.start
        known = [table.history_start for table in self.tables if table.history_start is not None]
        return min([*known, self.created_on])

    def table(self, slug: str) -> SourceTable:
        """The table of that slug (dashes and underscores alike).

        Raises:
            KeyError: the source has no such table.

        """
        for table in self.tables:
            if identifier(table.slug) == identifier(slug):
                return table
        raise KeyError(slug)


class RecipeRow(Frozen):
    """A recipe as stored: `spec` is its JSON, already well-formed but not compiled; `spec_hash` is the catalog's
    hash of it, to be handed to `record_build` so that the catalog knows which spec was built. `personal` names the
    columns of its result that are made of a personal column, as far as its lineage is known.
    """

    id: int
    name: str
    title: str | None = None
    spec: dict[str, Any]
    spec_hash: str = ""
    personal: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, str]:
        """Alias to `source:<source>.<table>` or `recipe:<name>`."""
        return {str(k): str(v) for k, v in self.spec.get("inputs", {}).items()}

    @property
    def checks(self) -> tuple[Any, ...]:
        """The checks as written, not looked over."""
        checks = self.spec.get("checks")
        return tuple(checks) if isinstance(checks, list) else ()


class Problem(Frozen):
    """One thing that is wrong: where (a path in the file or row), what, and how to mend it; `line` counts from 1.

    `code`: of what is wrong in a recipe or a check, as docs/recipes.md lists them.
    """

    path: str
    message: str
    fix: str | None = None
    line: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        """The problem on one line."""
        where = self.path if self.line is None else f"{self.path} (line {self.line})"
        return f"{where}: {self.message}" + (f" {self.fix}" if self.fix else "")


class InvalidRow(Frozen):
    """A source or recipe that cannot be used as stored; it becomes a visible failing asset at its own key."""

    kind: Literal["source", "recipe"]
    id: int
    slug: str
    tables: tuple[str, ...] = ()
    problems: tuple[Problem, ...]


class Organization(Frozen):
    """An organisation with all it owns; `id` is the catalog's."""

    id: int
    slug: str
    name: str
    timezone: str = "UTC"
    tier: Tier = Tier.STANDARD
    own_warehouse: bool = False
    paused: bool = False
    sources: tuple[Source, ...] = ()
    recipes: tuple[RecipeRow, ...] = ()
    invalid: tuple[InvalidRow, ...] = ()


class Snapshot(Frozen):
    """One consistent read of the catalog, ordered by slug; equal content gives an equal `content_hash`."""

    revision: int
    organizations: tuple[Organization, ...] = ()

    @property
    def content_hash(self) -> str:
        """SHA-256 of the organisations (the revision apart), as 16 hex digits."""
        body = self.model_dump_json(exclude={"revision"})
        return hashlib.sha256(body.encode()).hexdigest()[:16]


_REFERENCE = re.compile(
    r"^(?:source:(?P<source>[a-z][a-z0-9_-]*)\.(?P<table>[A-Za-z0-9_-]+)|recipe:(?P<recipe>[a-z][a-z0-9_-]*))$"
)


class InputReference(Frozen):
    """Where a recipe's input comes from: a source's table or another recipe of the same organisation."""

    source: str | None = None
    table: str | None = None
    recipe: str | None = None

    @classmethod
    def parse(cls, text: str) -> InputReference:
        """Read `source:<source>.<table>` or `recipe:<name>`; parts come out as identifiers (`_`, not `-`).

        Raises:
            ValueError: the text has neither form.

        """
        match = _REFERENCE.match(text)
        if match is None:
            raise ValueError(f"{text!r} names no input; write source:<source>.<table> or recipe:<name>")
        return cls(**{k: identifier(v) for k, v in match.groupdict().items() if v})

    @classmethod
    def of_table(cls, source: str, table: str) -> InputReference:
        """To a source's table, by their slugs."""
        return cls(source=identifier(source), table=identifier(table))

    @classmethod
    def of_recipe(cls, name: str) -> InputReference:
        """To a recipe, by its name."""
        return cls(recipe=identifier(name))

    @property
    def text(self) -> str:
        """As recipes and checks write it, with identifiers."""
        return f"recipe:{self.recipe}" if self.recipe is not None else f"source:{self.source}.{self.table}"
