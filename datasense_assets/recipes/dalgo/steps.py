"""The table of a Dalgo model as it stands between two operations, and the recipe steps that have made it so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasense_assets.catalog.models import ColumnType, Problem
from datasense_assets.recipes.formula.names import bracketed

T = ColumnType
Step = dict[str, Any]
Config = Mapping[str, Any]
"""What an operation of Dalgo's says."""

_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)")
_PG_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(("text", "varchar", "character varying", "char", "character", "string"), T.TEXT),
    **dict.fromkeys(("int", "integer", "bigint", "smallint", "int2", "int4", "int8", "int64"), T.INTEGER),
    **dict.fromkeys(
        ("numeric", "decimal", "float", "float4", "float8", "float64", "real", "double precision"), T.NUMBER
    ),
    **dict.fromkeys(("bool", "boolean"), T.BOOLEAN),
    "date": T.DATE,
    **dict.fromkeys(
        ("timestamp", "timestamptz", "timestamp with time zone", "timestamp without time zone", "datetime"), T.DATETIME
    ),
    **dict.fromkeys(("time", "time without time zone"), T.TIME),
    **dict.fromkeys(("json", "jsonb"), T.JSON),
}


class CannotMap(Exception):
    """An operation that has no recipe step; `path` within the operation's config, `reason` and `fix` for people."""

    def __init__(self, path: str, reason: str, fix: str) -> None:
        """Keep the parts."""
        super().__init__(reason)
        self.path, self.reason, self.fix = path, reason, fix


@dataclass
class Model:
    """One model in the making. `columns` None: nobody knows which there are; `types` holds what is known of them."""

    steps: list[Step] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    columns: list[str] | None = None
    types: dict[str, ColumnType] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)
    path: str = ""
    new: list[str] = field(default_factory=list)

    def add(self, op: str, **fields: Any) -> None:
        """Adds a step."""
        self.steps.append({"op": op, **fields})

    def note(self, path: str, message: str) -> None:
        """Says what may come out otherwise than in Dalgo."""
        self.notes.append(Problem(path=f"{self.path}.{path}", message=message))

    def keep(self, columns: Any) -> None:
        """Only these columns go on; nothing is done where they are all, or `*`."""
        if not isinstance(columns, list) or not columns or columns == self.columns:
            return
        if self.columns is None or set(columns) != set(self.columns):
            self.add("select", columns=[str(name) for name in columns])
        self.columns = [str(name) for name in columns]

    def made(self, name: str, kind: ColumnType | None = None) -> None:
        """There is a column of that name now."""
        if self.columns is not None and name not in self.columns:
            self.columns.append(name)
        self.new.append(name)
        self.types.pop(name, None)
        if kind is not None:
            self.types[name] = kind

    def gone(self, names: Iterable[str]) -> None:
        """These columns are no more."""
        left = set(names)
        if self.columns is not None:
            self.columns = [name for name in self.columns if name not in left]
        for name in left:
            self.types.pop(name, None)

    def literal(self, value: Any, column: str | None, path: str) -> Any:
        """A constant as a value of the column's type: Dalgo writes each as text, and PostgreSQL reads it."""
        kind = self.types.get(column) if column is not None else None
        text = str(value)
        if text.strip().lower() == "none" or value is None:
            return None
        if kind is None and column is not None:
            self.note(path, f"the type of {column!r} is not known here; {value!r} is taken as {_guess(value)}.")
            return number(text) if _guess(value) == "a number" else value if isinstance(value, bool) else text
        if kind in (T.INTEGER, T.NUMBER):
            if not _NUMBER.fullmatch(text.strip()):
                raise CannotMap(path, f"{value!r} is no number, and {column!r} is one", "Write a number.")
            return number(text)
        if kind is T.BOOLEAN:
            return text.strip().lower() in ("true", "t", "yes", "y", "on", "1")
        return text

    def operand(self, given: Mapping[str, Any], path: str) -> str:
        """A column or number in a formula."""
        if given.get("is_col"):
            return bracketed(str(given["value"]))
        text = str(given["value"]).strip()
        if not _NUMBER.fullmatch(text):
            raise CannotMap(path, f"{given['value']!r} is no number", "Write a number or a column.")
        return text


def _guess(value: Any) -> str:
    return "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else "text"


def number(text: str) -> int | float:
    """The number that a text says."""
    return int(text) if re.fullmatch(r"-?\d+", text.strip()) else float(text)


def column_type(written: str, path: str) -> ColumnType:
    """The language's type for an SQL type.

    Raises:
        CannotMap: it has none.

    """
    plain = re.sub(r"\(.*?\)", "", written).strip().lower()
    kind = _PG_TYPES.get(" ".join(plain.split()))
    if kind is None:
        raise CannotMap(path, f"the type {written!r} is not one of a recipe", "Cast it to text, a number or a date.")
    return kind


def text_literal(text: str) -> str:
    """Text as a formula has it."""
    return "'" + text.replace("'", "''") + "'"


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
