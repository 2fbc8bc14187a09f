"""Rows read again at the cursor's boundary: which of them are as they were, so that they need not be loaded again.

A cursor has a lag and is inclusive, so each sync reads some rows twice. The newest rows' hashes are kept beside the
cursor (a bounded number); a top row stands for itself and all its repeat rows, at any depth.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.connectors.base import PARENT_ID, ROW_ID

BOUNDARY_ROWS = 500


class Boundary:
    """Fed every page of one load; `previous` is what the last load left (row id to hash)."""

    def __init__(self, previous: Mapping[str, str]) -> None:
        """Watch the rows of `previous`, and the newest of this load."""
        self._previous = previous
        self._watched = pa.array(list(previous), pa.string())
        # the newest pages as they came, each top page with those of its repeat groups: older ones need no look but at
        # the rows of `previous`
        self._groups: deque[list[tuple[tuple[str, ...], pa.Table]]] = deque()
        self._rows_behind = 0
        # what the repeat rows add; a top row's own hash is worked out when it is sure to be wanted
        self._hashes: OrderedDict[str, int] = OrderedDict()
        self._rows: dict[str, tuple[pa.Table, int]] = {}
        self._root_of: dict[tuple[tuple[str, ...], str], str] = {}

    def add(self, path: tuple[str, ...], data: pa.Table) -> None:
        """Take one page of the table at `path` into account (a top page before its repeat groups')."""
        if path:
            if self._groups:
                self._groups[-1].append((path, data))
            return
        if self._groups:
            self._rows_behind += data.num_rows
        self._groups.append([(path, data)])
        while self._rows_behind >= BOUNDARY_ROWS:
            self._look(self._groups.popleft(), newest=False)
            self._rows_behind -= self._groups[0][0][1].num_rows

    def _look(self, group: list[tuple[tuple[str, ...], pa.Table]], *, newest: bool) -> None:
        (_, top), *repeats = group
        self._add_top(top, newest=newest)
        for path, data in repeats if self._root_of else ():
            self._add_repeats(path, data)

    def _add_repeats(self, path: tuple[str, ...], data: pa.Table) -> None:
        parents = {row_id for (at, row_id) in self._root_of if at == path[:-1]}
        if not parents:
            return
        watched = data.filter(pc.is_in(data[PARENT_ID], value_set=pa.array(sorted(parents), pa.string())))
        for row in watched.to_pylist():
            root = self._root_of[path[:-1], row[PARENT_ID]]
            self._root_of[path, row[ROW_ID]] = root
            self._hashes[root] ^= _row_hash(path, row)

    def _add_top(self, data: pa.Table, *, newest: bool) -> None:
        last = data.slice(max(0, data.num_rows - BOUNDARY_ROWS) if newest else data.num_rows)
        older = data.slice(0, data.num_rows - last.num_rows)
        if self._previous and older.num_rows:
            older = older.filter(pc.is_in(older[ROW_ID], value_set=self._watched))
        else:
            older = older.slice(0, 0)
        for part in (older, last):
            for at, row_id in enumerate(part[ROW_ID].to_pylist()):
                self._hashes[row_id] = 0
                self._hashes.move_to_end(row_id)
                self._rows[row_id] = (part, at)
                self._root_of[(), row_id] = row_id
        self._forget()

    def _forget(self) -> None:
        surplus = len(self._hashes) - len(self._previous) - BOUNDARY_ROWS
        if surplus <= 0:
            return
        gone = {
            row_id for row_id in list(self._hashes)[: surplus + len(self._previous)] if row_id not in self._previous
        }
        for row_id in gone:
            del self._hashes[row_id], self._rows[row_id]
        self._root_of = {at: root for at, root in self._root_of.items() if root not in gone}

    def _whole(self) -> None:
        """Take the newest pages too, and add each top row's own hash to its repeat rows'."""
        while self._groups:
            self._look(self._groups.popleft(), newest=True)
        wanted: dict[int, tuple[pa.Table, list[int]]] = {}
        for part, at in self._rows.values():
            wanted.setdefault(id(part), (part, []))[1].append(at)
        self._rows.clear()
        for part, positions in wanted.values():
            for row in part.take(positions).to_pylist():
                self._hashes[row[ROW_ID]] ^= _row_hash((), row)

    def unchanged(self) -> dict[tuple[str, ...], set[str]]:
        """Row ids by table path that came again exactly as they were, repeat rows included."""
        self._whole()
        same = {row_id for row_id, value in self._hashes.items() if self._previous.get(row_id) == f"{value:016x}"}
        by_path: dict[tuple[str, ...], set[str]] = {}
        for (path, row_id), root in self._root_of.items():
            if root in same:
                by_path.setdefault(path, set()).add(row_id)
        return by_path

    def current(self) -> dict[str, str]:
        """What to keep for the next load: the newest rows of this one, then of the last."""
        self._whole()
        newest = {row_id: f"{value:016x}" for row_id, value in list(self._hashes.items())[-BOUNDARY_ROWS:]}
        room = BOUNDARY_ROWS - len(newest)
        kept = [(r, h) for r, h in self._previous.items() if r not in newest]
        return {**dict(kept[len(kept) - room :] if room < len(kept) else kept), **newest}


def _row_hash(path: tuple[str, ...], row: Mapping[str, str | None]) -> int:
    content = repr((path, sorted((k, v) for k, v in row.items() if v is not None)))
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big")
