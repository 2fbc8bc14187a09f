"""What a change would do to recipes: which break, which lose columns, which stay on their last good data. No SQL."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from datasense_assets.catalog.lineage import Edge, LineageGraph, LineageTable, Point

Effect = Literal["breaks", "may_break", "loses_columns", "waits"]
"""`breaks`: it names what would be gone. `may_break`: it uses a column of another type than before, or nothing is known
of its columns yet. `loses_columns`: it is built, with fewer columns. `waits`: it reads a recipe that breaks, and stays
on its last good data."""

_WORST: tuple[Effect, ...] = ("breaks", "may_break", "loses_columns", "waits")


@dataclass(frozen=True)
class Impact:
    """What happens to one recipe. `columns` (as `table.column`) are those it happens through; `through` the recipes
    between the change and this one, the nearest to the change first; `lost` the result's columns that would go.
    """

    recipe_id: int
    recipe: str
    effect: Effect
    columns: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The impact as a sentence."""
        by = ", ".join(self.columns)
        if self.effect == "breaks":
            return f"the recipe {self.recipe} would break: it reads {by}."
        if self.effect == "may_break":
            return f"the recipe {self.recipe} may break: it uses {by}."
        if self.effect == "loses_columns":
            return f"the recipe {self.recipe} would lose {', '.join(self.lost)}."
        return f"the recipe {self.recipe} would stay on its last data: it reads {by}, which would not be built."


def impact(
    graph: LineageGraph,
    *,
    gone_tables: Iterable[str] = (),
    gone: Iterable[Point] = (),
    retyped: Iterable[Point] = (),
) -> list[Impact]:
    """What would happen to recipes if these tables and columns went and those columns had another type.

    The worst for each recipe, in the order in which they read each other; a recipe that is itself among the tables is
    left out. Circles of recipes end the walk.
    """
    return _Impact(graph, set(gone_tables), set(gone), set(retyped)).find()


class _Impact:
    """One walk: recipes are looked at again whenever something that they read has changed, until nothing does."""

    def __init__(self, graph: LineageGraph, tables: set[str], gone: set[Point], retyped: set[Point]) -> None:
        self._graph = graph
        self._start = frozenset(tables)
        self._gone_tables = tables
        self._gone = gone | {point for table in tables if table in graph.tables for point in graph.points(table)}
        self._retyped = retyped
        self._found: dict[str, Impact] = {}

    def find(self) -> list[Impact]:
        order = self._graph.order()
        readers = _readers(self._graph)
        touched = self._gone_tables | {point.table for point in self._gone | self._retyped}
        waiting = deque(reader for table in sorted(touched) for reader in readers.get(table, ()))
        while waiting:
            reference = waiting.popleft()
            before = (self._found.get(reference), len(self._gone), len(self._retyped))
            self._look_at(self._graph.tables[reference])
            if (self._found.get(reference), len(self._gone), len(self._retyped)) != before:
                waiting.extend(readers.get(reference, ()))
        return [self._found[reference] for reference in sorted(self._found, key=lambda r: (order.get(r, 0), r))]

    def _look_at(self, table: LineageTable) -> None:
        if table.recipe_id is None or table.reference in self._start:
            return
        edges = self._graph.into.get(table.reference, ())
        whole = [each for each in table.reads if each in self._gone_tables]
        named = [edge for edge in edges if edge.use == "named" and edge.source in self._gone]
        lost = self._lost_columns(table, edges)
        changed = [edge for edge in edges if edge.source in self._retyped]
        broken = [each for each in table.reads if self._effect(each) in ("breaks", "waits")]
        unknown = table.state == "unknown" and any(self._touches(each) for each in table.reads)
        if whole or named:
            self._note(table, "breaks", [edge.source for edge in named], whole)
            return
        self._gone |= {Point(table.reference, name) for name in lost}
        self._retyped |= {Point(table.reference, edge.column) for edge in changed if edge.column is not None}
        if changed or unknown:
            touched = [each for each in table.reads if self._touches(each)] if unknown else []
            self._note(table, "may_break", [edge.source for edge in changed], touched)
        if lost:
            self._note(table, "loses_columns", [], [edge.source.table for edge in edges if edge.column in lost], lost)
        if broken:
            self._note(table, "waits", [], broken)

    def _lost_columns(self, table: LineageTable, edges: Iterable[Edge]) -> list[str]:
        """Columns that pass through by themselves, all of whose sources go."""
        sources: dict[str, list[Point]] = {}
        for edge in edges:
            if edge.column is not None:
                sources.setdefault(edge.column, []).append(edge.source)
        return [name for name in table.columns if name in sources and all(s in self._gone for s in sources[name])]

    def _effect(self, reference: str) -> Effect | None:
        found = self._found.get(reference)
        return None if found is None else found.effect

    def _touches(self, reference: str) -> bool:
        return reference in self._gone_tables or any(p.table == reference for p in self._gone | self._retyped)

    def _note(
        self, table: LineageTable, effect: Effect, points: list[Point], tables: list[str], lost: Iterable[str] = ()
    ) -> None:
        known = self._found.get(table.reference)
        if known is not None and _WORST.index(known.effect) < _WORST.index(effect):
            return
        address = {reference: each.address for reference, each in self._graph.tables.items()}
        columns = [f"{address[point.table]}.{point.column}" for point in points]
        columns += [address[reference] for reference in tables if effect != "loses_columns"]
        read = dict.fromkeys([*(point.table for point in points), *tables])
        self._found[table.reference] = Impact(
            recipe_id=table.recipe_id or 0,
            recipe=table.address,
            effect=effect,
            columns=tuple(dict.fromkeys(columns)),
            # As found first: in a circle of recipes the way would grow with each round.
            through=known.through if known is not None and known.effect == effect else self._through(read),
            lost=tuple(lost),
        )

    def _through(self, read: Iterable[str]) -> tuple[str, ...]:
        """The recipes from the change to what is read, where that is itself a recipe that the change has reached."""
        for reference in read:
            found = self._found.get(reference)
            if found is not None and found.effect != "breaks":
                return (*found.through, found.recipe)
        return ()


def _readers(graph: LineageGraph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in graph.tables.values():
        for read in table.reads:
            found.setdefault(read, []).append(table.reference)
    return found
