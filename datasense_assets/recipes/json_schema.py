"""The language as a JSON Schema (draft 2020-12), for editors: `docs/recipe.schema.json` is `schema_text()`.

It says what pydantic's own schema cannot: what each field means, which fields exclude each other, what a comparison's
operator asks for. What needs a recipe's tables, or the bytes of a name, only compiling tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from datasense_assets.recipes.field_words import FIELDS
from datasense_assets.recipes.language.conditions import LIST_OPERATORS, LITERAL_ONLY, WITHOUT_VALUE
from datasense_assets.recipes.language.step import OneOf
from datasense_assets.recipes.language.tables import AggregateFunction
from datasense_assets.recipes.language.windows import (
    NEEDS_ORDER,
    NEEDS_PERIODS,
    NUMBERING,
    TAKES_PERIODS,
    WITHOUT_ORDER,
    WindowFunction,
)
from datasense_assets.recipes.recipe import Recipe

Schema = dict[str, Any]

_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
_LITERALS = {
    *("Comparison.value", "CaseBranch.then", "Case.otherwise", "ReplaceValues.otherwise", "Replacement.find"),
    *("Replacement.replace", "Coalesce.default", "FillMissing.value", "Pivot.fill", "Bin.width"),
    *("RangeCheck.min", "RangeCheck.max"),
}
_LISTS_OF_LITERALS = {"Bin.edges", "Pivot.names", "AcceptedValuesCheck.values"}


_Rule = tuple[str, Iterable[str], tuple[str, ...], tuple[str, ...]]
_FIGURES = frozenset(get_args(AggregateFunction)) - {"count"}
_WINDOWS = frozenset(get_args(WindowFunction))
_FIELD_RULES: dict[str, tuple[_Rule, ...]] = {
    "Aggregation": (("fn", _FIGURES, ("column",), ()),),
    "Pivot": (("fn", _FIGURES, ("values_from",), ()),),
    "Window": (
        ("fn", NUMBERING, (), ("column",)),
        ("fn", _WINDOWS - NUMBERING - {"count"}, ("column",), ()),
        ("fn", NEEDS_ORDER, ("order_by",), ()),
        ("fn", WITHOUT_ORDER, (), ("order_by",)),
        ("fn", NEEDS_PERIODS, ("periods",), ()),
        ("fn", _WINDOWS - TAKES_PERIODS, (), ("periods",)),
    ),
    "FillMissing": (
        ("method", ("value",), ("value",), ("order_by",)),
        ("method", ("down", "up"), ("order_by",), ("value",)),
    ),
    "Join": (("how", ("semi", "anti"), (), ("columns",)),),
    "Output": (
        ("materialize", ("incremental",), ("key",), ()),
        ("materialize", ("table", "view"), (), ("key",)),
        ("materialize", ("view",), (), ("indexes",)),
    ),
}
"""By model: a field, some of its values, and the fields that these ask for and exclude."""


def recipe_schema() -> Schema:
    """The schema of a recipe as JSON has it."""
    schema: Schema = Recipe.model_json_schema(by_alias=True)
    for name, model in _models(schema):
        for field, shape in model["properties"].items():
            _describe(f"{name}.{field}", shape)
    for kind in _all_subclasses(OneOf):
        found = schema["$defs"].get(kind.__name__)
        if found is not None:
            found["allOf"] = [_one_of(kind.one_of, optional=kind.one_of_optional)]
    schema["$defs"]["Comparison"]["allOf"] = _comparison_rules()
    for name, rules in _FIELD_RULES.items():
        for field, values, needed, excluded in rules:
            rule = _rule(schema["$defs"][name], field, values, needed, excluded)
            schema["$defs"][name].setdefault("allOf", []).append(rule)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the file in docs has it."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def _models(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, model in (*schema["$defs"].items(), ("Recipe", schema)):
        if "properties" in model:
            yield name, model


def _describe(path: str, shape: Schema) -> None:
    """Adds what the field means; the names that pydantic makes of field names say nothing more."""
    shape.pop("title", None)
    name = path.partition(".")[2]
    shape["description"] = FIELDS.get(path) or FIELDS[name]
    if path in _LITERALS:
        shape |= _SCALAR if path != "Comparison.value" else {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
    lists: list[Schema] = [shape, *shape.get("anyOf", ())] if path in _LISTS_OF_LITERALS else []
    for each in lists:
        if each.get("type") == "array":
            each["items"] = _SCALAR


def _all_subclasses(kind: type) -> Iterator[Any]:
    found: list[type] = kind.__subclasses__()
    for each in found:
        yield each
        yield from _all_subclasses(each)


def _one_of(fields: tuple[str, ...], *, optional: bool) -> Schema:
    if optional:
        return {"not": {"required": list(fields)}}
    return {"oneOf": [{"required": [field]} for field in fields]}


def _rule(
    model: Schema, field: str, values: Iterable[str], needed: tuple[str, ...], excluded: tuple[str, ...]
) -> Schema:
    """Where the field has one of the values, or is left out and one of them is its default."""
    condition: Schema = {"properties": {field: {"enum": sorted(values)}}}
    if model["properties"][field].get("default") not in values:
        condition["required"] = [field]
    parts = [{"properties": {name: {"not": {"type": "null"}}}, "required": [name]} for name in needed]
    # Written as null it counts as left out.
    nothing = [{"properties": {name: {"type": "null"}}} for name in excluded]
    return {"if": condition, "then": {"allOf": [*parts, *nothing]}}


def _comparison_rules() -> list[Schema]:
    def where(operators: frozenset[str]) -> Schema:
        return {"properties": {"operator": {"enum": sorted(operators)}}, "required": ["operator"]}

    neither = {"not": {"anyOf": [{"required": ["value"]}, {"required": ["value_column"]}]}}
    either = {"oneOf": [{"required": ["value"]}, {"required": ["value_column"]}]}
    return [
        {"if": where(WITHOUT_VALUE), "then": neither, "else": either},
        {"if": where(LITERAL_ONLY), "then": {"required": ["value"]}},
        {"if": where(LIST_OPERATORS), "then": {"properties": {"value": {"type": "array"}}}},
    ]
