"""`datasense preview`: what a recipe gives, without building its table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from datasense_assets.cli.address import Address, find_recipe, open_catalog, read_organization
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.output import JsonFlag, print_json, print_table, print_text, progress, say, warn

if TYPE_CHECKING:
    from datasense_assets.catalog.models import Organization
    from datasense_assets.recipes import Recipe

_FORM = "ORG/RECIPE"
_TIMEOUT = 30.0


class PreviewCommand(TyperCommand):
    """`--rows` may be followed by how many: `--rows 5` is `--rows --limit 5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the option's name before such a number."""
        written: list[str] = []
        for before, argument in zip(["", *args], args, strict=False):
            if before == "--rows" and argument.isdigit():
                written.append("--limit")
            written.append(argument)
        return super().parse_args(ctx, written)


def preview(
    recipe: Annotated[str, typer.Argument(metavar=_FORM, help="The recipe, as `datasense list recipes` shows it.")],
    rows: Annotated[bool, typer.Option("--rows", help="Show rows (the default); a number may follow.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Show the SQL that the recipe compiles to.")] = False,
    step: Annotated[int | None, typer.Option("--step", min=0, help="Only as far as this step; 0 is the input.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows.")] = 10,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="How many rows of the first input to read; 0 reads all.")
    ] = 10_000,
    as_json: JsonFlag = False,
) -> None:
    """Show what a recipe gives, read as the organisation itself; no table is written. Personal columns are masked.

    Rows, nulls and lost values are counted step by step, on a sample of the first input.
    """
    address = Address.parse(recipe, parts=2, form=_FORM)
    if address.name is None:
        raise InputWrong(f"{recipe!r} names no recipe.", advice=f"Write {_FORM}.")
    with progress(f"Reading {recipe}"):
        wanted = limit if rows or not sql else None
        document = preview_document(address.org, address.name, step=step, rows=wanted, sample=sample or None)
    for warning in document.get("warnings", ()):
        warn(f"{warning['path']}: {warning['message']} [{warning['code']}]")
    if not sql:
        del document["sql"]
    if as_json:
        print_json(document)
        return
    if sql:
        print_text(document["sql"])
    if "rows" in document:
        _show(document, limit)


def _show(document: dict[str, Any], limit: int) -> None:
    shown = document["rows"]
    print_table(document["columns"], [list(row.values()) for row in shown])
    say(f"The first {len(shown)} rows; --limit shows more." if len(shown) == limit else f"All {len(shown)} rows.")
    lines = []
    for figures in document["steps"]:
        nulls, lost = figures["nulls"] or {}, figures["lost"] or {}
        some = [f"{name} {count}" for name, count in nulls.items() if count]
        lines.append(
            (
                figures["label"],
                figures["rows"],
                len(figures["columns"]),
                ", ".join(some[:6]) + (f" and {len(some) - 6} more" if len(some) > 6 else ""),
                ", ".join(f"{name} {count}" for name, count in lost.items() if count),
            )
        )
    print_table(("step", "rows", "columns", "nulls", "lost by casts"), lines)
    if any(figures["rows"] is None for figures in document["steps"]):
        say("There was no time to count every step; a smaller --sample takes less.")
    if document["sampled"]:
        said = (
            f"Made of the first {document['sample']:,} rows of the first input only: counts and sums are of that part."
        )
        say(f"{said} --sample 0 reads all.", style="yellow")


def preview_document(
    org_slug: str, name: str, *, step: int | None, rows: int | None, sample: int | None
) -> dict[str, Any]:
    """Columns, SQL and, unless `rows` is None, the first rows of a recipe after `step` steps (None: all of them) with
    the figures of each step up to there. The SQL is that of the whole data, not of the sample.

    Raises:
        InputWrong: there is no such organisation, recipe or step.
        RecipeErrors: the recipe has mistakes, or a table that it reads is not there yet.
        WarehouseError: the warehouse cannot be read, or takes too long.

    """
    from datasense_assets.recipes import compile_recipe
    from datasense_assets.recipes.compiling.kinds import kind_of
    from datasense_assets.recipes.inputs import input_table_refs
    from datasense_assets.recipes.measuring import measured_warnings
    from datasense_assets.recipes.preview import preview_step
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.organizations import prepare_organization
    from datasense_assets.warehouse.swap import SessionLimits

    with open_catalog() as catalog:
        with catalog.connect() as connection:
            org = read_organization(connection, org_slug)
        recipe = _parsed(org, name, step)
        target = prepare_organization(catalog, get_settings(), org)
        with target.connect(autocommit=True) as warehouse:
            inputs = input_table_refs(recipe, org, warehouse, schema=target.schema)
            compiled = compile_recipe(recipe, inputs)
            document: dict[str, Any] = {
                "recipe": f"{org.slug}/{recipe.name}",
                "columns": list(compiled.schema.names),
                "types": {column: kind_of(dtype).value for column, dtype in compiled.schema.items()},
                "sql": compiled.sql,
            }
            if rows is not None:
                limits = SessionLimits(statement_timeout=_TIMEOUT, timezone=org.timezone)
                found = preview_step(warehouse, recipe, inputs, rows=rows, sample=sample, figures=True, limits=limits)
                document["rows"] = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
                document["sample"] = sample
                document["sampled"] = found.sampled
                document["steps"] = [vars(figures) for figures in found.steps]
                counting = SessionLimits(statement_timeout=5.0, timezone=org.timezone)
                warnings = measured_warnings(warehouse, recipe, inputs, compiled.warnings, limits=counting)
                document["warnings"] = [asdict(warning) for warning in warnings]
    return document


def _parsed(org: Organization, name: str, step: int | None) -> Recipe:
    from datasense_assets.recipes import Recipe

    row = find_recipe(org, name)
    recipe = Recipe.parse({**row.spec, "name": row.name})
    if step is None:
        return recipe
    if step > len(recipe.steps):
        raise InputWrong(
            f"{recipe.name} has {len(recipe.steps)} steps, so there is no step {step}.",
            advice=f"Choose a number from 0 to {len(recipe.steps)}.",
        )
    return recipe.upto(step)
