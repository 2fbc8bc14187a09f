"""Calling a function of the table: its name, how many arguments, and their types, brought to what the row declares."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.formula.errors import nearest
from datasense_assets.recipes.formula.functions import BY_NAME
from datasense_assets.recipes.formula.kinds import NULL, Typed, unify
from datasense_assets.recipes.formula.signatures import ArgumentError, Function, Parameter
from datasense_assets.recipes.formula.syntax import Call, Node, Text
from datasense_assets.recipes.formula.wording import NOUNS, conversion_hint, listed

FOREIGN_FUNCTIONS: dict[str, tuple[str, str]] = {
    "sum": ("+", "To add within a row, write a + b; over rows, use an aggregate step."),
    "average": ("/", "To average within a row, write (a + b) / 2; over rows, use an aggregate step."),
    "avg": ("/", "To average within a row, write (a + b) / 2; over rows, use an aggregate step."),
    "count": ("aggregate", "To count rows, use an aggregate step."),
    "countif": ("aggregate", "To count rows, use an aggregate step with a filter."),
    "sumif": ("aggregate", "To add over rows, use an aggregate step with a filter."),
    "vlookup": ("join", "To look up in another table, use a join step."),
    "xlookup": ("join", "To look up in another table, use a join step."),
    "ifs": ("case", "Write case(c1, v1, c2, v2, default)."),
    "iif": ("if", "Write if(condition, a, b)."),
    "switch": ("case", "Write case(x = 1, a, x = 2, b, default)."),
    "iferror": ("coalesce", "What cannot be worked out is null: write coalesce(value, instead)."),
    "concatenate": ("concat", "Write concat(a, b)."),
    "textjoin": ("concat", "Write concat(a, ', ', b)."),
    "datedif": ("date_diff", "Write date_diff(start, end, 'day')."),
    "days": ("date_diff", "Write date_diff(start, end, 'day')."),
    "edate": ("date_add", "Write date_add(date, 1, 'month')."),
    "value": ("number", "Write number(text)."),
    "cast": ("text", "Write text(x), number(x), integer(x), date(x) ..."),
    "search": ("find", "Write find(text, part)."),
    "like": ("contains", "Write contains(text, part)."),
    "in": ("one_of", "Write one_of(x, 'a', 'b')."),
    "regexp_extract": ("extract", "Use an extract step."),
}
"""Names from spreadsheets and SQL: what to use here, and how it is written."""

KIND_NAMES = frozenset(kind.value for kind in ColumnType)

Problem = tuple[Node, str, str, str | None]


@dataclass
class ArgumentProblem(Exception):
    """Why a call cannot be compiled: (place, code, message, suggestion) each."""

    problems: list[Problem] = field(default_factory=list)


def find_function(name: str) -> Function | None:
    """The row of that name or alias, in any case."""
    return BY_NAME.get(name.lower())


def called(
    row: Function | None,
    node: Call,
    arguments: Sequence[Typed | None],
    shown: Sequence[str],
    columns: Collection[str],
) -> Typed | None:
    """The value of the call; None where an argument is. Raises ArgumentProblem."""
    if row is None:
        raise ArgumentProblem([_unknown(node, columns)])
    count = len(arguments)
    if count < row.fewest or (row.most is not None and count > row.most):
        raise ArgumentProblem([_miscounted(row, node)])
    problems: list[Problem] = []
    parameters = [row.parameter(index, count) for index in range(count)]
    for parameter, argument, written, place in zip(parameters, arguments, shown, node.arguments, strict=True):
        problem = _judge(row, parameter, argument, written, place)
        if problem:
            problems.append(problem)
    if problems:
        raise ArgumentProblem(problems)
    present = [argument for argument in arguments if argument is not None]
    if len(present) < count:
        return None
    together = _unified(row, node, parameters, present, shown)
    return _built(row, node, parameters, present, together)


def _built(
    row: Function, node: Call, parameters: Sequence[Parameter], arguments: Sequence[Typed], together: ColumnType | None
) -> Typed:
    if isinstance(row.result, str) and row.result not in KIND_NAMES and together is None:
        return NULL
    values: list[object] = []
    for parameter, argument, place in zip(parameters, arguments, node.arguments, strict=True):
        if parameter.choices:
            values.append(_choice(place))
        elif parameter.group:
            values.append(argument.to(together or _first(parameter)))
        elif argument.kind in parameter.kinds:
            values.append(argument.settled())
        else:
            values.append(argument.to(_first(parameter)))
    values += [
        parameter.default for parameter in row.parameters[len(values) :] if parameter.optional and not parameter.repeats
    ]
    result = ColumnType(row.result) if row.result in KIND_NAMES else together
    try:
        return Typed(result, row.build(*values))
    except ArgumentError as problem:
        place = node.arguments[problem.index] if problem.index < len(node.arguments) else node
        raise ArgumentProblem([(place, "invalid_value", str(problem), None)]) from None


def _first(parameter: Parameter) -> ColumnType:
    """The type for a null or an integer where several, or only numbers, are taken."""
    return (
        ColumnType.NUMBER
        if ColumnType.NUMBER in parameter.kinds
        else next(k for k in ColumnType if k in parameter.kinds)
    )


def _judge(row: Function, parameter: Parameter, argument: Typed | None, shown: str, place: Node) -> Problem | None:
    """What is wrong with one argument by itself."""
    if parameter.choices:
        if isinstance(place, Text) and _choice(place) in parameter.choices:
            return None
        options = ", ".join(f"'{choice}'" for choice in parameter.choices)
        near = nearest(place.value, parameter.choices) if isinstance(place, Text) else None
        suggestion = None if near is None else f"'{near}'"
        return place, "invalid_value", f"The {parameter.name} of {row.name} is one of {options}, in quotes.", suggestion
    if argument is None or argument.kind is None or argument.kind in parameter.kinds:
        return None
    if argument.kind == ColumnType.INTEGER and ColumnType.NUMBER in parameter.kinds:
        return None
    hint, suggestion = conversion_hint(shown, argument.kind, parameter.kinds)
    if argument.kind == ColumnType.NUMBER and ColumnType.INTEGER in parameter.kinds:
        suggestion = f"trunc({shown})"
        hint = f"Write {suggestion}."
    role = "" if parameter.name in parameter.kinds else f" as its {parameter.name}"
    message = f"{row.name} takes {listed(parameter.kinds)}{role}, but {shown} is {NOUNS[argument.kind]}. {hint}"
    return place, "type_mismatch", message.strip(), suggestion


def _unified(
    row: Function, node: Call, parameters: Sequence[Parameter], arguments: Sequence[Typed], shown: Sequence[str]
) -> ColumnType | None:
    """The type of the arguments that go together; None where there are none or all are null."""
    together: ColumnType | None = None
    first = ""
    for parameter, argument, written, place in zip(parameters, arguments, shown, node.arguments, strict=True):
        if not parameter.group or argument.kind is None:
            continue
        try:
            together = unify((together, argument.kind))
        except ValueError:
            assert together is not None  # noqa: S101 - one null never fails to unify
            hint, suggestion = conversion_hint(written, argument.kind, {together})
            if not hint:
                hint, suggestion = conversion_hint(first, together, {argument.kind})
            message = (
                f"The values of {row.name} must be of one type: {first} is {NOUNS[together]}, "
                f"but {written} is {NOUNS[argument.kind]}. {hint}"
            )
            raise ArgumentProblem([(place, "type_mismatch", message.strip(), suggestion)]) from None
        first = first or written
    return together


def _choice(place: Node) -> str:
    """A unit as the table has it: small letters, without a plural's s."""
    assert isinstance(place, Text)  # noqa: S101 - judged before
    written = place.value.strip().lower()
    return written[:-1] if written.endswith("s") else written


def _unknown(node: Call, columns: Collection[str]) -> Problem:
    name = Node(node.position, len(node.name), 1)
    short = node.name if len(node.name) <= 40 else f"{node.name[:37]}..."
    foreign = FOREIGN_FUNCTIONS.get(node.name.lower())
    if foreign:
        return name, "unknown_function", f"There is no function {short}. {foreign[1]}", foreign[0]
    if node.name in columns:
        return (
            name,
            "unknown_function",
            f"{short} is a column, not a function. To multiply, write {short} * (...).",
            None,
        )
    suggestion = nearest(node.name, list(BY_NAME))
    message = f"There is no function {short}."
    if suggestion:
        message += f" Did you mean {BY_NAME[suggestion].signature}?"
    return name, "unknown_function", message, suggestion


def _miscounted(row: Function, node: Call) -> Problem:
    count = len(node.arguments)
    if row.most is None:
        wanted = f"at least {row.fewest}"
    elif row.fewest == row.most:
        wanted = str(row.most)
    else:
        wanted = f"{row.fewest} to {row.most}"
    plural = "" if wanted in {"1", "at least 1"} else "s"
    return node, "wrong_arguments", f"{row.name} takes {wanted} argument{plural}, not {count}: {row.signature}", None
