"""Which of Dalgo's operations there are, what each becomes, and which are not needed or cannot be."""

from __future__ import annotations

from collections.abc import Callable

from datasense_assets.recipes.dalgo.columns import (
    arithmetic,
    castdatatypes,
    coalescecolumns,
    concat,
    dropcolumns,
    flattenjson,
    generic,
    regexextraction,
    renamecolumns,
    replace,
)
from datasense_assets.recipes.dalgo.conditions import casewhen, where
from datasense_assets.recipes.dalgo.steps import Config, Model
from datasense_assets.recipes.dalgo.tables import aggregate, groupby, join, pivot, unionall, unpivot

OPERATIONS: dict[str, Callable[[Config, Model], None]] = {
    "aggregate": aggregate,
    "arithmetic": arithmetic,
    "casewhen": casewhen,
    "castdatatypes": castdatatypes,
    "coalescecolumns": coalescecolumns,
    "concat": concat,
    "dropcolumns": dropcolumns,
    "flattenjson": flattenjson,
    "generic": generic,
    "groupby": groupby,
    "join": join,
    "pivot": pivot,
    "regexextraction": regexextraction,
    "renamecolumns": renamecolumns,
    "replace": replace,
    "union_tables": unionall,
    "unionall": unionall,
    "unpivot": unpivot,
    "where": where,
}
"""By the operation's `type`."""

CHOOSE_BEFORE = frozenset({"dropcolumns", "renamecolumns"})
"""Operations that work on `source_columns` only."""

CHOOSE_AFTER = frozenset(
    {
        *("aggregate", "arithmetic", "casewhen", "castdatatypes", "coalescecolumns", "concat", "flattenjson"),
        *("generic", "regexextraction", "replace", "where"),
    }
)
"""Operations whose result is `source_columns` and what they make, of whatever columns of the input."""

WITHOUT_STEPS = {
    "rawsql": ("recipes hold no SQL", "Put it in steps; a formula does what one row needs."),
    "flatten": ("a source's tables have columns already", "Leave it out and read the source's table."),
}
"""Operations that no step can do: why, and what instead."""

NOT_NEEDED = {
    "scaffold": "it makes a dbt project; there is none here",
    "syncsources": "it lists tables for dbt; a source's tables are known here",
}
"""Operations that make no model."""
