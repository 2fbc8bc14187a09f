"""What a check is called and what it says of itself, from the check as it is written; light, for the graph's load.

It works on plain data and on whatever stands there: a check that is wrong has a name too, under which it fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 60
_SAFE = re.compile(r"[^a-z0-9]+")


def check_names(checks: Sequence[Any]) -> list[str]:
    """A name for each check of a table: its own, else one of its kind and columns; no two are equal.

    The same checks have the same names at every load, and one that is added at the end renames no other.
    """
    own = [_own_name(check) for check in checks]
    taken = {name for name in own if name is not None}
    names: list[str] = []
    for index, (check, name) in enumerate(zip(checks, own, strict=True)):
        if name is None or name in names:
            name = _free(name or _derived(check, index), taken)
        taken.add(name)
        names.append(name)
    return names


def severity_of(check: Any) -> str:
    """`warn` where that is written, else `error`."""
    return "warn" if isinstance(check, Mapping) and check.get("severity") == "warn" else "error"


def kind_of_check(check: Any) -> str:
    """The kind as written; '' where there is none."""
    kind = check.get("check") if isinstance(check, Mapping) else None
    return kind if isinstance(kind, str) else ""


def columns_of(check: Any) -> list[str]:
    """The columns that the check names itself; those of a condition are left aside."""
    if not isinstance(check, Mapping):
        return []
    columns = check.get("columns")
    found = columns if isinstance(columns, Sequence) and not isinstance(columns, str) else [check.get("column")]
    return [column for column in found if isinstance(column, str)]


def sentence(check: Any) -> str:
    """What the check promises, in one line."""
    words = _SENTENCES.get(kind_of_check(check))
    if words is None:
        return "This check cannot be read; running it says why."
    column = ", ".join(columns_of(check))
    given = {str(key): value for key, value in check.items()}
    given["ends"] = ends(given.get("min"), given.get("max"))
    place = _Blank(given, column=column)
    return words.format_map(place) if column or "{column}" not in words else words.replace("{column} ", "")


class _Blank(dict[str, Any]):
    """What a sentence is filled with; a place that nothing is known of stays empty."""

    def __missing__(self, key: str) -> str:
        return ""


_SENTENCES = {
    "not_null": "No row has null in {column}.",
    "unique": "No two rows have the same {column}.",
    "accepted_values": "{column} has only values that are listed.",
    "range": "{column} is {ends}.",
    "pattern": "{column} matches its pattern.",
    "exists_in": "Every {column} is found in {in}.",
    "row_count": "The number of rows is {ends}.",
    "row_count_change": "The number of rows has not changed more than is usual or allowed.",
    "fresh_within": "The data is not older than {within}.",
    "max_lossy_casts": "Casts lose no more values than allowed.",
    "condition": "Every row meets the condition.",
}


def ends(least: Any, most: Any) -> str:
    """`from 1 to 5`, `at least 1` or `at most 5`; at least one row where nothing is given."""
    if least is None and most is None:
        return "at least 1"
    if least is None:
        return f"at most {most}"
    return f"at least {least}" if most is None else f"from {least} to {most}"


def _own_name(check: Any) -> str | None:
    name = check.get("name") if isinstance(check, Mapping) else None
    return name if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) else None


def _derived(check: Any, index: int) -> str:
    kind = _clean(kind_of_check(check))
    if not kind:
        return f"check_{index + 1}"
    columns = "_".join(filter(None, map(_clean, columns_of(check))))
    return f"{kind}_{columns}"[:_LONGEST].rstrip("_") if columns else kind[:_LONGEST]


def _clean(text: str) -> str:
    if not text.isascii():
        from anyascii import anyascii

        text = anyascii(text)
    return _SAFE.sub("_", text.lower()).strip("_")


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name[: _LONGEST - 4]}_{number}", number + 1
    return candidate
