"""A document of wrong form: what of it can be read is looked over all the same, so that every mistake is told at once.

A step that cannot be read stands as a gap: after it nobody knows the columns, and so nothing is said that hangs on
them. Formulas, patterns and formats are read in every step, also in one that has another field wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from datasense_assets.recipes.compiling.checks import check_errors
from datasense_assets.recipes.compiling.walk import NOTHING, Gap, output_errors, run_steps
from datasense_assets.recipes.errors import RecipeError
from datasense_assets.recipes.language.checks import CHECK_MODELS, MAX_CHECKS, RowCountCheck
from datasense_assets.recipes.language.output import Output
from datasense_assets.recipes.language.recipe import MAX_STEPS, RecipeModel
from datasense_assets.recipes.language.step import StepBase
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.tableref import TableRef

Tables = Callable[[RecipeModel], Mapping[str, TableRef]]
"""The tables of a recipe's inputs, by alias, of which only name and inputs can be relied on."""

_MOST_INPUTS = 100
_OF_THE_TEXT_ALONE = ("bad_formula", "bad_pattern")
_KNOWN_TO_NOBODY = {"": "source:unknown.unknown"}


def more_errors(data: Any, form: Sequence[RecipeError], tables: Tables | None) -> list[RecipeError]:
    """Mistakes of a recipe besides those of `form`; with `tables`, which are asked of only where the inputs are of the
    right form, also what their columns have against the steps before the first gap.
    """
    if not isinstance(data, dict):
        return []
    part = _readable(data, rightly="inputs" not in {_top(error) for error in form})
    aliases = part.inputs is not _KNOWN_TO_NOBODY
    asked = tables is not None and aliases and not {"inputs", "name"} & {_top(error) for error in form}
    frame, context = run_steps(part, tables(part) if tables is not None and asked else {}, None)
    found = [*context.errors, *output_errors(part, frame, context), *_of_unread_steps(data, part)]
    silent = {code for code, told in (("missing_table", asked), ("unknown_input", aliases)) if not told}
    told = {error.path for error in form}
    return [error for error in found if error.code not in silent and not _is_told(error.path, told)]


def more_check_errors(data: Any, form: Sequence[RecipeError]) -> list[RecipeError]:
    """Mistakes of a table's checks besides those of `form`, without the table: patterns that cannot be read."""
    told = {error.path for error in form}
    found = check_errors(_checks(data), NOTHING, casts=None)
    return [error for error in found if not _is_told(error.path, told)]


def _readable(data: Mapping[Any, Any], *, rightly: bool) -> RecipeModel:
    """The recipe of the parts that can be read. `rightly`: its inputs are of the right form."""
    steps: list[Any] = [_read(STEP_MODELS, "op", step) or Gap() for step in _items(data.get("steps"), MAX_STEPS)]
    output = _valid(Output, data.get("output", {})) or Output()
    if not rightly or any(isinstance(step, Gap) for step in steps):
        # How a result can be kept is a matter of all the steps.
        output = output.model_copy(update={"materialize": "table", "key": None})
    return RecipeModel.model_construct(
        version=1,
        name=data["name"] if isinstance(data.get("name"), str) else "unknown",
        inputs=_inputs(data.get("inputs")),
        steps=steps,
        output=output,
        checks=_checks(data.get("checks")),
    )


def _inputs(data: Any) -> dict[str, str]:
    named = isinstance(data, dict) and 0 < len(data) <= _MOST_INPUTS and all(isinstance(alias, str) for alias in data)
    return data if named else _KNOWN_TO_NOBODY


def _checks(data: Any) -> list[Any]:
    """The checks; one that cannot be read is one that has no columns, so that the others keep their numbers."""
    nothing = RowCountCheck(check="row_count")
    return [_read(CHECK_MODELS, "check", check) or nothing for check in _items(data, MAX_CHECKS)]


def _of_unread_steps(data: Mapping[Any, Any], part: RecipeModel) -> Iterator[RecipeError]:
    """Formulas, patterns and formats in steps of which only other fields are wrong."""
    for index, (step, read) in enumerate(zip(_items(data.get("steps"), MAX_STEPS), part.steps, strict=True)):
        mended, own = _mended(step) if isinstance(read, Gap) else (None, set[str]())
        if mended is None:
            continue
        alone = part.model_copy(update={"steps": [*[Gap()] * index, mended]})
        for error in run_steps(alone, {}, None)[1].errors:
            field = error.path.removeprefix(f"steps[{index}].").partition(".")[0].partition("[")[0]
            if error.code in _OF_THE_TEXT_ALONE and field in own:
                yield error


def _mended(step: Any) -> tuple[StepBase | None, set[str]]:
    """The step without its wrong fields, those of its model's example in place of those that it needs; and the names
    of the fields that are its own. None where the mistake is in no field.
    """
    model = _model(STEP_MODELS, "op", step)
    if model is None:
        return None, set[str]()
    wrong = set(_wrong_fields(model, step))
    own = {name: value for name, value in step.items() if isinstance(name, str) and name not in wrong}
    lent = {name: value for name, value in model.example.items() if name in wrong}
    return _valid(model, {**own, **lent}), set(own)


def _wrong_fields(model: type[BaseModel], data: Any) -> Iterator[str]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            yield from map(str, detail["loc"][:1])


def _read(models: Mapping[str, type[Any]], field: str, data: Any) -> Any:
    model = _model(models, field, data)
    return None if model is None else _valid(model, data)


def _model(models: Mapping[str, type[Any]], field: str, data: Any) -> Any:
    kind = data.get(field) if isinstance(data, dict) else None
    return models.get(kind) if isinstance(kind, str) else None


def _valid(model: type[Any], data: Any) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _items(data: Any, most: int) -> Sequence[Any]:
    return data[:most] if isinstance(data, list) else ()


def _top(error: RecipeError) -> str:
    return error.path.partition(".")[0].partition("[")[0]


def _is_told(path: str, told: set[str]) -> bool:
    """Whether the place, or one in it, has an error of form already."""
    return path in told or any(other.startswith((f"{path}.", f"{path}[")) for other in told)
