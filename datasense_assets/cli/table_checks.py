"""Checks of a manifest held against the language and, where the catalog knows the tables' columns, against those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasense_assets.catalog.manifest import Manifest
    from datasense_assets.catalog.models import Organization, Problem
    from datasense_assets.recipes.errors import RecipeError
    from datasense_assets.recipes.language.checks import CheckBase
    from datasense_assets.recipes.tableref import TableRef


def form_problems(tables: Sequence[tuple[str, Any]]) -> list[Problem]:
    """What shows without the tables in their checks, given as (path of the table, its checks as written)."""
    return [problem for at, checks in tables for problem in _as_problems(_form_errors(checks), at)]


def _form_errors(checks: Any) -> Iterator[RecipeError]:
    from datasense_assets.recipes.errors import RecipeError, RecipeErrors
    from datasense_assets.recipes.language.checks import MaxLossyCastsCheck
    from datasense_assets.recipes.parsing import parse_checks

    if checks is None:
        return
    try:
        parsed = parse_checks(list(checks) if isinstance(checks, tuple) else checks)
    except RecipeErrors as errors:
        yield from errors.errors
        return
    for index, check in enumerate(parsed):
        if isinstance(check, MaxLossyCastsCheck):
            path = f"checks[{index}].check"
            message = f"{path}: max_lossy_casts is for recipes; a source's table has no casts."
            yield RecipeError("invalid_value", path, message)
    if parsed:
        from datasense_assets.recipes.compiling.checks import check_errors
        from datasense_assets.recipes.compiling.walk import NOTHING

        yield from check_errors(parsed, NOTHING, casts=None)


def column_problems(manifest: Manifest, org: Organization) -> list[Problem]:
    """What does not suit the columns of tables that the catalog knows; `org` is as it will be.

    A table that nobody has loaded yet, or looked into, is passed over: its checks are looked over when they are run.
    """
    from datasense_assets.catalog.models import InputReference
    from datasense_assets.recipes.errors import RecipeErrors
    from datasense_assets.recipes.inputs import resolve_reference
    from datasense_assets.recipes.parsing import parse_checks

    problems: list[Problem] = []
    for i, source in enumerate(manifest.sources):
        for j, table in enumerate(source.tables or ()):
            reference = InputReference.of_table(source.slug, table.slug)
            ref = resolve_reference(reference, org) if table.checks else None
            if ref is None:
                continue
            try:
                checks = parse_checks(list(table.checks))
            except RecipeErrors:
                continue  # told already
            problems += _as_problems(_column_errors(checks, ref, org), f"sources[{i}].tables[{j}]")
    return problems


def _column_errors(checks: Sequence[CheckBase], ref: TableRef, org: Organization) -> list[RecipeError]:
    from datasense_assets.recipes.compiling.checks import check_errors
    from datasense_assets.recipes.compiling.frame import Frame
    from datasense_assets.recipes.compiling.stored import stored_rows
    from datasense_assets.recipes.compiling.walk import NOTHING

    told = {(error.code, error.path) for error in check_errors(checks, NOTHING, casts=None)}
    found = check_errors(checks, Frame(stored_rows(ref)), casts=None)
    new = [error for error in found if (error.code, error.path) not in told]
    return new + look_up_errors(checks, ref, org)


def look_up_errors(checks: Sequence[CheckBase], ref: TableRef, org: Organization) -> list[RecipeError]:
    """What is wrong with the other tables that the checks of `ref` look into, as far as the catalog knows them."""
    from datasense_assets.recipes.compiling.checks import reference_errors
    from datasense_assets.recipes.compiling.frame import Frame
    from datasense_assets.recipes.compiling.stored import stored_rows
    from datasense_assets.recipes.inputs import resolve_reference
    from datasense_assets.recipes.language.checks import ExistsInCheck

    wanted: Mapping[str, Any] = {c.in_: c.reference for c in checks if isinstance(c, ExistsInCheck)}
    if not wanted:
        return []
    found = {text: resolve_reference(reference, org) for text, reference in wanted.items()}
    known = {text: other for text, other in found.items() if other is not None}
    return reference_errors(checks, Frame(stored_rows(ref)), known)


def _as_problems(errors: Iterable[RecipeError], at: str) -> list[Problem]:
    from datasense_assets.cli.errors import coded_problem

    return [
        coded_problem(error, f"{at}.{error.path}", error.message.removeprefix(f"{error.path}: ")) for error in errors
    ]
