"""Which texts can be read as which type: regular expressions in PostgreSQL's dialect, and strptime formats.

A guard has to be complete: whatever it lets through is cast without a net, and one row in error fails the build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import ibis
import ibis.expr.types as ir

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.compiling.patterns import BadPattern
from datasense_assets.recipes.formula.conversions import END, NUMBER_TEXT, TOO_NEAR_MIDNIGHT
from datasense_assets.recipes.spaces import SPACE

INTEGER = r"^[+-]?[0-9]{1,18}$"
LONG_INTEGER = r"^[+-]?[0-9]{19,100}$"
NUMBER = f"^{NUMBER_TEXT}{END}$"
"""Of a text as `ended` leaves it."""
TRUE = ("true", "t", "yes", "y", "on", "1")
FALSE = ("false", "f", "no", "n", "off", "0")
# There is no year 0000. A look-ahead would say so in less, and doubles what reading a date costs.
_YEAR = r"([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
_DAY = (
    rf"{_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    r"|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"
_OFFSET = r"(Z| ?[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)"
DATE = rf"^({_DAY}|{_LEAP})$"
DATETIME = rf"^({_DAY}|{_LEAP})([T ]{_CLOCK}{_OFFSET}?)?$"
# Rounded to a millionth of a second, what is nearer to midnight would be 24 o'clock.
TIME = rf"^(?!{TOO_NEAR_MIDNIGHT}){_CLOCK}{_OFFSET}?$"

_JSON_DEPTH = 16
_GAP = r"[ \t\n\r]*"
_STRING = (
    r'"([^"\\\x01-\x1f]|\\["\\/bfnrt]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?!0000)(?![dD][89a-fA-F])[0-9a-fA-F]{4})*\""
)
_NUMBER = r"-?(0|[1-9][0-9]{0,200})(\.[0-9]{1,200})?([eE][+-]?[0-9]{1,3})?"


def is_json(text: ir.StringValue) -> ir.BooleanValue:
    """Whether the text is JSON nested at most 16 levels deep, told without an exception block.

    Strings become `s` and other scalars `v`; then the innermost lists and objects become `v`, level after level, until
    one `v` is left. (PostgreSQL has `IS JSON` from version 16 on only.)
    """
    reduced = text.re_replace(_STRING, "s").re_replace(rf"({_NUMBER}|true|false|null)(?![a-zA-Z0-9.+-])", "v")
    innermost = (
        rf"\[{_GAP}([sv]({_GAP},{_GAP}[sv])*)?{_GAP}\]"
        rf"|\{{{_GAP}(s{_GAP}:{_GAP}[sv]({_GAP},{_GAP}s{_GAP}:{_GAP}[sv])*)?{_GAP}\}}"
    )
    for _ in range(_JSON_DEPTH):
        reduced = reduced.re_replace(innermost, "v")
    # A text that has bare `s` or `v` of its own would pass for a reduced one.
    bare = text.re_replace(_STRING, "").re_replace("true|false|null", "").re_search("[sv]")
    return reduced.re_search(f"^{_GAP}[sv]{_GAP}$") & ~bare


_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DIRECTIVES = {
    "Y": r"[0-9]{4}",
    "y": r"[0-9]{2}",
    "m": r"1[0-2]|0?[1-9]",
    "d": r"3[01]|[12][0-9]|0?[1-9]",
    "H": r"2[0-3]|[01]?[0-9]",
    "I": r"1[0-2]|0?[1-9]",
    "M": r"[0-5]?[0-9]",
    "S": r"[0-5]?[0-9]",
    "f": r"[0-9]{1,6}",
    "p": r"am|pm",
    "z": r"z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9]",
    "b": "|".join(name[:3] for name in _MONTHS),
    "B": "|".join(_MONTHS),
}


@dataclass(frozen=True)
class DateFormat:
    """A strptime format: a pattern over lower-case text, and the group of each directive in it."""

    pattern: str
    groups: dict[str, int]

    @classmethod
    def parse(cls, text: str, to: ColumnType) -> DateFormat:
        """Reads `%Y %y %m %b %B %d %H %I %p %M %S %f %z %%` and the characters between.

        Raises:
            BadPattern: a directive is not among these, comes twice, or the format cannot make a value of type `to`.

        """
        groups: dict[str, int] = {}
        pattern: list[str] = []
        position = 0
        while position < len(text):
            character = text[position]
            position += 1
            if character != "%":
                pattern.append(f"{SPACE}+" if character.isspace() else re.escape(character.lower()))
                continue
            directive = text[position : position + 1]
            position += 1
            if directive == "%":
                pattern.append("%")
                continue
            if directive not in _DIRECTIVES or directive in groups:
                reason = "comes twice" if directive in groups else "is not known"
                known = " ".join(f"%{name}" for name in _DIRECTIVES)
                raise BadPattern(f"in the format {text!r}, '%{directive}' {reason}; there are {known}")
            groups[directive] = len(groups) + 1
            pattern.append(f"({_DIRECTIVES[directive]})")
        _check_makes(text, set(groups), to)
        return cls("^" + "".join(pattern) + "$", groups)

    @property
    def has_zone(self) -> bool:
        """Whether it reads a time zone."""
        return "z" in self.groups

    def iso(self, text: ir.StringValue, to: ColumnType) -> ir.StringValue:
        """The text rewritten as ISO 8601, null where it has not the format; the day may still not exist."""
        lower = text.lower()
        parts = {name: lower.re_extract(self.pattern, group) for name, group in self.groups.items()}
        day = _year(parts) + "-" + _month(parts) + "-" + _two(parts.get("d"), "01") if to is not ColumnType.TIME else ""
        if to is ColumnType.DATE:
            return day
        clock = _hour(parts) + ":" + _two(parts.get("M"), "00") + ":" + _two(parts.get("S"), "00")
        if "f" in parts:
            clock = clock + "." + parts["f"]
        if to is ColumnType.TIME:
            return clock
        whole = day + "T" + clock
        return whole + parts["z"].upper() if "z" in parts else whole


def _check_makes(text: str, names: set[str], to: ColumnType) -> None:
    missing = None
    if to is not ColumnType.TIME and not names & {"Y", "y"}:
        missing = "a year (%Y or %y)"
    elif to is ColumnType.TIME and not names & {"H", "I"}:
        missing = "an hour (%H or %I)"
    elif "I" in names and "p" not in names:
        missing = "%p beside %I"
    elif "d" in names and not names & {"m", "b", "B"}:
        missing = "a month (%m, %b or %B) beside %d"
    if missing:
        raise BadPattern(f"the format {text!r} needs {missing} to make a {to}")
    for pair in ({"Y", "y"}, {"m", "b"}, {"m", "B"}, {"b", "B"}, {"H", "I"}):
        if pair <= names:
            raise BadPattern(f"the format {text!r} has both {' and '.join('%' + name for name in sorted(pair))}")


def _two(part: ir.StringValue | None, default: str) -> ir.StringValue:
    return ibis.literal(default) if part is None else part.lpad(2, "0")


def _year(parts: dict[str, ir.StringValue]) -> ir.StringValue:
    if "Y" in parts:
        return parts["Y"]
    short = parts["y"]
    return ibis.ifelse(short >= "69", "19" + short, "20" + short)


def _month(parts: dict[str, ir.StringValue]) -> ir.StringValue:
    name = parts.get("b", parts.get("B"))
    if name is None:
        return _two(parts.get("m"), "01")
    numbered = [(name.substr(0, 3) == month[:3], f"{i + 1:02d}") for i, month in enumerate(_MONTHS)]
    return ibis.cases(*numbered)


def _hour(parts: dict[str, ir.StringValue]) -> ir.StringValue:
    if "I" not in parts:
        return _two(parts.get("H"), "00")
    hour = _two(parts["I"], "")
    afternoon = [(hour == f"{h:02d}", f"{h % 12 + 12:02d}") for h in range(1, 13)]
    return cast(
        ir.StringValue,
        ibis.ifelse(parts["p"] == "pm", ibis.cases(*afternoon), ibis.ifelse(hour == "12", "00", hour)),
    )
