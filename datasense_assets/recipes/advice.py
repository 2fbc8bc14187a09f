"""What is allowed in a recipe and probably not meant, as far as its own words tell: warnings that need no table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasense_assets.recipes.errors import RecipeWarning
from datasense_assets.recipes.language.columns import Case
from datasense_assets.recipes.language.conditions import WITHOUT_VALUE, AllOf, AnyOf, Comparison, Not
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.language.reshaping import Deduplicate, Pivot, Unpivot
from datasense_assets.recipes.language.rows import Filter, Limit, Sort
from datasense_assets.recipes.language.step import StepBase, step_label
from datasense_assets.recipes.language.tables import Aggregate, Join, Union
from datasense_assets.recipes.language.windows import FillMissing, Window

_SCATTER = (Join, Union, Aggregate, Pivot, Unpivot, Window, Deduplicate, FillMissing)
"""Steps after which a `sort` before them means nothing any more: they make other rows, or order them for themselves."""


def form_warnings(recipe: RecipeModel) -> list[RecipeWarning]:
    """Inputs that nothing uses, conditions that nothing can meet, limits that keep any rows."""
    found = [*_unused_inputs(recipe)]
    is_sorted = False
    for index, step in enumerate(recipe.steps):
        label, path = step_label(index, step), f"steps[{index}]"
        for place, what, condition in _conditions(step):
            reason = never(condition)
            if reason is not None:
                message = f"{label}: {place} can never be true ({reason}), so {what}; mend or remove it."
                found.append(RecipeWarning("never_matches", f"{path}.{place}", message))
        if isinstance(step, Sort):
            is_sorted = True
        elif isinstance(step, _SCATTER) and getattr(step, "method", "") != "value":
            is_sorted = False
        elif isinstance(step, Limit) and not is_sorted:
            message = (
                f"{label}: without a sort before it, or after a step that undoes one, which rows are kept may differ "
                "each time; add a sort step right before it."
            )
            found.append(RecipeWarning("unordered_limit", path, message))
    return found


def _unused_inputs(recipe: RecipeModel) -> Iterator[RecipeWarning]:
    used = recipe.used_inputs()
    for alias, reference in recipe.inputs.items():
        if alias not in used:
            message = f"No step uses the input {alias!r} ({reference}); the recipe waits for it all the same."
            yield RecipeWarning("unused_input", f"inputs.{alias}", message)


def _conditions(step: StepBase) -> Iterator[tuple[str, str, Any]]:
    """Each condition of a step, with its place and what comes of it when it is never true."""
    if isinstance(step, Filter):
        yield "where", "no row is kept", step.where
    elif isinstance(step, Case):
        for i, branch in enumerate(step.cases):
            yield f"cases[{i}].when", "this case is never taken", branch.when
    elif isinstance(step, Aggregate):
        for i, item in enumerate(step.aggregations):
            if item.filter is not None:
                yield f"aggregations[{i}].filter", f"{item.into!r} is of no row", item.filter


def never(condition: AllOf | AnyOf | Not | Comparison) -> str | None:
    """Why the condition can be true for no row at all; None where it may be, as far as its own words tell."""
    if isinstance(condition, Comparison):
        return _never_alone(condition)
    if isinstance(condition, Not):
        return "all of nothing is true" if isinstance(condition.not_, AllOf) and not condition.not_.all else None
    if isinstance(condition, AnyOf):
        reasons = [never(each) for each in condition.any]
        if not reasons:
            return "any of nothing is false"
        return reasons[0] if all(reasons) else None
    for each in condition.all:
        reason = never(each)
        if reason is not None:
            return reason
    return _contradiction([each for each in _flat(condition) if isinstance(each, Comparison)])


def _flat(condition: AllOf) -> Iterator[Any]:
    for each in condition.all:
        if isinstance(each, AllOf):
            yield from _flat(each)
        else:
            yield each


def _never_alone(item: Comparison) -> str | None:
    if item.or_null:
        return None
    if item.operator == "in" and not _listed(item.value):
        return "no value is listed"
    if item.operator == "between" and len(_listed(item.value)) == 2 and _less(item.value[1], item.value[0]):
        return f"{item.value[0]!r} is above {item.value[1]!r}"
    if item.value_column == item.column and item.operator in ("!=", ">", "<"):
        return f"{item.column!r} is compared with itself"
    return None


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else ()


def _contradiction(parts: list[Comparison]) -> str | None:
    """Two comparisons of one column with literals that no value meets both."""
    literal = [part for part in parts if part.value_column is None and not part.or_null]
    for i, one in enumerate(literal):
        for other in literal[i + 1 :]:
            if one.column == other.column and (_exclude(one, other) or _exclude(other, one)):
                return f"{_said(one)} and {_said(other)} exclude each other"
    return None


def _exclude(one: Comparison, other: Comparison) -> bool:
    if one.operator == "is_null":
        return other.operator not in ("is_null", "is_empty")
    if one.operator == "is_empty":
        return other.operator == "is_not_empty"
    if one.operator == other.operator == "=" and _differ(one.value, other.value):
        return True
    low, high = _low(one), _high(other)
    if low is not None and high is not None:
        strict = one.operator == ">" or other.operator == "<"
        return _less(high, low) or (strict and high == low)
    if one.operator == "=" and other.operator in ("in", "not_in", "!="):
        values = _listed(other.value) if other.operator != "!=" else (other.value,)
        is_among = any(type(value) is type(one.value) and value == one.value for value in values)
        return is_among if other.operator != "in" else all(_differ(one.value, value) for value in values)
    return False


def _differ(left: Any, right: Any) -> bool:
    """Whether two literals surely stand for two values; of one date or time there are several texts."""
    if isinstance(left, str) and isinstance(right, str):
        return left != right and not (left[:1].isdigit() and right[:1].isdigit())
    return type(left) is type(right) and left != right


def _low(item: Comparison) -> Any:
    """The least value that meets it; None where there is none."""
    if item.operator in ("=", ">", ">="):
        return item.value
    return item.value[0] if item.operator == "between" and len(_listed(item.value)) == 2 else None


def _high(item: Comparison) -> Any:
    if item.operator in ("=", "<", "<="):
        return item.value
    return item.value[1] if item.operator == "between" and len(_listed(item.value)) == 2 else None


def _less(left: Any, right: Any) -> bool:
    """Whether left is surely below right. Of texts only dates are: a database may order others in its own way."""
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left < right
    if isinstance(left, str) and isinstance(right, str) and left != right:
        same_form = len(left) == len(right) == 10 and left[4] == left[7] == right[4] == right[7] == "-"
        return same_form and left < right
    return False


def _said(item: Comparison) -> str:
    return f"{item.column} {item.operator}" + ("" if item.operator in WITHOUT_VALUE else f" {item.value!r}")
