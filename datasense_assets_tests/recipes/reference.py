"""One reference for each step of the language: what the step's documentation says, in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasense_assets_tests.recipes import reference_columns as columns
from datasense_assets_tests.recipes import reference_rows as rows
from datasense_assets_tests.recipes import reference_tables as tables
from datasense_assets_tests.recipes import reference_texts as texts
from datasense_assets_tests.recipes.reference_formulas import formula
from datasense_assets_tests.recipes.relation import Relation, World

REFERENCES: dict[str, Callable[[dict[str, Any], Relation, World], Relation]] = {
    "select": columns.select,
    "drop": columns.drop,
    "rename": columns.rename,
    "filter": rows.filter_rows,
    "cast": columns.cast,
    "formula": formula,
    "replace_values": columns.replace_values,
    "coalesce": columns.coalesce,
    "case": columns.case,
    "concat": columns.concat,
    "join": tables.join,
    "union": tables.union,
    "aggregate": tables.aggregate,
    "expand_list": rows.expand_list,
    "split_choices": columns.split_choices,
    "date_part": texts.date_part,
    "window": rows.window,
    "deduplicate": rows.deduplicate,
    "clean_text": texts.clean_text,
    "fill_missing": rows.fill_missing,
    "pivot": tables.pivot,
    "unpivot": tables.unpivot,
    "extract": texts.extract,
    "split_column": texts.split_column,
    "geopoint": texts.geopoint,
    "label_values": texts.label_values,
    "bin": texts.bins,
    "mask": texts.mask,
    "expand_json": texts.expand_json,
    "sort": rows.sort,
    "limit": rows.limit,
}


def after(step: dict[str, Any], table: Relation, world: World) -> Relation:
    """The table after the step. Raises Undetermined and TooLarge."""
    result = REFERENCES[step["op"]](step, table, world)
    return result if step["op"] in ("sort", "limit", "select", "drop", "rename") else result.shuffled()
