"""Which columns hang on which, over one organisation: recipes' lineages as a graph, and the walks over it. No SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

Use = Literal["value", "filter", "join", "group", "sort", "expand", "named"]
"""How a recipe uses a column: `value` makes up a column of the result; `filter`, `join`, `group`, `sort` and `expand`
(lists to rows) decide which rows there are and in what order; `named` means that a step or setting names it, so that
the recipe cannot be built without it."""

State = Literal["current", "stale", "unknown", "missing"]

SYSTEM_PREFIX = "_ds_"
"""Columns of loaded tables that the platform adds; the catalog does not list them."""


@dataclass(frozen=True, order=True)
class Point:
    """A column of a table. `table` is `source:<source>.<table>` or `recipe:<name>`, of identifiers."""

    table: str
    column: str


@dataclass(frozen=True)
class ColumnUse:
    """That a recipe uses `source`; `column` is the column of its result where the use is `value`, else None."""

    column: str | None
    use: Use
    source: Point


@dataclass(frozen=True)
class RecipeColumn:
    """A column of a recipe's result. `personal`: some of what it is made of is a person's."""

    name: str
    type: str
    personal: bool = False


@dataclass(frozen=True)
class RecipeLineage:
    """What one recipe's compilation says of its columns; `spec_hash` is of the spec that was compiled."""

    spec_hash: str
    columns: tuple[RecipeColumn, ...]
    uses: tuple[ColumnUse, ...]


@dataclass(frozen=True)
class LineageColumn:
    """A column in the graph. `label` is the question or header; `missing`: a recipe uses it and it is not there."""

    name: str
    type: str | None = None
    label: str = ""
    personal: bool = False
    missing: bool = False


@dataclass(frozen=True)
class LineageTable:
    """A table in the graph. `address` is what the command line calls it: `health-forms/visits`, `monthly_visits`.

    `state` is `stale` when a recipe's lineage is of another spec than it has now, `unknown` when it has none yet,
    `missing` when a recipe reads the table and it is not in the catalog. `reads`: tables that a recipe's inputs name.
    """

    reference: str
    address: str
    title: str = ""
    state: State = "current"
    columns: Mapping[str, LineageColumn] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    recipe_id: int | None = None


@dataclass(frozen=True)
class Edge:
    """That the column `source` is used by `table`, in the making of its `column` (None: of its rows)."""

    source: Point
    table: str
    column: str | None
    use: Use


@dataclass(frozen=True)
class LineageGraph:
    """The tables of an organisation by reference, and how their columns hang together. It may hold circles."""

    tables: Mapping[str, LineageTable]
    edges: tuple[Edge, ...]

    @cached_property
    def into(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by the table that uses."""
        return _grouped((edge.table, edge) for edge in self.edges)

    @cached_property
    def out_of(self) -> Mapping[Point, tuple[Edge, ...]]:
        """Edges by the column that is used."""
        return _grouped((edge.source, edge) for edge in self.edges)

    def upstream(self, points: Iterable[Point]) -> LineageGraph:
        """What the columns come from: the values of each, back to the sources, and what decides their rows."""
        seen: set[Point] = set()
        tables: set[str] = set()
        found: dict[Edge, None] = {}
        waiting = list(points)
        while waiting:
            point = waiting.pop()
            if point in seen:
                continue
            seen.add(point)
            tables.add(point.table)
            for edge in self.into.get(point.table, ()):
                if edge.column == point.column:
                    found[edge] = None
                    waiting.append(edge.source)
                elif edge.column is None and edge.use != "named":
                    # The rows' columns are shown, and not followed: a filter's own history is not this column's.
                    found[edge] = None
        return self._part(seen, tables, found)

    def downstream(self, points: Iterable[Point]) -> LineageGraph:
        """What hangs on the columns: the columns made of each, to the last recipe, and the recipes that use it else."""
        seen: set[Point] = set()
        tables: set[str] = set()
        found: dict[Edge, None] = {}
        waiting = list(points)
        while waiting:
            point = waiting.pop()
            if point in seen:
                continue
            seen.add(point)
            tables.add(point.table)
            for edge in self.out_of.get(point, ()):
                found[edge] = None
                tables.add(edge.table)
                if edge.column is not None:
                    waiting.append(Point(edge.table, edge.column))
        return self._part(seen, tables, found)

    def points(self, reference: str) -> list[Point]:
        """Every column of a table."""
        return [Point(reference, name) for name in self.tables[reference].columns]

    def _part(self, points: set[Point], tables: set[str], edges: Mapping[Edge, None]) -> LineageGraph:
        shown = points | {edge.source for edge in edges}
        parts: dict[str, LineageTable] = {}
        for reference, table in self.tables.items():
            columns = {name: each for name, each in table.columns.items() if Point(reference, name) in shown}
            if columns or reference in tables:
                parts[reference] = replace(table, columns=columns)
        return LineageGraph(parts, tuple(edge for edge in self.edges if edge in edges))

    def order(self) -> dict[str, int]:
        """How many recipes deep each table is below the sources; a circle is cut where it is met."""
        depth: dict[str, int] = {}
        for reference in self.tables:
            self._deepen(reference, depth)
        return depth

    def in_order(self) -> list[LineageTable]:
        """The tables, each after those that it is made of."""
        depth = self.order()
        return sorted(self.tables.values(), key=lambda table: (depth[table.reference], table.address))

    def row_edges(self, reference: str) -> list[Edge]:
        """What decides the rows of a table; a column that is only named is left out where it has another use too."""
        edges = self.into.get(reference, ())
        used = {edge.source for edge in edges if edge.use != "named"}
        return [edge for edge in edges if edge.column is None and (edge.use != "named" or edge.source not in used)]

    def _deepen(self, start: str, depth: dict[str, int]) -> None:
        waiting: list[tuple[str, bool]] = [(start, False)]
        open_now: set[str] = set()
        while waiting:
            reference, done = waiting.pop()
            below = {edge.source.table for edge in self.into.get(reference, ())} & self.tables.keys()
            if done:
                depth[reference] = 1 + max((depth[each] for each in below if each in depth), default=-1)
                open_now.discard(reference)
            elif reference not in depth and reference not in open_now:
                open_now.add(reference)
                waiting.append((reference, True))
                waiting += [(each, False) for each in sorted(below)]


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _grouped(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, tuple[_Value, ...]]:
    found: dict[_Key, list[_Value]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in found.items()}
