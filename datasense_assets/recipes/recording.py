"""A recipe's lineage as the catalog keeps it, and bringing the catalog's up to what recipes say now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from datasense_assets.catalog.lineage import ColumnUse, Point, RecipeColumn, RecipeLineage, Use
from datasense_assets.catalog.models import InputReference, Organization
from datasense_assets.catalog.state import record_lineage
from datasense_assets.catalog.tables import recipe_lineage
from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
from datasense_assets.recipes.compiling.kinds import kind_of
from datasense_assets.recipes.compiling.lineage import Source
from datasense_assets.recipes.compiling.stored import DELETED_AT
from datasense_assets.recipes.errors import RecipeErrors
from datasense_assets.recipes.inputs import input_table_refs
from datasense_assets.recipes.preview import personal_columns
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef


def compiled_lineage(
    recipe: Recipe, spec_hash: str, compiled: Compiled, inputs: Mapping[str, TableRef]
) -> RecipeLineage:
    """The lineage of a recipe that was compiled against these inputs. Names and types only, never a value."""
    tables = {
        inputs[alias].table: InputReference.parse(text).text for alias, text in recipe.inputs.items() if alias in inputs
    }
    personal = personal_columns(compiled, inputs.values())
    columns = tuple(
        RecipeColumn(name, kind_of(dtype).value, personal=name in personal) for name, dtype in compiled.schema.items()
    )
    uses = [
        ColumnUse(name, "value", Point(tables[table], column))
        for name, sources in compiled.lineage.items()
        for table, column in sources
    ]
    # Every recipe leaves out the rows that their source has deleted; that is no choice of this one's.
    for use, sources in compiled.row_uses.items():
        uses += _of_rows(use, (each for each in sources if (use, each[1]) != ("filter", DELETED_AT)), tables)
    return RecipeLineage(spec_hash, columns, (*uses, *_of_rows("named", compiled.named, tables)))


def _of_rows(use: Use, sources: Iterable[Source], tables: Mapping[str, str]) -> list[ColumnUse]:
    return [ColumnUse(None, use, Point(tables[table], column)) for table, column in sources]


def refresh_lineage(connection: Connection, org: Organization) -> list[str]:
    """Record the lineage of every recipe whose own is of another spec; return their names.

    It goes by the columns that the catalog knows. A recipe that has a mistake, or an input that nobody has seen yet,
    keeps the lineage that it has.
    """
    ids = [row.id for row in org.recipes]
    query = select(recipe_lineage.c.recipe_id, recipe_lineage.c.spec_hash).where(recipe_lineage.c.recipe_id.in_(ids))
    known = {row.recipe_id: row.spec_hash for row in connection.execute(query)}
    recorded: list[str] = []
    for row in org.recipes:
        if known.get(row.id) == row.spec_hash:
            continue
        try:
            recipe = Recipe.parse(row.spec)
            inputs = input_table_refs(recipe, org)
            compiled = compile_recipe(recipe, inputs)
        except RecipeErrors:
            continue
        record_lineage(connection, row.id, compiled_lineage(recipe, row.spec_hash, compiled, inputs))
        recorded.append(row.name)
    return recorded
