"""SurveyCTO submissions (wide JSON) as pages of Arrow text columns, one table for each repeat group; its dates.

The server writes every moment as `Oct 10, 2015 6:26:24 PM`, in UTC. A value that is exactly that becomes ISO text, by
the value alone, so that a row that has not changed always gives the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, kept_key
from datasense_assets.connectors.plain_text import Cleaner
from datasense_assets.connectors.surveycto_repeats import COUNT, Indexes, Layout, Path

Json = Mapping[str, Any]
Cells = dict[str, str | None]

KEY = "KEY"
COMPLETED = "CompletionDate"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# newer Java puts a narrow no-break space before AM and PM; %b and %p would follow the worker's locale
_MOMENT = re.compile(
    rf"({'|'.join(_MONTHS)}) ([0-9]{{1,2}}), ([0-9]{{4}}),? ([0-9]{{1,2}}):([0-9]{{2}}):([0-9]{{2}})[ \u202f]([AP])M"
)


def server_moment(text: str) -> datetime | None:
    """The moment that the server's text form stands for, in UTC; None for any other text."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    month, day, year, hour, minute, second, half = match.groups()
    if not 1 <= int(hour) <= 12:
        return None
    hours = int(hour) % 12 + (12 if half == "P" else 0)
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), hours, int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None


def server_text(moment: datetime) -> str:
    """The server's text form of a moment, cut to the second: `Oct 10, 2015 6:26:24 PM`, in UTC."""
    utc = moment.astimezone(UTC)
    half = "PM" if utc.hour >= 12 else "AM"
    return f"{_MONTHS[utc.month - 1]} {utc.day}, {utc.year:04d} {utc.hour % 12 or 12}:{utc:%M:%S} {half}"


def completed_at(row: Json) -> datetime | None:
    """When the submission was complete on the server; None where it does not say so in its own form."""
    value = row.get(COMPLETED)
    return server_moment(value) if isinstance(value, str) else None


def row_key(row: Json) -> str | None:
    """What identifies the submission; None where it has no KEY."""
    value = row.get(KEY)
    return Cleaner()(value) or None if isinstance(value, str) else None


def flatten(rows: Iterable[Json], layout: Layout, clean: Cleaner) -> list[tuple[Path, pa.Table]]:
    """Tables with at least one row, the top one first, parents before children; every column is text.

    `_ds_row_id` is the submission's `KEY`; a repeat's row adds its numbers (`<KEY>/2`, nested `<KEY>/2/1`). A repeat
    has as many rows as its `<repeat>_count` says and there are columns for, and each further one that holds a value.
    An empty text is no answer, so it is null.
    """
    found: dict[Path, list[Cells]] = {}
    for row in rows:
        key = row_key(row)
        if key is None:
            raise ValueError("a row without KEY has no place in a table")
        for path, instances in _instances(row, layout, clean).items():
            for indexes in sorted(instances):
                found.setdefault(path, []).append(instances[indexes] | _identity(key, indexes))
    own = {path: (ROW_ID, PARENT_ID, INDEX) if path else (ROW_ID,) for path in layout.columns}
    return [
        (path, _table([kept_key(name) for name in names], own[path], found[path]))
        for path, names in layout.columns.items()
        if path in found
    ]


def _instances(row: Json, layout: Layout, clean: Cleaner) -> dict[Path, dict[Indexes, Cells]]:
    """The row's values by table and by row number."""
    found: dict[Path, dict[Indexes, Cells]] = {path: {} for path in layout.columns}
    found[()][()] = {}
    for key, value in row.items():
        place = layout.places[key]
        text = _text(value, clean)
        if text is not None:
            found[place.path].setdefault(place.indexes, {})[kept_key(place.column)] = text
    for path in reversed(list(layout.columns)):  # a row of an inner repeat stands in a row of the outer one
        for indexes in found[path] if len(path) > 1 else ():
            found[path[:-1]].setdefault(indexes[:-1], {})
    for path in list(layout.columns)[1:]:
        for outer, cells in found[path[:-1]].items():
            for number in range(1, min(_count(cells.get(path[-1] + COUNT)), layout.most[path]) + 1):
                found[path].setdefault((*outer, number), {})
    return found


def _identity(key: str, indexes: Indexes) -> Cells:
    if not indexes:
        return {ROW_ID: key}
    parent = "/".join((key, *map(str, indexes[:-1])))
    return {ROW_ID: f"{parent}/{indexes[-1]}", PARENT_ID: parent, INDEX: str(indexes[-1])}


def _count(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,6}", text) else 0


def _table(names: list[str], own: tuple[str, ...], rows: list[Cells]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in (*names, *own)})


def _text(value: Any, clean: Cleaner) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return clean.json(json.dumps(value, ensure_ascii=False, default=str))
    if not isinstance(value, str):
        return str(value)
    moment = server_moment(value)
    if moment is not None:
        return moment.isoformat()
    return clean(value) or None
