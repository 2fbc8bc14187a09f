"""From what pydantic says to what a recipe's author reads: same errors, the language's paths, codes and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.errors import CODES, Code, RecipeError, RecipeErrors, nearest
from datasense_assets.recipes.language.checks import CHECK_MODELS, Check, TableChecks
from datasense_assets.recipes.language.conditions import UNION_TAG
from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.language.step import step_label
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.recipes.language.values import MAX_DEPTH

if TYPE_CHECKING:
    from datasense_assets.recipes.compiling.partly import Tables

Location = tuple[int | str, ...]
_Recipe = TypeVar("_Recipe", bound=RecipeModel)


def read_recipe(model: type[_Recipe], data: Any, tables: Tables | None) -> _Recipe:
    """See `Recipe.parse`. Where the form is wrong, what can be read of the rest is held against `tables` too."""
    if _too_deep(data):
        raise RecipeErrors([RecipeError("invalid_value", "", f"The recipe is nested deeper than {MAX_DEPTH} levels.")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = [_translate(detail, data) for detail in error.errors(include_url=False)]
    misspelt = {_sibling(one.path, one.suggestion) for one in found if one.code == "unknown_field" and one.suggestion}
    found = [one for one in found if one.code != "duplicate_step_id" and (one.code, one.path) not in misspelt]
    from datasense_assets.recipes.compiling.partly import more_errors

    form = [*found, *_duplicate_ids(data)]
    raise RecipeErrors(sorted([*form, *more_errors(data, form, tables)], key=_place))


_PLACE = re.compile(r"(\w+)(?:\[(\d+)\])?")


def _place(error: RecipeError) -> tuple[int, int]:
    """Where in the recipe an error belongs: the number of the field, and in it that of the step or check."""
    place = _PLACE.match(error.path)
    fields = list(RecipeModel.model_fields)
    if place is None or place[1] not in fields:
        return -1 if place is None else len(fields), 0
    return fields.index(place[1]), int(place[2] or -1)


def parse_checks(data: Any) -> list[Check]:
    """The checks of a source's table, as a list of what JSON or YAML gives.

    Raises:
        RecipeErrors: every mistake of form, with paths such as `checks[0].column`; with one, patterns too.

    """
    whole = {"checks": data}
    if _too_deep(data):
        raise RecipeErrors([RecipeError("invalid_value", "checks", f"is nested deeper than {MAX_DEPTH} levels.")])
    try:
        return TableChecks.model_validate(whole).checks
    except ValidationError as error:
        found = [_translate(detail, whole) for detail in error.errors(include_url=False)]
    misspelt = {_sibling(one.path, one.suggestion) for one in found if one.code == "unknown_field" and one.suggestion}
    form = [one for one in found if (one.code, one.path) not in misspelt]
    from datasense_assets.recipes.compiling.partly import more_check_errors

    raise RecipeErrors(sorted([*form, *more_check_errors(data, form)], key=_place))


def _sibling(path: str, name: str) -> tuple[str, str]:
    """The error that a misspelt field causes besides its own: the field meant is missing."""
    parent, dot, _ = path.rpartition(".")
    return "missing_field", parent + dot + name


def path_text(location: Location) -> str:
    """`("steps", 2, "on", 0, "left")` as `steps[2].on[0].left`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _too_deep(data: Any) -> bool:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.values()
    elif isinstance(item, list):
        yield from item


def _duplicate_ids(data: Any) -> Iterator[RecipeError]:
    steps = data.get("steps") if isinstance(data, dict) else None
    seen: dict[str, int] = {}
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        step_id = step.get("id") if isinstance(step, dict) else None
        if not isinstance(step_id, str):
            continue
        if step_id in seen:
            yield RecipeError(
                "duplicate_step_id",
                f"steps[{index}].id",
                f"{step_label(index, step)}: the id {step_id!r} is step {seen[step_id] + 1}'s already; "
                "give each step an id of its own.",
            )
        seen.setdefault(step_id, index)


def _translate(detail: ErrorDetails, data: Any) -> RecipeError:
    location = _recipe_path(detail["loc"])
    kind = detail["type"]
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return _unknown_field(detail["loc"], location, data)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(detail, location, data)
    if kind == "missing":
        return RecipeError("missing_field", path_text(location), _where(location, data, "is needed here; add it."))
    suggestion = None
    if kind == "literal_error":
        allowed = [str(value) for value in get_args(_field_annotation(detail["loc"])) or ()]
        suggestion = nearest(str(detail["input"]), allowed)
        message = f"is {detail['input']!r}; write one of {', '.join(allowed) or context.get('expected')}."
    else:
        message = _plain(detail)
        if kind == "enum":
            suggestion = nearest(str(detail["input"]), [member.value for member in ColumnType])
    code: Code = kind if kind in CODES else "invalid_value"
    if kind == "missing_field":
        location = (*location, str(context.get("field")))
        return RecipeError(code, path_text(location), _where(location[:-1], data, message))
    return RecipeError(code, path_text(location), _where(location, data, message), suggestion)


_WORDS = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object of names and values",
    "model_type": "must be an object of fields",
    "model_attributes_type": "must be an object of fields",
    "too_short": "must have at least {min_length} in it",
    "too_long": "must have at most {max_length} in it",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "enum": "is {value!r}; write one of {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "recursion_loop": "contains itself",
}


def _plain(detail: ErrorDetails) -> str:
    words = _WORDS.get(detail["type"])
    if words is None:
        return detail["msg"] + "."
    context = {"min_length": 1, **(detail.get("ctx") or {}), "value": detail["input"]}
    return words.format(**context) + "."


def _where(location: Location, data: Any, message: str) -> str:
    """The message with the step's number and name, and the field, in front."""
    if len(location) >= 2 and location[0] == "steps" and isinstance(location[1], int):
        steps = data.get("steps") if isinstance(data, dict) else None
        step = steps[location[1]] if isinstance(steps, list) and location[1] < len(steps) else None
        field = path_text(location[2:])
        label = step_label(location[1], step)
        return f"{label}: {field} {message}" if field else f"{label} {message}"
    return f"{path_text(location)} {message}" if location else f"The recipe {message}"


def _recipe_path(loc: Location) -> Location:
    """The location that pydantic gives, without the tags of unions and the marks of dict keys."""
    parts = list(loc)
    if len(parts) > 2 and parts[0] in ("steps", "checks"):
        del parts[2]
    return tuple(part for part in parts if part != "[key]" and not str(part).startswith(UNION_TAG))


def _wrong_tag(detail: ErrorDetails, location: Location, data: Any) -> RecipeError:
    field = "op" if location[:1] == ("steps",) else "check"
    path = path_text((*location, field))
    if detail["type"] == "union_tag_not_found":
        if not isinstance(detail["input"], dict):
            return RecipeError(
                "invalid_value", path_text(location), _where(location, data, "must be an object of fields.")
            )
        return RecipeError("missing_field", path, _where((*location, field), data, "is needed here; add it."))
    tag = str((detail.get("ctx") or {}).get("tag"))
    if field == "check":
        allowed = list(CHECK_MODELS)
        return RecipeError(
            "invalid_value",
            path,
            _where((*location, field), data, f"is {tag!r}; write one of {', '.join(allowed)}."),
            nearest(tag, allowed),
        )
    available = ", ".join(STEP_MODELS)
    label = step_label(int(location[1]), {})
    message = f"{label}: there is no step {tag!r}; write one of {available}."
    return RecipeError("invalid_value", path, message, nearest(tag, STEP_MODELS))


def _unknown_field(loc: Location, location: Location, data: Any) -> RecipeError:
    model = _model_at(loc[:-1])
    known = [info.alias or name for name, info in model.model_fields.items()] if model else []
    name = str(loc[-1])
    suggestion = nearest(name, known)
    hint = f"did you mean {suggestion!r}?" if suggestion else f"its fields are {', '.join(known)}."
    return RecipeError(
        "unknown_field", path_text(location), _where(location, data, f"is no field of this; {hint}"), suggestion
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _pick(models: list[type[BaseModel]], tag: str) -> list[type[BaseModel]]:
    """Of a union's models, the one that a location's tag names."""
    if tag.startswith(UNION_TAG):
        wanted = {"all": "AllOf", "any": "AnyOf", "not": "Not", "comparison": "Comparison"}[tag.removeprefix(UNION_TAG)]
        return [model for model in models if model.__name__ == wanted]
    return [
        model
        for model in models
        if any(tag in get_args(info.annotation) for name, info in model.model_fields.items() if name in ("op", "check"))
    ]


def _model_at(loc: Location) -> type[BaseModel] | None:
    """The model that a location leads to, by walking the annotations from `RecipeModel`."""
    models: list[type[BaseModel]] = [RecipeModel]
    for part in loc:
        if isinstance(part, int):
            continue
        if len(models) > 1:
            models = _pick(models, part)
            continue
        if not models:
            return None
        fields = {info.alias or name: info for name, info in models[0].model_fields.items()}
        models = _models_in(fields[part].annotation) if part in fields else []
        for info in [fields[part]] if part in fields else []:
            models = models or [model for extra in info.metadata for model in _models_in(extra)]
    return models[0] if len(models) == 1 else None


def _field_annotation(loc: Location) -> Any:
    model = _model_at(loc[:-1])
    for name, info in model.model_fields.items() if model else ():
        if (info.alias or name) == loc[-1]:
            return info.annotation
    return None
