"""A table as plain Python: what the references of the steps take and give, and when two of them are the same."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Row = tuple[Any, ...]


class Undetermined(Exception):
    """The language leaves the answer open (ties, sums whose last digits hang on the order): no such recipe is tried."""


class Loose(float):
    """A number of a column that may have become a double or not: its value is known, how it is written is not."""


class TooLarge(Exception):
    """A figure is beyond its type; the build fails and says so."""


@dataclass(frozen=True)
class Relation:
    """Columns as (name, type of the language) and rows of Python values. `ordered`: the rows' order is promised."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    ordered: bool = False

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    def kind(self, name: str) -> str:
        return dict(self.columns)[name]

    def at(self, name: str) -> int:
        return self.names.index(name)

    def values(self, name: str) -> list[Any]:
        place = self.at(name)
        return [row[place] for row in self.rows]

    def dicts(self) -> Iterator[dict[str, Any]]:
        names = self.names
        for row in self.rows:
            yield dict(zip(names, row, strict=True))

    def with_column(self, name: str, kind: str, values: Sequence[Any]) -> Relation:
        """Replaced in place where it exists, else at the end."""
        if name in self.names:
            place = self.at(name)
            columns = tuple((n, kind if n == name else k) for n, k in self.columns)
            rows = tuple((*r[:place], v, *r[place + 1 :]) for r, v in zip(self.rows, values, strict=True))
        else:
            columns = (*self.columns, (name, kind))
            rows = tuple((*row, value) for row, value in zip(self.rows, values, strict=True))
        return replace(self, columns=columns, rows=rows)

    def only(self, names: Iterable[str]) -> Relation:
        wanted = list(names)
        places = [self.at(name) for name in wanted]
        return replace(
            self,
            columns=tuple(self.columns[p] for p in places),
            rows=tuple(tuple(row[p] for p in places) for row in self.rows),
        )

    def without(self, names: Iterable[str]) -> Relation:
        gone = set(names)
        return self.only(name for name in self.names if name not in gone)

    def keep(self, wanted: Iterable[bool | None]) -> Relation:
        return replace(self, rows=tuple(r for r, w in zip(self.rows, wanted, strict=True) if w is True))

    def shuffled(self) -> Relation:
        """The same without a promise about the order."""
        return replace(self, ordered=False)


@dataclass
class World:
    """What a step may look at besides the table: the other inputs, the session's time zone and day, the labels."""

    inputs: dict[str, Relation]
    start: str
    zone: ZoneInfo
    today: date
    now: datetime
    labels: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)


def group_value(value: Any) -> Any:
    """A key under which equal values meet, as PostgreSQL groups them: 0 and -0 are one, NaN is one, 1 and true two."""
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, (int, float, Decimal)):
        return ("number", "nan" if value != value else value + 0)
    if isinstance(value, (dict, list)):
        return ("json", json.dumps(value, sort_keys=True))
    if isinstance(value, datetime):
        return ("datetime", value.timestamp() if value.tzinfo is None else value.astimezone(ZoneInfo("UTC")))
    return (type(value).__name__, value)


def order_value(value: Any, descending: bool = False) -> Any:
    """A key that sorts as the language does: nulls last either way, NaN above every number."""
    if value is None:
        return (1, _Least())
    if isinstance(value, (int, float, Decimal)):
        value = (1, 0) if value != value else (0, value)
    return (0, _Turned(value) if descending else value)


class _Least:
    def __lt__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Least)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class _Turned:
    value: Any

    def __lt__(self, other: _Turned) -> bool:
        return bool(other.value < self.value)


def same(found: Any, expected: Any) -> bool:
    """Whether two cells are the same, floating sums by a relative 1e-9."""
    if found is None or expected is None:
        return found is expected
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, (int, float, Decimal)) and isinstance(expected, (int, float, Decimal)):
        if isinstance(found, int) and isinstance(expected, int):
            return found == expected
        one, two = float(found), float(expected)
        return one == two or (one != one and two != two) or math.isclose(one, two, rel_tol=1e-9)
    if isinstance(found, (dict, list)) and isinstance(expected, (dict, list)):
        return _same_json(found, expected)
    if type(found) is not type(expected):
        return False
    return bool(found == expected)


def _same_json(found: Any, expected: Any) -> bool:
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same_json(found[k], expected[k]) for k in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same_json, found, expected))
    return not isinstance(found, (dict, list)) and not isinstance(expected, (dict, list)) and same(found, expected)


def same_row(found: Row, expected: Row) -> bool:
    return len(found) == len(expected) and all(map(same, found, expected))


def difference(found: Sequence[Row], expected: Sequence[Row], ordered: bool) -> str | None:
    """What is not the same, for a message; None when nothing is."""
    if len(found) != len(expected):
        return f"{len(found)} rows instead of {len(expected)}: {found!r} instead of {expected!r}"
    if ordered:
        wrong = [(f, e) for f, e in zip(found, expected, strict=True) if not same_row(f, e)]
        return f"found and expected: {wrong!r}" if wrong else None
    left = list(found)
    missing: list[Row] = []
    for row in expected:
        place = next((i for i, other in enumerate(left) if same_row(other, row)), None)
        if place is None:
            missing.append(row)
        else:
            del left[place]
    return f"found {left!r} instead of {missing!r}" if missing else None


PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "date": date,
    "datetime": datetime,
    "time": time,
}
