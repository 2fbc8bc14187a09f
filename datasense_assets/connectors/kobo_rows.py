"""Kobo submissions (nested JSON) as flat pages of Arrow text columns, one table for each repeat group.

Columns are the form's own and whatever else the data has: older versions of a form leave answers under paths that the
present one does not know. A page is taken column by column, so that Python touches a value only where it is no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import methodcaller
from typing import Any

import pyarrow as pa

from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID, kept_key
from datasense_assets.connectors.kobo_form import FormTable, FormTables, Path, repeat_name
from datasense_assets.connectors.kobo_resume import Found
from datasense_assets.connectors.plain_text import Cleaner

Json = Mapping[str, Any]
_NOTHING = type(None)
_NESTED = frozenset({list, dict})
_EMPTY = frozenset({list, dict, _NOTHING})
_values = methodcaller("values")
_as_json = json.JSONEncoder(ensure_ascii=False).encode


class Flattener:
    """Turns pages of submissions into tables; columns and repeat groups that turn up are kept for the pages after."""

    def __init__(self, form: FormTables, found: Sequence[Found] = ()) -> None:
        """Start with the form's own tables, and those that earlier pages had found in the data."""
        self._tables = list(form.tables)
        self._repeats = dict(form.repeats)
        self._keys = {t.path: dict.fromkeys(c.key for c in t.columns) for t in form.tables}
        self.found: list[Found] = []
        self.clean = Cleaner()
        for xpath, parent in found:
            self._find(xpath, self._repeats[parent] if parent else form.top)

    def flatten(self, submissions: Sequence[Json]) -> list[tuple[Path, pa.Table]]:
        """Tables with at least one row, parents before children; every column is text.

        `_ds_row_id` is the submission's `_id`, for a repeat's row `<parent>/<index>`, the index counted from 1.
        """
        pages: dict[Path, pa.Table] = {}
        if submissions:
            self._flatten(self._tables[0], submissions, {ROW_ID: [str(s["_id"]) for s in submissions]}, pages)
        return [(t.path, pages[t.path]) for t in self._tables if t.path in pages]

    def _flatten(
        self, table: FormTable, items: Sequence[Json], own: dict[str, list[str]], pages: dict[Path, pa.Table]
    ) -> None:
        """Add the page of one table, and those of the repeat groups in its items; `own` are its special columns."""
        texts: dict[str, pa.Array] = {}
        for name, values in _columns(items):
            key = kept_key(name)
            text = _texts(values)
            if text is None:
                types = frozenset(map(type, values))
                if list in types:
                    left = self._take_repeats(table, name, values, items, own[ROW_ID], pages)
                    if left is None:
                        continue
                    values = left
                text = self._as_texts(key, values, types)
            texts[key] = text
        keys = self._keys[table.path]
        keys.update(dict.fromkeys(key for key in texts if key not in keys))
        nothing = pa.nulls(len(items), pa.string())
        columns = {key: texts.get(key, nothing) for key in keys}
        pages[table.path] = pa.table(columns | {name: pa.array(values, pa.string()) for name, values in own.items()})

    def _as_texts(self, key: str, values: Sequence[Any], types: frozenset[type]) -> pa.Array:
        """Values of any kind as text."""
        if types == {int}:
            return pa.array(list(map(str, values)), pa.string())
        if types <= _EMPTY and not any(values):
            return pa.nulls(len(values), pa.string())
        return pa.array([self._text(key, value) for value in values], pa.string())

    def _text(self, key: str, value: Any) -> str | None:
        if isinstance(value, str):
            return self.clean(value)
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if type(value) in _NESTED:
            if key == "_validation_status":
                return str(value["uid"]) if isinstance(value, dict) and value.get("uid") else None
            if not value or (key == "_geolocation" and all(part is None for part in value)):
                return None
            return self.clean.json(_as_json(value))
        return str(value)

    def _take_repeats(
        self,
        table: FormTable,
        key: str,
        values: Sequence[Any],
        items: Sequence[Json],
        row_ids: Sequence[str],
        pages: dict[Path, pa.Table],
    ) -> Sequence[Any] | None:
        """Add the pages of the repeat group whose rows are among the values; the values that are none, None for no
        such.
        """
        left = list(values)
        stays = False
        rows: list[Json] = []
        own: dict[str, list[str]] = {PARENT_ID: [], INDEX: [], ROW_ID: []}
        group: FormTable | None = None
        for at, value in enumerate(values):
            repeat = self._repeat(key, value, table)
            if repeat is None:
                stays = stays or key in items[at]
                continue
            group, left[at] = repeat, None
            parent = row_ids[at]
            indexes = [str(index) for index in range(1, len(value) + 1)]
            own[PARENT_ID] += [parent] * len(value)
            own[INDEX] += indexes
            own[ROW_ID] += [f"{parent}/{index}" for index in indexes]
            rows += value
        if group is not None and rows:
            self._flatten(group, rows, own, pages)
        return left if stays else None

    def _repeat(self, key: str, value: Any, table: FormTable) -> FormTable | None:
        """The repeat group whose rows `value` is; None for other lists and objects, which stay JSON."""
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            return None
        known = self._repeats.get(key)
        if known is not None and known.parent is table:
            return known
        if not value or (table.parent is None and key.startswith("_")):  # the server's own: _attachments, _notes
            return None
        return self._find(key, table)

    def _find(self, xpath: str, parent: FormTable) -> FormTable:
        """Add a repeat group that the form does not declare."""
        siblings = [t.name for t in self._tables if t.parent is parent]
        name = repeat_name(xpath, siblings)
        found = FormTable(xpath, name, f"{parent.title}: {xpath.rpartition('/')[2]}", parent=parent)
        self._tables.append(found)
        self._repeats[xpath] = found
        self._keys[found.path] = {}
        self.found.append((xpath, parent.xpath))
        return found


def _columns(items: Sequence[Json]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Each key with its values, None where an item has none; a third of the time where all items have the same keys."""
    shape = tuple(items[0])
    if all(map(shape.__eq__, map(tuple, items))):
        return zip(shape, zip(*map(_values, items), strict=True), strict=True)
    return ((key, [item.get(key) for item in items]) for key in dict.fromkeys(chain.from_iterable(items)))


def _texts(values: Sequence[Any]) -> pa.Array | None:
    """The values, where each is a text that Postgres can hold, or nothing; Arrow tells sooner than Python."""
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        return None
    data = texts.buffers()[2]
    return None if data is not None and b"\0" in data.to_pybytes() else texts
