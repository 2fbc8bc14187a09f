"""Kobo submissions (nested JSON) as flat pages of Arrow text columns, one table for each repeat group.

Columns are the form's own and whatever else the data has: older versions of a form leave answers under paths that the
present one does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID
from datasense_assets.connectors.kobo_form import FormTable, FormTables, Path, repeat_name
from datasense_assets.connectors.kobo_resume import Found

Json = Mapping[str, Any]
_NESTED = frozenset({list, dict})
_OWN = frozenset({ROW_ID, PARENT_ID, INDEX})


class Flattener:
    """Turns pages of submissions into tables; columns and repeat groups that turn up are kept for the pages after."""

    def __init__(self, form: FormTables, found: Sequence[Found] = ()) -> None:
        """Start with the form's own tables, and those that earlier pages had found in the data."""
        self._tables = list(form.tables)
        self._repeats = dict(form.repeats)
        self._keys = {t.path: dict.fromkeys(c.key for c in t.columns) for t in form.tables}
        self.found: list[Found] = []
        for xpath, parent in found:
            self._find(xpath, self._repeats[parent] if parent else form.top)

    def flatten(self, submissions: Iterable[Json]) -> list[tuple[Path, pa.Table]]:
        """Tables with at least one row, parents before children; every column is text.

        `_ds_row_id` is the submission's `_id`, for a repeat's row `<parent>/<index>`, the index counted from 1.
        """
        rows: dict[Path, list[dict[str, Any]]] = {}
        for submission in submissions:
            self._flatten(submission, str(submission["_id"]), self._tables[0], rows, {})
        return [(t.path, self._table(t.path, rows[t.path])) for t in self._tables if t.path in rows]

    def _flatten(
        self,
        item: Json,
        row_id: str,
        table: FormTable,
        rows: dict[Path, list[dict[str, Any]]],
        place: dict[str, str],
    ) -> None:
        """Add the item's row, values as they came, and the rows of its repeat groups."""
        flat: dict[str, Any] = {**item, ROW_ID: row_id}
        if len(flat) == len(item):
            flat = {k: v for k, v in item.items() if k not in _OWN} | {ROW_ID: row_id}
        flat.update(place)
        rows.setdefault(table.path, []).append(flat)
        nested = () if _NESTED.isdisjoint(map(type, item.values())) else [k for k in item if type(item[k]) in _NESTED]
        for key in nested:
            repeat = self._repeat(key, item[key], table)
            if repeat is not None:
                del flat[key]
                for index, inner in enumerate(item[key], start=1):
                    inner_place = {PARENT_ID: row_id, INDEX: str(index)}
                    self._flatten(inner, f"{row_id}/{index}", repeat, rows, inner_place)
        keys = self._keys[table.path]
        if not keys.keys() >= item.keys():
            keys.update((key, None) for key in flat if key not in keys and key not in _OWN)

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

    def _table(self, path: Path, rows: list[dict[str, Any]]) -> pa.Table:
        own = (ROW_ID, PARENT_ID, INDEX) if path else (ROW_ID,)
        names = [*self._keys[path], *own]
        return pa.table({name: _texts(name, values) for name, values in zip(names, _columns(names, rows), strict=True)})


def _columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[Any]]:
    """The values of each name, None where a row has none; half the time where every row has every name."""
    if len(names) > 1:
        with suppress(KeyError):
            return list(zip(*map(itemgetter(*names), rows), strict=True))
    return ([row.get(name) for row in rows] for name in names)


def _texts(key: str, values: Sequence[Any]) -> pa.Array:
    """The values as text; Arrow tells sooner than Python whether they are just that already."""
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        return pa.array([_text(key, value) for value in values], pa.string())
    return pc.replace_substring(texts, "\0", "") if pc.any(pc.match_substring(texts, "\0")).as_py() else texts


def _text(key: str, value: Any) -> str | None:
    if isinstance(value, str):
        return _clean(value)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) in _NESTED:
        if key == "_validation_status":
            return str(value["uid"]) if isinstance(value, dict) and value.get("uid") else None
        if not value or (key == "_geolocation" and all(part is None for part in value)):
            return None
        return _clean(json.dumps(value, ensure_ascii=False).replace("\\u0000", ""))
    return str(value)


def _clean(text: str) -> str:
    """Without what Postgres cannot hold: NUL, and halves of characters that JSON lets through."""
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode("utf-8", "replace").decode()
