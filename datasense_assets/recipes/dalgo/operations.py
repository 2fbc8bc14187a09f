"""How each of Dalgo's operations becomes steps. What its SQL does is said where it is not what the name says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.dalgo.steps import CannotMap, Model, column_type, text_literal
from datasense_assets.recipes.formula.names import bracketed

T = ColumnType
Config = Mapping[str, Any]

_FIGURES = {"count": "count", "countdistinct": "count_distinct", "sum": "sum", "avg": "avg", "min": "min", "max": "max"}
_COMPARE = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_JOINS = {"inner": "inner", "left": "left", "full outer": "full"}
_FUNCTIONS = {
    **{n: n for n in ("abs", "round", "floor", "sqrt", "power", "lower", "upper", "trim", "left", "right", "length")},
    **{n: n for n in ("replace", "coalesce", "nullif", "concat", "sign", "exp", "ln", "mod")},
    **{"ceil": "ceil", "ceiling": "ceil", "initcap": "title", "greatest": "max", "least": "min", "trunc": "trunc"},
    **{"substring": "mid", "substr": "mid", "char_length": "length", "character_length": "length", "lpad": "pad_left"},
}
_AS_TEXT = frozenset({"lower", "upper", "trim", "left", "right", "replace", "concat", "title", "mid", "pad_left"})


def _castdatatypes(config: Config, model: Model) -> None:
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


def _arithmetic(config: Config, model: Model) -> None:
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


def _coalescecolumns(config: Config, model: Model) -> None:
    columns, into, default = config.get("columns", []), config["output_column_name"], config.get("default_value")
    step: dict[str, Any] = {"columns": columns, "into": into}
    if default is not None:
        step["default"] = model.literal(default, columns[0] if columns else None, "default_value")
    model.add("coalesce", **step)
    kinds = {model.types.get(name) for name in columns}
    model.made(into, kinds.pop() if len(kinds) == 1 else None)


def _concat(config: Config, model: Model) -> None:
    """CONCAT takes null as nothing."""
    parts: list[dict[str, str]] = []
    for item in config["columns"]:
        if isinstance(item, str):
            parts.append({"column": item})
        else:
            parts.append({"column" if item.get("is_col") else "text": str(item["name"])})
    model.add("concat", parts=parts, into=config["output_column_name"])
    model.made(config["output_column_name"], T.TEXT)


def _dropcolumns(config: Config, model: Model) -> None:
    columns = [name for name in config.get("columns", []) if model.columns is None or name in model.columns]
    if columns:
        model.add("drop", columns=columns)
        model.gone(columns)


def _renamecolumns(config: Config, model: Model) -> None:
    names = dict(config.get("columns", {}))
    if names:
        model.add("rename", columns=names)
        kinds = {new: model.types.get(old) for old, new in names.items()}
        model.gone(names)
        for new, kind in kinds.items():
            model.made(new, kind)


def _flattenjson(config: Config, model: Model) -> None:
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


def _generic(config: Config, model: Model) -> None:
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


def _figures(config: Config) -> list[dict[str, str]]:
    figures = []
    for i, item in enumerate(config.get("aggregate_on", [])):
        fn = _FIGURES.get(str(item["operation"]).lower())
        if fn is None:
            known = ", ".join(_FIGURES)
            raise CannotMap(
                f"aggregate_on[{i}].operation", f"there is no figure {item['operation']!r}", f"Use {known}."
            )
        figures.append({"fn": fn, "column": item["column"], "into": item["output_column_name"]})
    return figures


def _figure_kind(figure: Config, model: Model) -> ColumnType | None:
    if figure["fn"].startswith("count"):
        return T.INTEGER
    return T.NUMBER if figure["fn"] == "avg" else model.types.get(figure["column"])


def _groupby(config: Config, model: Model) -> None:
    groups = list(config.get("dimension_columns", config.get("source_columns", [])))
    figures = _figures(config)
    kinds = {figure["into"]: _figure_kind(figure, model) for figure in figures}
    model.add("aggregate", group_by=groups, aggregations=figures)
    model.columns = [*groups, *kinds]
    model.types = {n: k for n, k in {**model.types, **kinds}.items() if n in model.columns and k is not None}


def _aggregate(config: Config, model: Model) -> None:
    """Figures of the whole table beside each of its rows."""
    for figure in _figures(config):
        kind = _figure_kind(figure, model)
        into, column = figure["into"], figure["column"]
        if figure["fn"] == "count_distinct":
            rank = f"{into}_rank"[:63]
            model.add("window", fn="dense_rank", into=rank, order_by=[column])
            model.add("formula", column=rank, formula=f"if(is_null({bracketed(column)}), 0, {bracketed(rank)})")
            model.add("window", fn="max", column=rank, into=into)
            model.add("drop", columns=[rank])
        else:
            model.add("window", fn=figure["fn"], column=column, into=into)
        model.made(into, kind)


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


def _where(config: Config, model: Model) -> None:
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


def _casewhen(config: Config, model: Model) -> None:
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


def _join(config: Config, model: Model) -> None:
    """Every column that is asked for, the right's keys too; a name that both have gets `_2` on the right's."""
    others, on = config.get("other_inputs", []), config.get("join_on", {})
    keys = {f"join_on[{i}]": key for i, key in enumerate(on)} if isinstance(on, list) else {"join_on": on}
    how = _JOINS.get(str(config.get("join_type", "")).lower())
    if how is None:
        raise CannotMap("join_type", f"there is no join {config.get('join_type')!r}", f"Use {', '.join(_JOINS)}.")
    for path, key in keys.items():
        if key.get("compare_with", "=") != "=":
            fix = "Join on equal keys, then filter."
            raise CannotMap(f"{path}.compare_with", "recipes join on equal keys only", fix)
    if len(others) != 1:
        raise CannotMap("other_inputs", f"a join has two tables, here are {len(others) + 1}", "Join them one by one.")
    if others[0].get("seq", 1) < 1:
        raise CannotMap("other_inputs[0].seq", "the other table comes first", "Make it the input of the operation.")
    alias = add_input(others[0]["input"], model, "other_inputs[0].input")
    # The key of a full join is of both sides; joining on a copy leaves each side its own.
    copies = {f"dalgo_join_key_{i + 1}" if i else "dalgo_join_key": key for i, key in enumerate(keys.values())}
    for copy, key in copies.items():
        model.add("formula", column=copy, formula=bracketed(key["key1"]))
    if isinstance(config.get("source_columns"), list):
        for copy in copies:
            model.made(copy)
        model.keep([*config["source_columns"], *copies])
        model.gone(copies)
    pairs = [{"left": copy, "right": key["key2"]} for copy, key in copies.items()]
    step: dict[str, Any] = {"with": alias, "how": how, "on": pairs}
    brought = others[0].get("source_columns")
    if brought:
        step["columns"] = list(brought)
    model.add("join", **step)
    model.add("drop", columns=list(copies))
    if model.columns is None or not brought:
        model.columns = None
        return
    model.columns = [*model.columns, *(f"{name}_2" if name in model.columns else name for name in brought)]


def _unionall(config: Config, model: Model) -> None:
    """Columns by name; of every input's those that any of them lists."""
    names = list(config.get("source_columns", []) or [])
    aliases = []
    for i, other in enumerate(config.get("other_inputs", [])):
        aliases.append(add_input(other["input"], model, f"other_inputs[{i}].input"))
        names += other.get("source_columns") or []
    if not aliases:
        raise CannotMap("other_inputs", "there is no other table", "Add one.")
    model.add("union", **{"with": aliases})
    columns = list(dict.fromkeys(names))
    model.columns = None
    model.keep(columns)
    model.note("other_inputs", "Dalgo's column _dbt_source_relation is left out; union has source_column for that.")


def _pivot(config: Config, model: Model) -> None:
    """How many rows have each value."""
    groups = list(config.get("groupby_columns", config.get("source_columns", [])) or [])
    column, values = config.get("pivot_column_name"), config.get("pivot_column_values", [])
    if not column:
        raise CannotMap("pivot_column_name", "it is not given", "Name the column whose values become columns.")
    names = [model.literal(value, column, f"pivot_column_values[{i}]") for i, value in enumerate(values)]
    model.add("pivot", group_by=groups, names_from=column, names=names, fn="count")
    model.columns = [*groups, *(str(value) for value in values)]
    model.types = {n: k for n, k in model.types.items() if n in groups} | {str(v): T.INTEGER for v in values}


def _unpivot(config: Config, model: Model) -> None:
    """Every value as text, or as `cast_to` says."""
    columns, kept = list(config.get("unpivot_columns", [])), list(config.get("exclude_columns", []))
    if not columns:
        raise CannotMap("unpivot_columns", "there is none", "Name the columns that become rows.")
    kind = column_type(config.get("cast_to") or "varchar", "cast_to")
    names = {"names_to": config.get("unpivot_field_name", "field_name")}
    names["values_to"] = config.get("unpivot_value_name", "value")
    model.keep([*kept, *(name for name in columns if name not in kept)])
    model.add("cast", columns=[{"column": name, "to": kind.value, "on_error": "fail"} for name in columns])
    model.add("unpivot", columns=columns, **names)
    model.gone(columns)
    model.made(names["names_to"], T.TEXT)
    model.made(names["values_to"], kind)


def _regexextraction(config: Config, model: Model) -> None:
    """`substring`: the first bracket of the pattern, or all that it matches."""
    for name, pattern in config.get("columns", {}).items():
        model.add("extract", column=name, pattern=pattern)
        model.made(name, T.TEXT)


def _replace(config: Config, model: Model) -> None:
    """Every occurrence, one pair after another."""
    for i, item in enumerate(config.get("columns", [])):
        pairs = [{"find": str(op["find"]), "replace": str(op["replace"])} for op in item["replace_ops"] if op["find"]]
        if not pairs:
            raise CannotMap(f"columns[{i}].replace_ops", "there is nothing to find", "Add a pair.")
        into = item["output_column_name"]
        model.add("replace_values", column=item["col_name"], mapping=pairs, match="substring", into=into)
        model.made(into, T.TEXT)


def add_input(given: Config, model: Model, path: str) -> str:
    """The alias of an input of Dalgo's, added to the recipe's; `source` and `model` are the kinds it has."""
    name, kind = str(given.get("input_name")), given.get("input_type")
    table = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if kind == "source":
        source = re.sub(r"[^a-z0-9-]", "-", str(given.get("source_name")).lower()).strip("-")[:40]
        reference = f"source:{source}.{table}"
    elif kind == "model":
        reference = f"recipe:{recipe_name(name)}"
    else:
        raise CannotMap(f"{path}.input_type", f"{kind!r} is neither source nor model", "Name a table or a model.")
    for alias, known in model.inputs.items():
        if known == reference:
            return alias
    alias = name if name not in model.inputs else f"{name}_{len(model.inputs) + 1}"
    model.inputs[alias] = reference
    return alias


def recipe_name(name: str) -> str:
    """A model's name as a recipe has it."""
    plain = re.sub(r"[_-]{2,}", "_", re.sub(r"[^a-z0-9_-]", "_", name.lower())).strip("_-")
    return (plain if plain[:1].isalpha() else f"model_{plain}")[:40].rstrip("_-")


OPERATIONS: dict[str, Callable[[Config, Model], None]] = {
    "aggregate": _aggregate,
    "arithmetic": _arithmetic,
    "casewhen": _casewhen,
    "castdatatypes": _castdatatypes,
    "coalescecolumns": _coalescecolumns,
    "concat": _concat,
    "dropcolumns": _dropcolumns,
    "flattenjson": _flattenjson,
    "generic": _generic,
    "groupby": _groupby,
    "join": _join,
    "pivot": _pivot,
    "regexextraction": _regexextraction,
    "renamecolumns": _renamecolumns,
    "replace": _replace,
    "union_tables": _unionall,
    "unionall": _unionall,
    "unpivot": _unpivot,
    "where": _where,
}
"""By the operation's `type`."""

CHOOSE_BEFORE = frozenset({"dropcolumns", "renamecolumns"})
"""Operations that work on `source_columns` only."""

CHOOSE_AFTER = frozenset(
    {
        *("aggregate", "arithmetic", "casewhen", "castdatatypes", "coalescecolumns", "concat", "flattenjson"),
        *("generic", "regexextraction", "replace", "where"),
    }
)
"""Operations whose result is `source_columns` and what they make, of whatever columns of the input."""

WITHOUT_STEPS = {
    "rawsql": ("recipes hold no SQL", "Put it in steps; a formula does what one row needs."),
    "flatten": ("a source's tables have columns already", "Leave it out and read the source's table."),
}
"""Operations that no step can do: why, and what instead."""

NOT_NEEDED = {
    "scaffold": "it makes a dbt project; there is none here",
    "syncsources": "it lists tables for dbt; a source's tables are known here",
}
"""Operations that make no model."""
