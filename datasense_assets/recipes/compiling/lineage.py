"""Which source columns each result column is made of, by walking the expression tree.

Window partition and order columns count as sources. What only decides which rows there are (filters, join keys, groups,
order) is listed apart. Ten thousand times faster than parsing the SQL again; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import ibis.expr.operations as ops
import ibis.expr.types as ir

Source = tuple[str, str]
"""Name of a table and of a column in it."""

RowUse = Literal["filter", "join", "group", "sort", "expand"]
"""How a column decides which rows there are, or their order; `expand` is of lists that become rows."""

Mention = tuple[ops.Relation, str]
"""A table as it stands between two steps, and a column of it that a step names."""
_Point = tuple[ops.Relation, str]

Answers = Mapping[ops.Value, Sequence[Mention]]
"""Of the value that a step gave a column, the columns whose question it answers."""


class _Walk:
    """One walk over one expression; what each column of each relation hangs on directly is worked out once."""

    def __init__(self) -> None:
        self._direct: dict[_Point, tuple[_Point, ...]] = {}

    def sources(self, points: Iterable[_Point]) -> list[Source]:
        found: set[Source] = set()
        seen: set[_Point] = set()
        stack = list(points)
        while stack:
            point = stack.pop()
            if point in seen:
                continue
            seen.add(point)
            relation, name = point
            if isinstance(relation, ops.PhysicalTable):
                found.add((relation.name, name))
            else:
                stack.extend(self._behind(point))
        return sorted(found)

    def _behind(self, point: _Point) -> tuple[_Point, ...]:
        known = self._direct.get(point)
        if known is None:
            relation, name = point
            if same := _as_they_are(point):
                known = same
            elif isinstance(relation, ops.TableUnnest):
                is_new = name not in relation.parent.schema
                known = tuple(fields_of(relation.column)) if is_new else ((relation.parent, name),)
            else:
                known = tuple(fields_of(relation.values[name]))
            self._direct[point] = known
        return known


def _as_they_are(point: _Point) -> tuple[_Point, ...]:
    """The columns that stand in this one as they are, where its relation makes nothing of them; of a union two."""
    relation, name = point
    if isinstance(relation, ops.Set):
        return ((relation.left, name), (relation.right, name))
    return ((relation.parent, name),) if isinstance(relation, (ops.Reference, ops.Distinct)) else ()


def fields_of(value: Any) -> list[_Point]:
    """The columns that a value expression names, each as (relation, name); it does not go into the relations."""
    found: list[_Point] = []
    seen: set[Any] = set()
    stack = [value]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, ops.Field):
            found.append((node.rel, node.name))
        elif isinstance(node, ops.Value) or not isinstance(node, ops.Relation):
            stack.extend(node.__children__)
    return found


def column_lineage(table: ir.Table) -> dict[str, list[Source]]:
    """For each column of the result, the source columns its values come from, sorted."""
    walk, root = _Walk(), table.op()
    return {name: walk.sources([(root, name)]) for name in table.columns}


def passed_columns(table: ir.Table) -> dict[str, Source]:
    """The columns of the result that are a stored table's own, untouched, and which those are."""
    root = table.op()
    return {name: source for name in table.columns if (source := _passed((root, name))) is not None}


def _passed(point: _Point) -> Source | None:
    relation, name = point
    while not isinstance(relation, ops.PhysicalTable):
        if isinstance(relation, (ops.Reference, ops.Distinct)):
            relation = relation.parent
            continue
        value = None if isinstance(relation, ops.Set) else relation.values.get(name)
        while isinstance(value, ops.Alias):
            value = value.arg
        if not isinstance(value, ops.Field):
            return None
        relation, name = value.rel, value.name
    return relation.name, name


def answered_columns(table: ir.Table, answers: Answers) -> dict[str, list[Source]]:
    """For each column of the result that answers the questions of source columns, those, sorted.

    It is one of them as it came, or changed by steps that change no question. The key of a join and the columns of a
    union answer those of every side.
    """
    found = {name: _answered((table.op(), name), answers) for name in table.columns}
    return {name: sorted(sources) for name, sources in found.items() if sources}


def _answered(start: _Point, answers: Answers) -> set[Source]:
    found: set[Source] = set()
    seen: set[_Point] = set()
    waiting = [(start, False)]
    while waiting:
        point, is_side = waiting.pop()
        if point in seen:
            continue
        seen.add(point)
        relation, name = point
        if isinstance(relation, ops.PhysicalTable):
            found.add((relation.name, name))
        elif same := _as_they_are(point):
            waiting += [(each, is_side or len(same) > 1) for each in same]
        else:
            value = relation.values.get(name)
            # What stands beside windows and is not changed at all is the same table as before, and answers itself.
            behind = [each for each in answers.get(value, ()) if each not in seen]
            if not behind:
                behind = list(_put_side_by_side(value, is_side or isinstance(relation, ops.JoinChain)))
            waiting += [(each, False) for each in behind]
    return found


def _put_side_by_side(value: Any, is_side: bool) -> Iterator[_Point]:
    """The columns that a value is, where it is one of a side also those that were brought to one type for it."""
    if isinstance(value, ops.Field):
        yield value.rel, value.name
    elif isinstance(value, ops.Alias) or (is_side and isinstance(value, ops.Cast)):
        yield from _put_side_by_side(value.arg, is_side)
    elif is_side and isinstance(value, ops.Coalesce):
        for each in value.arg:
            yield from _put_side_by_side(each, is_side)


def row_uses(table: ir.Table) -> dict[RowUse, list[Source]]:
    """The source columns that decide which rows there are, and their order, by how they do."""
    points: dict[RowUse, list[_Point]] = {}
    for relation in table.op().find(ops.Relation):
        for use, value in _deciding(relation):
            points.setdefault(use, []).extend(fields_of(value))
    walk = _Walk()
    return {use: sources for use, found in points.items() if (sources := walk.sources(found))}


def row_lineage(uses: dict[RowUse, list[Source]]) -> list[Source]:
    """The same without the ways."""
    return sorted({source for sources in uses.values() for source in sources})


def named_sources(mentions: Iterable[Mention]) -> list[Source]:
    """The source columns without which the recipe has a mistake, since a step names them or what they became."""
    return _Walk().sources(mentions)


def _deciding(relation: ops.Relation) -> Iterable[tuple[RowUse, Any]]:
    if isinstance(relation, ops.Filter):
        yield from (("filter", predicate) for predicate in relation.predicates)
    elif isinstance(relation, ops.Sort):
        yield from (("sort", key) for key in relation.keys)
    elif isinstance(relation, ops.Aggregate):
        yield from (("group", key) for key in relation.groups.values())
    elif isinstance(relation, ops.JoinChain):
        for link in relation.rest:
            yield from (("join", predicate) for predicate in link.predicates)
    elif isinstance(relation, ops.TableUnnest):
        yield "expand", relation.column
    elif isinstance(relation, ops.Project):
        for value in relation.values.values():
            yield from (("expand", found) for found in value.find(ops.Unnest, filter=ops.Value))
