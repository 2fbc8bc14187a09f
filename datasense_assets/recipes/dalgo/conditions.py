"""How Dalgo's conditions become the language's: its filter, and the cases of a column."""

from __future__ import annotations

from typing import Any

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.dalgo.steps import CannotMap, Config, Model

T = ColumnType

_COMPARE = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _comparison(column: str, operator: str, operand: Config | None, model: Model, path: str) -> dict[str, Any]:
    plain = " ".join(str(operator).lower().split())
    if plain in ("is null", "is not null"):
        return {"column": column, "operator": plain.replace(" ", "_")}
    if plain not in _COMPARE:
        fix = f"Operators are {', '.join(_COMPARE)}, IS NULL, IS NOT NULL."
        raise CannotMap(f"{path}.operator", f"there is no operator {operator!r}", fix)
    if operand is None:
        raise CannotMap(f"{path}.operand", f"{operator} has nothing to compare with", "Add an operand.")
    if operand.get("is_col"):
        return {"column": column, "operator": _COMPARE[plain], "value_column": str(operand["value"])}
    value = model.literal(operand["value"], column, f"{path}.operand.value")
    if value is None:
        raise CannotMap(f"{path}.operand.value", "a comparison with null is never true", "Use IS NULL.")
    return {"column": column, "operator": _COMPARE[plain], "value": value}


def where(config: Config, model: Model) -> None:
    """Clauses, of which all or any hold; written SQL has no step."""
    if config.get("where_type", "and") == "sql":
        raise CannotMap("sql_snippet", "recipes hold no SQL", "Write the condition as clauses, or as a formula step.")
    clauses = []
    for i, clause in enumerate(config.get("clauses", [])):
        operand = clause.get("operand")
        if operand is None and "value" in clause:
            operand = {"value": clause["value"], "is_col": False}
        clauses.append(_comparison(clause["column"], clause["operator"], operand, model, f"clauses[{i}]"))
    if not clauses:
        raise CannotMap("clauses", "there is no clause", "Add one.")
    word = "any" if config.get("where_type", "and") == "or" else "all"
    model.add("filter", where=clauses[0] if len(clauses) == 1 else {word: clauses})


def casewhen(config: Config, model: Model) -> None:
    """Cases as clauses, each with a value or a column; written SQL has no step."""
    if config.get("case_type", "simple") != "simple":
        raise CannotMap("sql_snippet", "recipes hold no SQL", "Write the cases as when_clauses, or as a formula step.")
    otherwise = config.get("else_clause") or {}
    branches = [clause["then"] for clause in config.get("when_clauses", [])]
    columns = [str(each["value"]) for each in [*branches, otherwise] if each.get("is_col")]
    kind = model.types.get(columns[0]) if columns else T.TEXT
    cases = []
    for i, clause in enumerate(config.get("when_clauses", [])):
        path = f"when_clauses[{i}]"
        when = _when(clause, model, path)
        cases.append({"when": when, **_result(clause["then"], "then", columns, model, f"{path}.then.value")})
    into = config.get("output_column_name", "output_col")
    step: dict[str, Any] = {"cases": cases, "into": into}
    if otherwise.get("value"):
        step |= _result(otherwise, "otherwise", columns, model, "else_clause.value")
    model.add("case", **step)
    model.made(into, kind)


def _when(clause: Config, model: Model, path: str) -> dict[str, Any]:
    column, operands = clause["column"], clause.get("operands", [])
    if str(clause["operator"]).lower() != "between":
        return _comparison(column, clause["operator"], operands[0] if operands else None, model, path)
    if len(operands) != 2:
        raise CannotMap(f"{path}.operands", "between needs two operands", "Give the lowest and the highest.")
    low, high = operands
    return {"all": [_comparison(column, ">=", low, model, path), _comparison(column, "<=", high, model, path)]}


def _result(given: Config, field: str, columns: list[str], model: Model, path: str) -> dict[str, Any]:
    if given.get("is_col"):
        return {f"{field}_column": str(given["value"])}
    return {field: model.literal(given["value"], columns[0] if columns else None, path)}
