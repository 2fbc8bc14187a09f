"""What a recipe's aliases stand for: tables of the organisation, with their columns, ready to compile against."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import psycopg

from datasense_assets.catalog.models import (
    ColumnType,
    Deletes,
    InputReference,
    Organization,
    Source,
    SourceTable,
    identifier,
    org_schema,
    table_name,
)
from datasense_assets.recipes.compiling.compile import check_recipe
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.errors import RecipeErrors
from datasense_assets.recipes.keys import result_keys
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.preview import personal_columns
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.reading import table_columns

_PG_TYPES: Mapping[str, dt.DataType] = {
    "smallint": dt.int16,
    "integer": dt.int32,
    "bigint": dt.int64,
    "real": dt.float32,
    "double precision": dt.float64,
    "boolean": dt.boolean,
    "date": dt.date,
    "timestamp with time zone": dt.Timestamp("UTC"),
    "timestamp without time zone": dt.timestamp,
    "time without time zone": dt.time,
    "json": dt.JSON(),
    "jsonb": dt.JSON(binary=True),
}
_NUMERIC = re.compile(r"numeric(?:\((\d+),(\d+)\))?")


def ibis_type(pg_type: str) -> dt.DataType:
    """The ibis type of a column as `format_type` names it; what recipes do not know is read as text."""
    numeric = _NUMERIC.fullmatch(pg_type)
    if numeric is not None:
        return dt.Decimal(int(numeric[1]), int(numeric[2])) if numeric[1] else dt.Decimal()
    return _PG_TYPES.get(pg_type, dt.string)


def input_table_refs(
    recipe: RecipeModel,
    organization: Organization,
    connection: psycopg.Connection | None = None,
    *,
    schema: str | None = None,
) -> dict[str, TableRef]:
    """Tables by alias. With a connection to the organisation's warehouse, columns are those that are really there.

    Without one they are what the catalog knows (and what the recipes among the inputs would make), good for checking.
    An input that is not there is left out, and compiling says so as `missing_table`. `schema` is `org_<org>` unless
    the organisation's warehouse has another.
    """
    return _resolve(recipe, organization, connection, schema or org_schema(organization.slug), frozenset())


def _resolve(
    recipe: RecipeModel,
    organization: Organization,
    connection: psycopg.Connection | None,
    schema: str,
    above: frozenset[str],
) -> dict[str, TableRef]:
    found: dict[str, TableRef] = {}
    for alias, text in recipe.inputs.items():
        reference = InputReference.parse(text)
        if reference.recipe is not None:
            ref = _recipe_ref(reference.recipe, organization, connection, schema, above | {recipe.ident})
        else:
            ref = _source_ref(reference, organization, connection, schema)
        if ref is not None:
            found[alias] = ref
    return found


def resolve_reference(
    reference: InputReference,
    organization: Organization,
    connection: psycopg.Connection | None = None,
    *,
    schema: str | None = None,
) -> TableRef | None:
    """The table that a reference names, as `input_table_refs` finds it; None where it is not there."""
    place = schema or org_schema(organization.slug)
    if reference.recipe is not None:
        return _recipe_ref(reference.recipe, organization, connection, place, frozenset())
    return _source_ref(reference, organization, connection, place)


def _source_ref(
    reference: InputReference, organization: Organization, connection: psycopg.Connection | None, schema: str
) -> TableRef | None:
    for source in organization.sources:
        if identifier(source.slug) != reference.source:
            continue
        for table in source.tables:
            if identifier(table.slug) == reference.table:
                return _table_ref(source, table, connection, schema)
    return None


def _table_ref(
    source: Source, table: SourceTable, connection: psycopg.Connection | None, schema: str
) -> TableRef | None:
    name = table_name(source.slug, table.slug)
    columns = _known_columns(source, table) if connection is None else _real_columns(connection, schema, name)
    if not columns:
        return None
    labels = {
        column.name: {choice.value: choice.labels.get("", next(iter(choice.labels.values()))) for choice in labelled}
        for column in table.columns
        if (labelled := [choice for choice in column.choices if choice.labels])
    }
    personal = frozenset(column.name for column in table.columns if column.personal) | _personal_ids(source, table)
    return TableRef(schema, name, ibis.schema(columns), personal, labels, _table_keys(source, table, columns))


def _table_keys(source: Source, table: SourceTable, columns: Collection[str]) -> frozenset[frozenset[str]]:
    """What tells the rows of a loaded table apart: their ids, and the key by hand, named as at the source."""
    found = [{"_ds_row_id"}] + ([{"_ds_parent_id", "_ds_index"}] if table.parent is not None else [])
    given = source.config.get("key")
    by_key = {column.key: column.name for column in table.columns}
    for key in (table.key, given if isinstance(given, list) else ()):
        found += [{by_key.get(str(name), str(name)) for name in key}] if key else []
    return frozenset(frozenset(key) for key in found if key <= set(columns))


def _recipe_keys(recipe: Recipe, inputs: Mapping[str, TableRef]) -> frozenset[frozenset[str]]:
    return result_keys(recipe, lambda alias: inputs[alias].keys if alias in inputs else ())


def _personal_ids(source: Source, table: SourceTable) -> frozenset[str]:
    """`_ds_row_id` and `_ds_parent_id` where they are made of a personal column, such as a phone number as the key."""
    top = next((each for each in source.tables if each.resource == table.resource and not each.path), table)
    by_name = {name: column.personal for column in top.columns for name in (column.name, column.key, column.label)}
    given = source.config.get("key")
    keys = {*top.key, *(given if isinstance(given, list) else [given] if isinstance(given, str) else [])}
    # A key that no column is known of may be anything.
    return frozenset({"_ds_row_id", "_ds_parent_id"}) if any(by_name.get(key, True) for key in keys) else frozenset()


def _real_columns(connection: psycopg.Connection, schema: str, table: str) -> dict[str, dt.DataType]:
    return {column.name: ibis_type(column.pg_type) for column in table_columns(connection, schema, table)}


def _known_columns(source: Source, table: SourceTable) -> dict[str, dt.DataType]:
    if not table.columns:
        return {}
    columns = {column.name: CANONICAL[column.type] for column in sorted(table.columns, key=lambda c: c.position)}
    system = {"_ds_row_id": ColumnType.TEXT, "_ds_loaded_at": ColumnType.DATETIME}
    if source.deletes is Deletes.MARK:
        system["_ds_deleted_at"] = ColumnType.DATETIME
    if table.parent is not None:
        system |= {"_ds_parent_id": ColumnType.TEXT, "_ds_index": ColumnType.INTEGER}
    return columns | {name: CANONICAL[kind] for name, kind in system.items()}


def _recipe_ref(
    ident: str, organization: Organization, connection: psycopg.Connection | None, schema: str, above: frozenset[str]
) -> TableRef | None:
    stored = next((row for row in organization.recipes if identifier(row.name) == ident), None)
    if connection is not None:
        columns = _real_columns(connection, schema, ident)
        personal = frozenset(stored.personal if stored is not None else ())
        keys = _stored_keys(stored.spec) if stored is not None else frozenset()
        return TableRef(schema, ident, ibis.schema(columns), personal, keys=keys) if columns else None
    if stored is None or ident in above:
        return None
    try:
        recipe = Recipe.parse(stored.spec)
        inputs = _resolve(recipe, organization, None, schema, above)
        checked = check_recipe(recipe, inputs)
    except RecipeErrors:
        # That recipe's own mistakes are told where it is checked; here its table is not there.
        return None
    personal = personal_columns(checked, inputs.values())
    return TableRef(schema, ident, checked.schema, personal, keys=_recipe_keys(recipe, inputs))


def _stored_keys(spec: Mapping[str, Any]) -> frozenset[frozenset[str]]:
    """As far as its own steps tell; what its inputs' keys are is not looked up."""
    try:
        recipe = Recipe.parse(spec)
    except RecipeErrors:
        return frozenset()
    return result_keys(recipe, lambda _: ())
