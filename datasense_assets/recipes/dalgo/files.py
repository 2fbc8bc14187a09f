"""A file of Dalgo's operations to recipes: one a model, each held against the language before it is given out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasense_assets.catalog.models import ColumnType, Problem
from datasense_assets.recipes.dalgo.operations import (
    CHOOSE_AFTER,
    CHOOSE_BEFORE,
    NOT_NEEDED,
    OPERATIONS,
    WITHOUT_STEPS,
)
from datasense_assets.recipes.dalgo.steps import CannotMap, Model, add_input, recipe_name
from datasense_assets.recipes.errors import RecipeErrors
from datasense_assets.recipes.recipe import Recipe

Types = Mapping[str, Mapping[str, ColumnType]]
"""Columns of tables with their types, by reference (`source:forms.visits`)."""


@dataclass
class Imported:
    """`recipes` as data, in the order of the file; `problems`: what has no recipe; `notes`: what may differ.

    `places`: where each name of a recipe was first given.
    """

    recipes: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)


def import_dalgo(data: Any, types: Types | None = None) -> Imported:
    """The models of `operations: [{type, config}]`, of a list of such, or of one; `mergeoperations` is one model.

    Types of columns decide how constants are meant, which Dalgo writes as text; those of `types` are known, and those
    that the operations themselves make.
    """
    done = Imported()
    known: dict[str, Mapping[str, ColumnType]] = dict(types or {})
    operations, base = _operations(data)
    if operations is None:
        fix = "It has operations: [{type, config}], or is one of those."
        done.problems.append(Problem(path="", message="This is no file of Dalgo's operations.", fix=fix))
        return done
    for index, given in enumerate(operations):
        path = base.format(index)
        operation = given.get("operation_config", given) if isinstance(given, Mapping) else None
        if not isinstance(operation, Mapping) or not isinstance(operation.get("config", {}), Mapping):
            fix = "Write {type: ..., config: {...}}."
            done.problems.append(Problem(path=path, message="This is no operation.", fix=fix))
            continue
        kind = str(operation.get("type"))
        if kind in NOT_NEEDED:
            done.notes.append(Problem(path=path, message=f"{kind} is left out: {NOT_NEEDED[kind]}."))
            continue
        _model(kind, operation.get("config", {}), f"{path}.config", known, done)
    return done


def _operations(data: Any) -> tuple[Sequence[Any] | None, str]:
    if isinstance(data, Mapping) and isinstance(data.get("operations"), list):
        return data["operations"], "operations[{}]"
    if isinstance(data, list):
        return data, "[{}]"
    if isinstance(data, Mapping) and ("type" in data or "operation_config" in data):
        return [data], "operation"
    return None, ""


def _model(kind: str, config: Mapping[str, Any], path: str, known: dict[str, Any], done: Imported) -> None:
    name = recipe_name(str(config.get("output_name") or config.get("output_model_name") or f"{kind}_model"))
    chain = [(kind, config, path)]
    if kind == "mergeoperations":
        chain = [
            (str(each.get("type")), each.get("config", {}), f"{path}.operations[{i}].config")
            for i, each in enumerate(config.get("operations", []))
        ]
    model = Model(path=path)
    before = len(done.problems)
    if (first := done.places.setdefault(name, path)) != path:
        said = f"Its recipe would be called {name!r}, as that of {first} is."
        done.problems.append(Problem(path=f"{path}.output_name", message=said, fix="Give it another name."))
    try:
        add_input(config.get("input") or (chain[0][1].get("input") if chain else None) or {}, model, "input")
        start = known.get(next(iter(model.inputs.values())), {})
        model.types = dict(start)
        model.columns = list(start) or None
    except CannotMap as error:
        done.problems.append(Problem(path=f"{path}.{error.path}", message=f"{error.reason}.", fix=error.fix))
    for operation, settings, place in chain:
        model.path = place
        try:
            _operation(operation, settings, model)
        except CannotMap as error:
            done.problems.append(Problem(path=f"{place}.{error.path}", message=f"{error.reason}.", fix=error.fix))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "it is not as Dalgo writes it"
            done.problems.append(Problem(path=place, message=f"{operation}: {said}.", fix="See Dalgo's docs."))
    done.notes += model.notes
    if len(done.problems) > before:
        return
    # ibis takes its time, and nobody waits for it to be told what has no recipe
    from datasense_assets.recipes.compiling.compile import known_errors

    recipe = {"version": 1, "name": name, "inputs": model.inputs, "steps": model.steps}
    try:
        wrong = known_errors(Recipe.parse(recipe), {})
        if wrong:
            raise RecipeErrors(wrong)
    except RecipeErrors as errors:
        done.problems += [Problem(path=path, message=f"the recipe made of it: {each}") for each in errors.errors]
        return
    known[f"recipe:{name}"] = {n: k for n, k in model.types.items() if model.columns is None or n in model.columns}
    done.recipes.append(recipe)


def _operation(kind: str, config: Mapping[str, Any], model: Model) -> None:
    if kind in WITHOUT_STEPS:
        reason, fix = WITHOUT_STEPS[kind]
        raise CannotMap("type", f"{kind} has no step: {reason}", fix)
    if kind not in OPERATIONS:
        raise CannotMap("type", f"there is no operation {kind!r}", f"Operations are {', '.join(sorted(OPERATIONS))}.")
    columns = config.get("source_columns")
    if kind in CHOOSE_BEFORE:
        model.keep(columns)
    model.new = []
    OPERATIONS[kind](config, model)
    if kind in CHOOSE_AFTER and isinstance(columns, list):
        model.keep([*columns, *(name for name in dict.fromkeys(model.new) if name not in columns)])
