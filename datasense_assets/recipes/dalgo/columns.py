"""How Dalgo's operations on columns become steps. What its SQL does is said where it is not what the name says."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.dalgo.steps import CannotMap, Config, Model, column_type, text_literal
from datasense_assets.recipes.formula.names import bracketed

T = ColumnType

_FUNCTIONS = {
    **{n: n for n in ("abs", "round", "floor", "sqrt", "power", "lower", "upper", "trim", "left", "right", "length")},
    **{n: n for n in ("replace", "coalesce", "nullif", "concat", "sign", "exp", "ln", "mod")},
    **{"ceil": "ceil", "ceiling": "ceil", "initcap": "title", "greatest": "max", "least": "min", "trunc": "trunc"},
    **{"substring": "mid", "substr": "mid", "char_length": "length", "character_length": "length", "lpad": "pad_left"},
}
_AS_TEXT = frozenset({"lower", "upper", "trim", "left", "right", "replace", "concat", "title", "mid", "pad_left"})


def castdatatypes(config: Config, model: Model) -> None:
    """CAST, which fails the whole model at a value that it cannot read."""
    columns = []
    for i, item in enumerate(config.get("columns", [])):
        if "columntype" in item:
            kind = column_type(item["columntype"], f"columns[{i}].columntype")
            columns.append({"column": item["columnname"], "to": kind.value, "on_error": "fail"})
    if columns:
        model.add("cast", columns=columns)
    for item in columns:
        if item["to"] == "integer" and model.types.get(item["column"]) in (None, T.NUMBER):
            model.note("columns", f"a number with decimals in {item['column']!r} fails the build, where SQL rounds it.")
        model.types[item["column"]] = T(item["to"])


def arithmetic(config: Config, model: Model) -> None:
    """`safe_add` and `safe_subtract` take null as 0, `*` does not; division by zero is null, of integers an integer."""
    operator, operands, into = config["operator"], config["operands"], config["output_column_name"]
    written = [model.operand(each, f"operands[{i}].value") for i, each in enumerate(operands)]
    if operator in ("add", "sub"):
        formula = (" + " if operator == "add" else " - ").join(f"coalesce({each}, 0)" for each in written)
    elif operator == "mul":
        formula = " * ".join(written)
    elif operator == "div" and len(written) == 2:
        kinds = [_operand_kind(each, model) for each in operands]
        formula = " / ".join(written)
        if kinds == [T.INTEGER, T.INTEGER]:
            formula = f"trunc({formula})"
        elif None in kinds:
            model.note("operator", "the quotient is a number; of two integers, PostgreSQL would cut the decimals off.")
    else:
        raise CannotMap("operator", f"{operator!r} of {len(written)} operands is no operation", "See Dalgo's docs.")
    model.add("formula", column=into, formula=formula)
    kinds = [_operand_kind(each, model) for each in operands]
    known = T.INTEGER if all(kind is T.INTEGER for kind in kinds) else T.NUMBER if None not in kinds else None
    model.made(into, known)


def _operand_kind(operand: Config, model: Model) -> ColumnType | None:
    if operand.get("is_col"):
        return model.types.get(str(operand["value"]))
    return T.INTEGER if re.fullmatch(r"-?\d+", str(operand["value"]).strip()) else T.NUMBER


def coalescecolumns(config: Config, model: Model) -> None:
    """The first value that there is; else the default, where one is given."""
    columns, into, default = config.get("columns", []), config["output_column_name"], config.get("default_value")
    step: dict[str, Any] = {"columns": columns, "into": into}
    if default is not None:
        step["default"] = model.literal(default, columns[0] if columns else None, "default_value")
    model.add("coalesce", **step)
    kinds = {model.types.get(name) for name in columns}
    model.made(into, kinds.pop() if len(kinds) == 1 else None)


def concat(config: Config, model: Model) -> None:
    """CONCAT takes null as nothing."""
    parts: list[dict[str, str]] = []
    for item in config["columns"]:
        if isinstance(item, str):
            parts.append({"column": item})
        else:
            parts.append({"column" if item.get("is_col") else "text": str(item["name"])})
    model.add("concat", parts=parts, into=config["output_column_name"])
    model.made(config["output_column_name"], T.TEXT)


def dropcolumns(config: Config, model: Model) -> None:
    """Those of its columns that are there."""
    columns = [name for name in config.get("columns", []) if model.columns is None or name in model.columns]
    if columns:
        model.add("drop", columns=columns)
        model.gone(columns)


def renamecolumns(config: Config, model: Model) -> None:
    """New names, with what is known of the columns."""
    names = dict(config.get("columns", {}))
    if names:
        model.add("rename", columns=names)
        kinds = {new: model.types.get(old) for old, new in names.items()}
        model.gone(names)
        for new, kind in kinds.items():
            model.made(new, kind)


def flattenjson(config: Config, model: Model) -> None:
    """`->>`: every field as text, under the column's name and the field's, cleaned."""
    column, fields = config["json_column"], [str(name) for name in config["json_columns_to_copy"]]
    kept = model.columns is None or column in model.columns
    prefix = f"{column}_"
    wanted = _distinct([prefix + each for each in _distinct([_cleaned(name) for name in fields])])
    model.add("expand_json", column=column, fields=dict.fromkeys(fields, "text"), prefix=prefix, keep_source=kept)
    renamed = {prefix + old: new for old, new in zip(fields, wanted, strict=True) if prefix + old != new}
    if renamed:
        model.add("rename", columns=renamed)
    for name in wanted:
        model.made(name, T.TEXT)


def _cleaned(name: str) -> str:
    name = re.sub(r"[^0-9a-zA-Z]", "_", name[:40])
    return f"c{name}" if name.isdigit() else name


def _distinct(names: list[str]) -> list[str]:
    """A second one of a name gets `_b`, a third `_c`."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}_{chr(seen[name] - 1 + ord('a'))}")
    return found


def generic(config: Config, model: Model) -> None:
    """A function of SQL by name; its column is not quoted, so its name is small letters."""
    for i, item in enumerate(config["computed_columns"]):
        name = str(item["function_name"])
        function = _FUNCTIONS.get(name.strip().lower())
        if function is None:
            known = ", ".join(sorted(_FUNCTIONS))
            raise CannotMap(
                f"computed_columns[{i}].function_name",
                f"formulas have no function like {name}",
                f"There are {known}; write a formula step by hand.",
            )
        arguments = []
        for operand in item["operands"]:
            text = str(operand["value"])
            if operand.get("is_col"):
                arguments.append(bracketed(text))
            else:
                arguments.append(text if re.fullmatch(r"-?\d+(\.\d+)?", text) else text_literal(text))
        into = str(item["output_column_name"]).lower()
        model.add("formula", column=into, formula=f"{function}({', '.join(arguments)})")
        model.made(into, T.TEXT if function in _AS_TEXT else None)


def regexextraction(config: Config, model: Model) -> None:
    """`substring`: the first bracket of the pattern, or all that it matches."""
    for name, pattern in config.get("columns", {}).items():
        model.add("extract", column=name, pattern=pattern)
        model.made(name, T.TEXT)


def replace(config: Config, model: Model) -> None:
    """Every occurrence, one pair after another."""
    for i, item in enumerate(config.get("columns", [])):
        pairs = [{"find": str(op["find"]), "replace": str(op["replace"])} for op in item["replace_ops"] if op["find"]]
        if not pairs:
            raise CannotMap(f"columns[{i}].replace_ops", "there is nothing to find", "Add a pair.")
        into = item["output_column_name"]
        model.add("replace_values", column=item["col_name"], mapping=pairs, match="substring", into=into)
        model.made(into, T.TEXT)
