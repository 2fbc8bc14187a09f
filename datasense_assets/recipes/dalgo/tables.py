"""How Dalgo's operations that make other rows become steps: groups, pivots, joins and unions."""

from __future__ import annotations

from typing import Any

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.dalgo.steps import CannotMap, Config, Model, add_input, column_type
from datasense_assets.recipes.formula.names import bracketed

T = ColumnType

_FIGURES = {"count": "count", "countdistinct": "count_distinct", "sum": "sum", "avg": "avg", "min": "min", "max": "max"}
_JOINS = {"inner": "inner", "left": "left", "full outer": "full"}


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


def groupby(config: Config, model: Model) -> None:
    """Figures of each group."""
    groups = list(config.get("dimension_columns", config.get("source_columns", [])))
    figures = _figures(config)
    kinds = {figure["into"]: _figure_kind(figure, model) for figure in figures}
    model.add("aggregate", group_by=groups, aggregations=figures)
    model.columns = [*groups, *kinds]
    model.types = {n: k for n, k in {**model.types, **kinds}.items() if n in model.columns and k is not None}


def aggregate(config: Config, model: Model) -> None:
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


def join(config: Config, model: Model) -> None:
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


def unionall(config: Config, model: Model) -> None:
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


def pivot(config: Config, model: Model) -> None:
    """How many rows have each value."""
    groups = list(config.get("groupby_columns", config.get("source_columns", [])) or [])
    column, values = config.get("pivot_column_name"), config.get("pivot_column_values", [])
    if not column:
        raise CannotMap("pivot_column_name", "it is not given", "Name the column whose values become columns.")
    names = [model.literal(value, column, f"pivot_column_values[{i}]") for i, value in enumerate(values)]
    model.add("pivot", group_by=groups, names_from=column, names=names, fn="count")
    model.columns = [*groups, *(str(value) for value in values)]
    model.types = {n: k for n, k in model.types.items() if n in groups} | {str(v): T.INTEGER for v in values}


def unpivot(config: Config, model: Model) -> None:
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
