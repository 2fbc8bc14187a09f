"""Which columns of a recipe's result are known to tell its rows apart, from the shape of its steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from datasense_assets.recipes.language.checks import UniqueCheck
from datasense_assets.recipes.language.columns import Drop, Rename, Select
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.language.reshaping import Deduplicate, Pivot
from datasense_assets.recipes.language.rows import Filter, Limit, Sort
from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.tables import Aggregate, Join, Union

Key = frozenset[str]

_UNTOUCHED = (Filter, Sort, Limit)


def result_keys(recipe: RecipeModel, keys_of: Callable[[str], Iterable[Key]]) -> frozenset[Key]:
    """The keys of the result; `keys_of` gives those of an input by alias. A declared unique check counts as one."""
    keys = frozenset(keys_of(recipe.start))
    for step in recipe.steps:
        keys = _after(step, keys, keys_of)
    declared = [frozenset(c.columns) for c in recipe.checks if isinstance(c, UniqueCheck) and c.severity == "error"]
    return keys | frozenset(declared)


def is_covered(columns: Collection[str], keys: Iterable[Key]) -> bool:
    """Whether rows with the same values in these columns are one row at most."""
    return any(key <= set(columns) for key in keys)


def _after(step: StepBase, keys: frozenset[Key], keys_of: Callable[[str], Iterable[Key]]) -> frozenset[Key]:
    if isinstance(step, _UNTOUCHED):
        return keys
    if isinstance(step, (Aggregate, Pivot)):
        return frozenset({frozenset(step.group_by)})
    if isinstance(step, Deduplicate):
        return keys | {frozenset(step.keys)}
    if isinstance(step, Select):
        return frozenset(key for key in keys if key <= set(step.columns))
    if isinstance(step, Drop):
        return frozenset(key for key in keys if not key & set(step.columns))
    if isinstance(step, Rename):
        return frozenset(frozenset(step.columns.get(name, name) for name in key) for key in keys)
    if isinstance(step, Join):
        single = is_covered([pair.right for pair in step.on], keys_of(step.with_))
        keeps = step.how in ("semi", "anti") or (step.how in ("left", "inner") and single)
        return keys if keeps else frozenset()
    if isinstance(step, Union) or step.op in ("unpivot", "expand_list"):  # type: ignore[attr-defined]
        return frozenset()
    changed = _changed(step)
    return frozenset(key for key in keys if not key & changed)


def _changed(step: Any) -> set[str]:
    """Every column that the step may give other values, or take away."""
    found: set[str] = set()
    for name in ("column", "into", "columns", "parts"):
        value = getattr(step, name, None)
        for item in value if isinstance(value, list) else [value]:
            column = item if isinstance(item, str) else getattr(item, "column", None)
            if column is not None:
                found.add(column)
    return found
