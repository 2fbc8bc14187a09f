"""Random steps that are valid for a table: one maker an operation, from the columns and cells that there are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any

from datasense_assets_tests.recipes.chooser import Chooser
from datasense_assets_tests.recipes.random_tables import JSON_NULL, KINDS, ODD_NAMES, random_value
from datasense_assets_tests.recipes.reference_casts import CASTS
from datasense_assets_tests.recipes.reference_formulas import random_formula
from datasense_assets_tests.recipes.reference_tables import figure_kind
from datasense_assets_tests.recipes.relation import Relation, Undetermined, World

Step = dict[str, Any]
ORDERABLE = tuple(kind for kind in KINDS if kind != "json")
NUMERIC = ("integer", "number")


class Maker:
    """Makes steps over one table; what a table cannot serve raises Undetermined."""

    def __init__(
        self,
        choose: Chooser,
        table: Relation,
        world: World,
        function: str | None = None,
        operator: str | None = None,
    ) -> None:
        self.function = function
        self.operator = operator
        self.choose = choose
        self.table = table
        self.world = world

    def step(self, op: str) -> Step:
        step: Step = {"op": op, **getattr(self, op)()}
        return step

    # -- parts

    def columns(self, kinds: Sequence[str] = KINDS, table: Relation | None = None) -> list[str]:
        found = [name for name, kind in (table or self.table).columns if kind in kinds]
        if not found:
            raise Undetermined
        return found

    def column(self, *kinds: str) -> str:
        return self.choose.one(self.columns(kinds or KINDS))

    def several(self, kinds: Sequence[str] = KINDS, least: int = 1, most: int = 3) -> list[str]:
        return self.choose.some(self.columns(kinds), least, most)

    def new_name(self, *taken: str) -> str:
        """A name for a new column, of one that is there at times."""
        if self.choose.chance(20):
            free = [name for name in self.table.names if name not in taken]
            if free:
                return self.choose.one(free)
        return self.choose.one([name for name in ODD_NAMES if name not in (*self.table.names, *taken)])

    def optional(self, step: Step, percent: int = 40, **fields: Callable[[], Any]) -> Step:
        for name, make in fields.items():
            if self.choose.chance(percent):
                step[name] = make()
        return step

    def literal(self, kind: str, column: str | None = None) -> Any:
        """A literal of a type, of the column's own cells as often as not."""
        for _ in range(4):
            cells = [] if column is None else [cell for cell in self.table.values(column) if cell is not None]
            if cells and self.choose.chance(60):
                value = self.choose.one(cells)
            else:
                value = random_value(self.choose, kind, self.world.today)
            if (
                value is not None
                and value is not JSON_NULL
                and not (isinstance(value, float) and not math.isfinite(value))
            ):
                return written(value, self.choose)
        return written(
            {"text": "a", "integer": 1, "number": 0.5, "boolean": True}.get(kind, _PLAIN.get(kind)), self.choose
        )

    def order(self, most: int = 2, total: bool = False) -> list[str]:
        """Sort keys; by all columns that have an order where the order has to be total."""
        names = self.choose.some(self.columns(ORDERABLE), 1, most)
        if total:
            names += [name for name in self.columns(ORDERABLE) if name not in names]
        return [f"-{name}" if self.choose.chance(40) and f"-{name}" not in self.table.names else name for name in names]

    def condition(self, depth: int = 2) -> dict[str, Any]:
        if depth and self.choose.chance(40):
            joined = self.choose.one(("all", "any", "not"))
            if joined == "not":
                return {"not": self.condition(depth - 1)}
            return {joined: [self.condition(depth - 1) for _ in range(self.choose.between(0, 3))]}
        return self.comparison(self.choose.one(OPERATORS))

    def comparison(self, operator: str) -> dict[str, Any]:
        kinds: Sequence[str] = ORDERABLE
        if operator.startswith("is_"):
            return {"column": self.column(), "operator": operator}
        if operator in TEXT_OPERATORS:
            kinds = ("text",)
        elif operator == "in_last":
            kinds = ("date", "datetime")
        name = self.column(*kinds)
        kind = self.table.kind(name)
        item: dict[str, Any] = {"column": name, "operator": operator}
        match operator:
            case "in" | "not_in":
                item["value"] = [self.literal(kind, name) for _ in range(self.choose.between(0, 3))]
            case "between":
                item["value"] = [self.literal(kind, name), self.literal(kind, name)]
            case "matches":
                item["value"] = self.choose.one(PATTERNS)
            case "in_last":
                item["value"] = f"{self.choose.between(1, 14)} {self.choose.one(('days', 'weeks', 'month', 'months'))}"
            case "contains" | "not_contains" | "starts_with" | "ends_with":
                text = self.literal(kind, name)
                item["value"] = text[: self.choose.between(0, 3)] if self.choose.chance(50) else text[-2:]
            case _:
                item["value"] = self.literal(kind, name)
        if operator not in ("in", "not_in", "between", "matches", "in_last") and self.choose.chance(30):
            del item["value"]
            item["value_column"] = self.column(*(NUMERIC if kind in NUMERIC else (kind,)))
        if self.choose.chance(25):
            item["or_null"] = True
        return item

    # -- operations

    def select(self) -> Step:
        return {"columns": self.several(most=len(self.table.names))}

    def drop(self) -> Step:
        if len(self.table.names) < 2:
            raise Undetermined
        return {"columns": self.several(most=min(3, len(self.table.names) - 1))}

    def rename(self) -> Step:
        old = self.several()
        free = [name for name in ODD_NAMES if name not in self.table.names] + old
        return {"columns": dict(zip(old, self.choose.some(free, len(old), len(old)), strict=True))}

    def filter(self) -> Step:
        return {"where": self.comparison(self.operator) if self.operator else self.condition()}

    def cast(self) -> Step:
        items = []
        for name in self.several(most=2):
            kind = self.table.kind(name)
            item = {"column": name, "to": self.choose.one(CASTS[kind])}
            if kind == "text" and item["to"] in FORMATS and self.choose.chance(40):
                item["format"] = self.choose.one(FORMATS[item["to"]])
            items.append(item)
        return {"columns": items}

    def formula(self) -> Step:
        return {"column": self.new_name(), "formula": random_formula(self.choose, self.table, self.function).text}

    def replace_values(self) -> Step:
        match = self.choose.one(("whole", "substring", "regex"))
        step: Step = {"match": match}
        if match == "whole":
            step["column"] = name = self.column(*ORDERABLE)
            kind = self.table.kind(name)
            by_own = self.choose.chance(40)
            to = self.choose.one(("text", "integer", "number", "boolean")) if by_own else kind
            if to == "integer" and self.choose.chance(15):
                to = "number"
            if by_own:
                step["otherwise"] = None if self.choose.chance(30) else self.literal(to)
            step["mapping"] = [
                {"find": self.literal(kind, name), "replace": None if self.choose.chance(15) else self.literal(to)}
                for _ in range(self.choose.between(1, 3))
            ]
        else:
            step["column"] = self.column("text")
            finds = PATTERNS if match == "regex" else ("a", "b", " ", "%", "ज़", "", "aa", "\\")
            step["mapping"] = []
            for _ in range(self.choose.between(1, 2)):
                find = self.choose.one(finds)
                puts = ("", "x", "<>", "a b", "%s", "a\\b", *(bracketed(find) if match == "regex" else ()))
                step["mapping"].append({"find": find, "replace": self.choose.one(puts)})
            self.optional(step, 30, otherwise=lambda: self.choose.one((None, "other")))
        return self.optional(step, into=self.new_name)

    def coalesce(self) -> Step:
        kind = self.choose.one(KINDS)
        names = self.several(NUMERIC if kind in NUMERIC else (kind,))
        step = {"columns": names, "into": self.new_name()}
        if kind != "json":
            default = "number" if kind == "integer" and self.choose.chance(10) else self.table.kind(names[0])
            self.optional(step, default=lambda: self.literal(default))
        return self.optional(step, 20, keep_source=lambda: False)

    def case(self) -> Step:
        kind = self.choose.one(("text", "integer", "number", "boolean", "date", "json", "datetime"))
        own = kind in ("text", "integer", "number", "boolean")
        columns = [name for name, k in self.table.columns if k == kind]

        def branch(then: str, column: str) -> dict[str, Any]:
            if columns and (not own or self.choose.chance(50)):
                return {column: self.choose.one(columns)}
            if not own:
                raise Undetermined
            return {then: None if self.choose.chance(15) else self.literal(kind)}

        cases = [{"when": self.condition(1), **branch("then", "then_column")} for _ in range(self.choose.between(1, 2))]
        step: Step = {"cases": cases, "into": self.new_name()}
        if self.choose.chance(60):
            step |= branch("otherwise", "otherwise_column")
        return self.optional(step, 20, keep_source=lambda: False)

    def concat(self) -> Step:
        parts: list[dict[str, str]] = [
            {"column": self.column()} if self.choose.chance(70) else {"text": self.choose.one(("-", "", "%s", "é"))}
            for _ in range(self.choose.between(1, 4))
        ]
        step: Step = {"parts": parts, "into": self.new_name()}
        self.optional(step, separator=lambda: self.choose.one((" ", ", ", "%", "'")))
        return self.optional(step, 20, keep_source=lambda: False)

    def split_choices(self) -> Step:
        delimiter = self.choose.one((" ", ",", "-", ", "))
        choices = [choice for choice in ("a", "b", "x", "c", "नमस्ते", "ok", "y") if delimiter not in choice]
        step: Step = {"column": self.column("text"), "choices": self.choose.some(choices, 1, 3), "delimiter": delimiter}
        step["prefix"] = self.choose.one(("", "p_", "%s"))
        return self.optional(step, keep_source=lambda: False)

    def join(self) -> Step:
        step: Step = {"with": self.choose.one([a for a in self.world.inputs if a != self.world.start])}
        right = self.world.inputs[step["with"]]
        step["how"] = self.choose.one(("inner", "left", "right", "full", "semi", "anti"))
        keys = []
        for left in self.several(ORDERABLE, most=2):
            kind = self.table.kind(left)
            meets = self.columns(NUMERIC if kind in NUMERIC else (kind,), right)
            keys.append({"left": left, "right": self.choose.one(meets)})
        step["on"] = keys
        if step["how"] not in ("semi", "anti"):
            self.optional(step, 30, columns=lambda: self.choose.some(right.names, 0, 4))
            self.optional(step, 30, suffix=lambda: self.choose.one(("_r", " (2)", "%s")))
        return step

    def union(self) -> Step:
        others = [alias for alias, table in self.world.inputs.items() if alias != self.world.start and self.fits(table)]
        if not others:
            raise Undetermined
        step: Step = {"with": self.choose.some(others, 1, 2)}
        self.optional(step, 30, distinct=lambda: True)
        return self.optional(step, 40, source_column=lambda: self.choose.one(("came from", "%s source", "स्रोत")))

    def fits(self, other: Relation) -> bool:
        """Whether the columns of the same names are of types that go together."""
        pairs = [{kind, self.table.kind(name)} for name, kind in other.columns if name in self.table.names]
        return all(len(pair) == 1 or pair == set(NUMERIC) for pair in pairs)

    def aggregation(self, fn: str) -> Step:
        kinds = FIGURE_KINDS[fn]
        item: Step = {"fn": fn, "into": self.new_name()}
        if fn != "count" or self.choose.chance(50):
            item["column"] = self.column(*kinds)
        if fn in ("first", "last", "concat"):
            self.optional(item, 60, order_by=self.order)
        if fn == "concat":
            self.optional(item, 40, separator=lambda: self.choose.one(("; ", "%", "")))
        if fn == "percentile":
            self.optional(item, 80, percentile=lambda: self.choose.one((0, 25, 90.5, 100, 50.0)))
        return self.optional(item, 30, filter=lambda: self.condition(1))

    def aggregate(self) -> Step:
        by = self.several(ORDERABLE, 0, 2)
        items: list[Step] = []
        for _ in range(self.choose.between(0 if by else 1, 3)):
            item = self.aggregation(self.choose.one(tuple(FIGURE_KINDS)))
            if item["into"] not in (*by, *(i["into"] for i in items)):
                items.append(item)
        return {"group_by": by, "aggregations": items}

    def expand_list(self) -> Step:
        step: Step = {}
        if self.choose.chance(50):
            step |= {"column": self.column("text"), "delimiter": self.choose.one((" ", ",", "-", " , "))}
        else:
            names = self.choose.some(("a", "b", "c", "ज़िला", "a b"), 1, 3)
            step |= {"column": self.column("json", "text"), "fields": {n: self.choose.one(KINDS) for n in names}}
            self.optional(step, keep_source=lambda: True)
        self.optional(step, index_into=lambda: "number of %s")
        return self.optional(step, keep_empty=lambda: True)

    def date_part(self) -> Step:
        name = self.column("date", "datetime", "time")
        parts = {
            "date": DAY_PARTS,
            "datetime": (*DAY_PARTS, "hour", "minute"),
            "time": ("hour", "minute"),
        }[self.table.kind(name)]
        return self.optional({"column": name, "part": self.choose.one(parts)}, into=self.new_name)

    def window(self) -> Step:
        fn = self.choose.one(WINDOW_FUNCTIONS)
        step: Step = {"fn": fn, "into": self.new_name()}
        if fn in ("running_sum", "moving_avg", "sum", "avg", "percent_of_total"):
            step["column"] = self.column(*NUMERIC)
        elif fn in ("min", "max"):
            step["column"] = self.column(*ORDERABLE)
        elif fn in ("lag", "lead", "first", "last"):
            step["column"] = self.column()
        elif fn == "count":
            self.optional(step, 50, column=self.column)
        if fn in ("row_number", "ntile", "lag", "lead", "running_sum", "moving_avg", "first", "last"):
            step["order_by"] = self.order(total=not self.choose.chance(20))
        elif fn in ("rank", "dense_rank"):
            step["order_by"] = self.order()
        if fn in ("ntile", "moving_avg"):
            step["periods"] = self.choose.between(1, 4)
        elif fn in ("lag", "lead"):
            self.optional(step, periods=lambda: self.choose.between(1, 3))
        return self.optional(step, 60, partition_by=lambda: self.several(ORDERABLE, 0, 2))

    def deduplicate(self) -> Step:
        step: Step = {"keys": self.several(ORDERABLE, 1, 2)}
        self.optional(step, 60, order_by=self.order)
        return self.optional(step, 40, keep=lambda: self.choose.one(("last", "first")))

    def clean_text(self) -> Step:
        return {"columns": self.several(("text",)), "actions": self.choose.some(ACTIONS, 1, 3)}

    def fill_missing(self) -> Step:
        method = self.choose.one(("value", "down", "up"))
        if method == "value":
            kind = self.choose.one(ORDERABLE)
            names = self.several((kind,))
            value = self.literal("number" if kind == "integer" and self.choose.chance(20) else kind)
            return {"columns": names, "method": method, "value": value}
        return {"columns": self.several(), "method": method, "order_by": self.order(total=True)}

    def pivot(self) -> Step:
        by, key = self.several(ORDERABLE, 0, 2), self.column("text", "integer", "boolean", "date", "number")
        kind = self.table.kind(key)
        names: list[Any] = []
        for _ in range(self.choose.between(1, 3)):
            value = self.literal(kind, key)
            if repr(value) not in map(repr, names) and str(value) not in map(str, names):
                names.append(value)
        fn = self.choose.one(tuple(FIGURE_KINDS))
        step: Step = {
            "group_by": by,
            "names_from": key,
            "names": names,
            "fn": fn,
            "prefix": self.choose.one(("p_", "% ")),
        }
        if fn != "count" or self.choose.chance(50):
            step["values_from"] = self.column(*FIGURE_KINDS[fn])
        cell = figure_kind(fn, self.table.kind(step["values_from"]) if "values_from" in step else None)
        if cell == "json":
            return step
        if cell == "integer" and self.choose.chance(15):
            cell = "number"
        return self.optional(step, 50, fill=lambda: self.literal(cell))

    def unpivot(self) -> Step:
        kind = self.choose.one(KINDS)
        names = self.several(NUMERIC if kind in NUMERIC else (kind,))
        step: Step = {"columns": names, "names_to": "names %s", "values_to": "values 'x'"}
        return self.optional(step, drop_missing=lambda: True)

    def extract(self) -> Step:
        step: Step = {"column": self.column("text"), "pattern": self.choose.one(PATTERNS)}
        brackets = kept_brackets(step["pattern"])
        if step["pattern"] in INSIDE_LOOK_AHEAD:
            step["group"] = self.choose.one((0, *brackets))
        else:
            self.optional(step, 30, group=lambda: self.choose.one((0, *brackets)))
        self.optional(step, into=self.new_name)
        return self.optional(step, 20, keep_source=lambda: False)

    def split_column(self) -> Step:
        into: list[str] = []
        for _ in range(self.choose.between(1, 3)):
            into.append(self.new_name(*into))
        step: Step = {"column": self.column("text"), "delimiter": self.choose.one((",", " ", "-", "  ")), "into": into}
        return self.optional(step, 30, keep_source=lambda: False)

    def geopoint(self) -> Step:
        step: Step = {"column": self.column("text"), "prefix": self.choose.one(("", "gps ", "%s_"))}
        return self.optional(step, 30, keep_source=lambda: False)

    def label_values(self) -> Step:
        alias = self.choose.one(tuple(self.world.labels))
        labelled = self.choose.one(tuple(self.world.labels[alias]))
        return self.optional(
            {"column": self.column("text", "integer"), "source": f"{alias}.{labelled}"}, into=self.new_name
        )

    def bin(self) -> Step:
        step: Step = {"column": self.column(*NUMERIC), "into": self.new_name()}
        if self.choose.chance(50):
            return step | {"width": self.choose.one((1, 2, 0.5, 5, 10, 2.5, 0.1))}
        step["edges"] = edges = self.choose.one(([0, 1, 5], [-1.5, 0, 2.25, 1000], [0, 10], [-3, -1, 0, 1, 2]))
        return self.optional(step, labels=lambda: [f"bin % {i}" for i in range(len(edges) - 1)])

    def mask(self) -> Step:
        return {"columns": self.several(), "method": self.choose.one(("blank", "hash", "partial"))}

    def expand_json(self) -> Step:
        names = self.choose.some(("a", "b", "c", "ज़िला", "a b"), 1, 3)
        step: Step = {"column": self.column("json", "text"), "fields": {n: self.choose.one(KINDS) for n in names}}
        self.optional(step, prefix=lambda: self.choose.one(("f_", "% ")))
        return self.optional(step, keep_source=lambda: True)

    def sort(self) -> Step:
        return {"by": self.order(total=not self.choose.chance(15))}

    def limit(self) -> Step:
        return {"rows": self.choose.between(0, 8)}


_PLAIN: dict[str, Any] = {"date": date(2026, 1, 31), "datetime": datetime(2026, 1, 31, 9, 30), "time": time(9, 30)}


def written(value: Any, choose: Chooser) -> Any:
    """A value as a literal of JSON."""
    if isinstance(value, datetime):
        if value.tzinfo is None or value.year < 1000 or choose.chance(50):
            return value.isoformat()
        return value.replace(tzinfo=None).isoformat(sep=choose.one("T "))
    if isinstance(value, (date, time)):
        return value.isoformat()
    return float(value) if not isinstance(value, (str, int, float, bool)) else value


OPERATORS = (
    *("=", "!=", ">", ">=", "<", "<=", "in", "not_in", "between", "contains", "not_contains", "starts_with"),
    *("ends_with", "matches", "is_null", "is_not_null", "is_empty", "is_not_empty", "in_last"),
)
TEXT_OPERATORS = frozenset({"contains", "not_contains", "starts_with", "ends_with", "matches"})
PATTERNS = (
    "a",
    "[0-9]+",
    "^a|b$",
    r"(\d+)-(\d+)",
    r"([a-z])\1",
    r"\bb\b",
    r"\w+",
    r"\bज़?",
    r"\B-?\B",
    r"(\w|-)\b",
    "(?i)A",
    r"a(?=b)",
    r"\s",
    r"\d",
    "[^a-z]",
    "ज़?",
    "(x|y)( |z)",
    r"\.",
    "^$",
    "%",
    "a{1,2}",
    "[[:]",
    "(?:x|y)( )?z",
    r"(?=([a-z]|-))(\w)",
    r"(?![b(])(?=(a|b))([a-z])\2?",
)
"""Patterns that mean the same to Python and to PostgreSQL's leftmost-longest rule on the texts there are."""
INSIDE_LOOK_AHEAD = {r"(?=([a-z]|-))(\w)": (2,), r"(?![b(])(?=(a|b))([a-z])\2?": (2,)}
"""Patterns with brackets inside look-ahead, of which PostgreSQL keeps nothing, and the brackets that it keeps."""


def kept_brackets(pattern: str) -> tuple[int, ...]:
    brackets = re.findall(r"(?<!\\)\((?!\?)", pattern)
    return INSIDE_LOOK_AHEAD.get(pattern, tuple(range(1, len(brackets) + 1)))


def bracketed(find: str) -> list[str]:
    """What may be put in place of a match that names the pattern's brackets."""
    return ["<\\0>", *(f"\\{number}-" for number in kept_brackets(find))]


FORMATS = {
    "date": ("%d/%m/%Y", "%d %b %Y", "%Y%m%d", "%Y-%m-%d", "%m-%y"),
    "datetime": ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%d/%m/%Y"),
    "time": ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p"),
}
DAY_PARTS = (
    *("year", "quarter", "month", "week", "day", "weekday"),
    *("trunc_year", "trunc_quarter", "trunc_month", "trunc_week", "trunc_day"),
)
FIGURE_KINDS: dict[str, tuple[str, ...]] = {
    "count": KINDS,
    "count_distinct": ORDERABLE,
    "sum": NUMERIC,
    "avg": NUMERIC,
    "min": ORDERABLE,
    "max": ORDERABLE,
    "median": NUMERIC,
    "mode": ORDERABLE,
    "first": KINDS,
    "last": KINDS,
    "concat": KINDS,
    "any": ("boolean",),
    "all": ("boolean",),
    "stddev": NUMERIC,
    "percentile": NUMERIC,
}
WINDOW_FUNCTIONS = (
    *("row_number", "rank", "dense_rank", "ntile", "lag", "lead", "running_sum", "moving_avg", "sum", "avg", "min"),
    *("max", "count", "first", "last", "percent_of_total"),
)
ACTIONS = (
    *("trim", "collapse_spaces", "lower", "upper", "title", "remove_accents", "remove_digits", "remove_punctuation"),
)
