"""What a function takes and gives, read from its signature as users see it: `left(text: text, count: integer) -> text`.

A type is one of the eight types, several joined by `|`, or a word of GROUPS. Arguments of one group word are brought to
one type together, and `-> <the word>` gives that type. `{day, week}` is a choice of constants, `= x` makes an argument
optional, `...` after the last argument lets it repeat, and `, ...` lets the two arguments before it repeat in turn, an
odd one at the end being of the second kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula.kinds import COMPARABLE, NUMERIC, ORDERED

GROUPS: dict[str, frozenset[ColumnType]] = {
    "numeric": NUMERIC,
    "ordered": frozenset(ORDERED),
    "comparable": frozenset(COMPARABLE),
    "moment": frozenset({ColumnType.DATE, ColumnType.DATETIME}),
    "any": frozenset(ColumnType),
}
EACH = "each"
"""A group word for arguments of any type that need not be of one type."""


class ArgumentError(ValueError):
    """What `build` raises for arguments that are of the right types and cannot go together; `index` says which."""

    def __init__(self, index: int, message: str) -> None:
        """Keep the place of the argument, counting from 0."""
        super().__init__(message)
        self.index = index


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: the types it may have, or the constants to choose from."""

    name: str
    kinds: frozenset[ColumnType]
    group: str | None
    choices: tuple[str, ...]
    optional: bool
    default: str | int | None
    repeats: bool


@dataclass(frozen=True, slots=True)
class Example:
    """A formula without columns and what it gives, as `text(...)` writes it (None: null). Tests run every one."""

    formula: str
    result: str | None


@dataclass(frozen=True, slots=True)
class Function:
    """A row of the function table. `build` makes the Ibis value from arguments in their declared types.

    A choice comes to `build` as a str, an optional argument that was left out as its default, a plain int or None.
    """

    name: str
    signature: str
    section: str
    meaning: str
    examples: tuple[Example, ...]
    build: Callable[..., ir.Value]
    parameters: tuple[Parameter, ...]
    result: ColumnType | str
    in_turn: bool
    aliases: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        """How many arguments it needs."""
        return sum(not parameter.optional for parameter in self.parameters)

    @property
    def most(self) -> int | None:
        """How many arguments it takes; None where the last repeats."""
        repeats = self.in_turn or any(parameter.repeats for parameter in self.parameters)
        return None if repeats else len(self.parameters)

    def parameter(self, index: int, count: int) -> Parameter:
        """The parameter of the argument at `index` of `count`."""
        if self.in_turn:
            return self.parameters[0 if index % 2 == 0 and index != count - 1 else 1]
        return self.parameters[min(index, len(self.parameters) - 1)]


_SIGNATURE = re.compile(r"(?P<name>\w+)\((?P<parameters>.*)\) -> (?P<result>\w+)")
_PARAMETER = re.compile(
    r"(?P<name>\w+): (?:\{(?P<choices>[^}]+)\}|(?P<kinds>[\w|]+))(?P<repeats>\.\.\.)?(?: = (?P<default>'?\w+'?))?"
)


def function(
    signature: str,
    meaning: str,
    *examples: tuple[str, str | None],
    build: Callable[..., ir.Value],
    section: str,
    aliases: tuple[str, ...] = (),
) -> Function:
    """A row of the table from its signature; raises ValueError where the signature cannot be read."""
    whole = _SIGNATURE.fullmatch(signature)
    if whole is None:
        raise ValueError(f"Not a signature: {signature}")
    in_turn = whole["parameters"].endswith(", ...")
    listed = whole["parameters"].removesuffix(", ...")
    written = re.split(r", (?=\w+: )", listed) if listed else []
    return Function(
        name=whole["name"],
        signature=signature,
        section=section,
        meaning=meaning,
        examples=tuple(Example(text, result) for text, result in examples),
        build=build,
        parameters=tuple(_parameter(text) for text in written),
        result=whole["result"] if whole["result"] in GROUPS else ColumnType(whole["result"]),
        in_turn=in_turn,
        aliases=aliases,
    )


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise ValueError(f"Not a parameter: {text}")
    kinds: frozenset[ColumnType] = frozenset()
    group = None
    if match["kinds"] == EACH:
        kinds = frozenset(ColumnType)
    elif match["kinds"] in GROUPS:
        group, kinds = match["kinds"], GROUPS[match["kinds"]]
    elif match["kinds"]:
        kinds = frozenset(ColumnType(kind) for kind in match["kinds"].split("|"))
    given = match["default"]
    return Parameter(
        name=match["name"],
        kinds=kinds,
        group=group,
        choices=tuple(re.split(r", ", match["choices"])) if match["choices"] else (),
        optional=given is not None,
        default=_constant(given),
        repeats=match["repeats"] is not None,
    )


def _constant(written: str | None) -> str | int | None:
    if written is None or written == "null":
        return None
    return int(written) if written.isdigit() else written.strip("'")
