"""Types of columns: a vote over every value of a load, and how a type may widen between loads (never narrow).

Values come as text. A type is taken only when each value keeps its meaning in it: `007` and `+91...` stay text, an
integer of 17 digits is never made a float, a date in an ambiguous order stays text. Casting is in `casting`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from datasense_assets.catalog.models import ColumnType as T

MISSING = ("", "n/a", "N/A", "na", "NA", "#N/A", "n.a.", "null", "NULL", "None", "none", "nan", "NaN", "-", "--")
TRUE_WORDS = ("true", "True", "TRUE", "yes", "Yes", "YES", "1")
FALSE_WORDS = ("false", "False", "FALSE", "no", "No", "NO", "0")
DATETIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?$"
)
AWARE_PATTERN = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"

_PATTERNS = {
    T.INTEGER: r"^(?:0|-?[1-9][0-9]{0,18})$",
    # an integer of more than 15 digits has no exact double; an exponent without a sign may be a code (12E4)
    T.NUMBER: r"^(?:-?(?:0|[1-9][0-9]{0,14})|-?(?:0|[1-9][0-9]{0,14})?\.[0-9]{1,20}(?:[eE][-+][0-9]{1,2})?"
    r"|-?[1-9][eE][-+][0-9]{1,2})$",
    T.BOOLEAN: r"^(?:true|True|TRUE|false|False|FALSE)$",
    T.DATE: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    T.DATETIME: DATETIME_PATTERN,
    T.TIME: r"^[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$",
}
_DECLARED_PATTERNS = {
    T.INTEGER: r"^[+-]?[0-9]{1,19}$",
    T.NUMBER: r"^[+-]?(?:[0-9]{1,15}|[0-9]{0,15}\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,2})?$",
    T.BOOLEAN: "^(?:" + "|".join(TRUE_WORDS + FALSE_WORDS) + ")$",
}
_TRIAL_TYPES = {T.INTEGER: pa.int64(), T.DATE: pa.date32()}
_LOOKS_LIKE_DATE = r"^[0-9]{1,4}[-/. ](?:[0-9]{1,2}|[A-Za-z]{3,9})[-/., ]+[0-9]{1,4}(?:[T ,].*)?$"
_LOOKS_LIKE_CODE = r"^[+]?[0-9]+$"
# a decimal comma, or thousands apart: 1.234,56 · 1,234.56 · 12 500 · 0,5; written so, 1,234 is two different numbers
_LOOKS_LIKE_SEPARATED = r"^[-+]?(?:[0-9]{1,3}(?:[.,' \x{a0}\x{202f}][0-9]{2,3})+|[0-9]*)(?:[.,][0-9]+)?$"
# the same with a sign of what is counted: 25% · ₹5 · $1,200 · Rs. 500 · 1 200,50 EUR · 500/- · ($3)
_MARK = (
    r"(?:%|[A-Z]{0,3}\p{Sc}|Rs\.?|INR|USD|EUR|GBP|NPR|BDT|PKR|LKR|AFN|KES|UGX|TZS|RWF|ETB|NGN|GHS|ZMW|MWK|ZAR|PHP|IDR)"
)
_MARKED_NUMBER = r"[.,]?[0-9][0-9.,' \x{a0}\x{202f}]*"
_LOOKS_LIKE_MARKED = rf"^[-+(]?\s*(?:{_MARK}\s*)?[-+]?{_MARKED_NUMBER}(?:\s*(?:{_MARK}|/-))?\)?$"
_LOOKS_LIKE_NUMBER = r"^[-+]?[0-9]*[.]?[0-9]+$"
_PLAIN_NUMBER = r"^-?(?:(?:0|[1-9][0-9]{0,14})|(?:0|[1-9][0-9]{0,14})?\.[0-9]{1,20})$"
_WIDEST_EXACT = 10**15 - 1
_NUMERIC = frozenset({T.INTEGER, T.NUMBER})
_QUICK = frozenset({T.INTEGER, T.NUMBER, T.DATE})
_ORDER = (T.INTEGER, T.NUMBER, T.BOOLEAN, T.DATE, T.DATETIME, T.TIME)


def _all_match(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def time_of_day(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """`HH:MM[:SS[.ffffff]]` as time64[us]; Arrow casts text to timestamps, but not to times.

    Raises:
        pyarrow.ArrowInvalid: a value is no time of a day.
    """
    return pc.binary_join_element_wise("1970-01-01", values, " ").cast(pa.timestamp("us")).cast(pa.time64("us"))


def _same(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The values in that type, if each is written just as the type writes it itself."""
    try:
        found = values.cast(kind)
    except pa.ArrowInvalid:
        return None
    return found if found.cast(pa.string()).equals(values) else None


def _fits_json(values: pa.Array) -> bool:
    try:
        for value in values.to_pylist():
            json.loads(value, parse_constant=_refuse_constant)
    except ValueError:
        return False
    return not bool(pc.any(pc.match_substring(values, "\\u0000")).as_py())


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _fits(values: pa.Array, kind: T, pattern: str) -> bool:
    """Whether each of the trimmed values is of that type; a date must exist (no 30 February)."""
    if not _all_match(values, pattern):
        return False
    try:
        if kind in _TRIAL_TYPES:
            text = pc.utf8_ltrim(values, characters="+") if kind is T.INTEGER else values
            text.cast(_TRIAL_TYPES[kind])
        elif kind is T.TIME:
            time_of_day(values)
        elif kind is T.DATETIME:
            pc.replace_substring_regex(values, AWARE_PATTERN, "").cast(pa.timestamp("us"))
            aware = values.filter(pc.match_substring_regex(values, AWARE_PATTERN))
            aware.cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid:
        return False
    return True


@dataclass(frozen=True)
class Decision:
    """The type a column takes, and sentences for the user (without the column's name).

    `lasts`: they say why it is text, which holds until the values are others, and not only of this load.
    """

    type: T
    notes: tuple[str, ...] = ()
    lasts: bool = False


@dataclass
class Vote:
    """Counts of one column over a whole load; feed every page to `add`, then ask `decide` or `widen`.

    `declared` is what the form (or the user) says: it comes first, and reads `007` or `yes` where that is its own
    way to write a number or a boolean. A value that does not fit it makes the column text; nothing is lost.
    `plain`: no value is missing in words, has space around it, or begins with a plus sign.
    """

    declared: T | None = None
    has_value: bool = False
    missing: int = 0
    plain: bool = True
    example: str | None = None
    _alive: set[T] = field(default_factory=set)
    _date_like: bool = True
    _code_like: bool = True
    _number_like: bool = True
    _separated_like: bool = True
    _marked_like: bool = True
    _differ: bool = False

    def __post_init__(self) -> None:
        """All types are possible until a value says no."""
        self._alive = set() if self.declared is T.TEXT else set(_ORDER)
        if self.declared is T.JSON:
            self._alive = {T.JSON}

    def add(self, values: pa.ChunkedArray) -> None:
        """Take one page's values (text, nulls allowed) into account."""
        if values.null_count == len(values):
            return
        if self.has_value and not (
            self._alive
            or self._date_like
            or self._code_like
            or self._number_like
            or self._separated_like
            or self._marked_like
        ):
            return
        # where most values differ, finding those that do not costs more than it spares
        found = values.drop_null().combine_chunks() if self._differ else pc.unique(values).drop_null()
        self._differ = self._differ or (len(values) >= 1000 and len(found) > 0.5 * len(values))
        if self.plain and self._goes_on(found):
            return
        unique = pc.utf8_trim_whitespace(found)
        is_missing = pc.is_in(unique, value_set=pa.array(MISSING, unique.type))
        present = unique.filter(pc.invert(is_missing))
        if len(present) < len(unique):
            counted = pc.is_in(pc.utf8_trim_whitespace(values), value_set=pa.array(MISSING[1:], unique.type))
            self.missing += pc.sum(counted).as_py() or 0
        self.plain = self.plain and present.equals(found) and not pc.any(pc.starts_with(found, "+")).as_py()
        if len(present) == 0:
            return
        self.has_value = True
        for kind in tuple(self._alive):
            if not self._accepts(present, kind):
                self._alive.discard(kind)
        if self.declared is not None and self.declared not in self._alive and self.example is None:
            self.example = self._first_misfit(present)
        self._look_at(present)

    def _look_at(self, present: pa.Array) -> None:
        """What the values look like, for the note of a column that stays text."""
        if self._date_like:
            self._date_like = _all_match(present, _LOOKS_LIKE_DATE)
        if self._code_like:
            self._code_like = _all_match(present, _LOOKS_LIKE_CODE)
        if self._number_like:
            self._number_like = _all_match(present, _LOOKS_LIKE_NUMBER)
        if self._separated_like:
            self._separated_like = _all_match(present, _LOOKS_LIKE_SEPARATED)
        if self._marked_like:
            self._marked_like = _all_match(present, _LOOKS_LIKE_MARKED)

    def _goes_on(self, values: pa.Array) -> bool:
        """Whether the values, as they came, leave everything as it is: the usual case, told by a cast or two."""
        if not self.has_value or self._alive.isdisjoint(_QUICK):
            return False
        if self._alive <= _NUMERIC and not self._date_like:
            if T.INTEGER not in self._alive:
                return not self._code_like and self._number_goes_on(values)
            numbers = _same(values, pa.int64())
            if numbers is None:
                return False
            least, most = pc.min_max(numbers).values()
            wide = max(-least.as_py(), most.as_py()) > _WIDEST_EXACT
            return not (wide and T.NUMBER in self._alive) and not (self._code_like and least.as_py() < 0)
        if self._alive == {T.DATE}:
            undecided = self._code_like or self._number_like or self._separated_like or self._marked_like
            return not undecided and _same(values, pa.date32()) is not None
        return False

    def _number_goes_on(self, values: pa.Array) -> bool:
        if self._number_like and not _all_match(values, _PLAIN_NUMBER):
            return False
        undecided = self._separated_like or self._marked_like
        return self._number_like or (not undecided and _all_match(values, _PATTERNS[T.NUMBER]))

    def _accepts(self, present: pa.Array, kind: T) -> bool:
        if kind is T.JSON:
            return _fits_json(present)
        pattern = _PATTERNS[kind]
        if self.declared in (kind, T.NUMBER):
            pattern = _DECLARED_PATTERNS.get(kind, pattern)
        return _fits(present, kind, pattern)

    def _first_misfit(self, present: pa.Array) -> str | None:
        for i in range(min(len(present), 1000)):
            if self.declared is not None and self.declared is not T.TEXT:
                one = present.slice(i, 1)
                if not self._accepts(one, self.declared):
                    return str(one[0].as_py())[:40]
        return None

    def fits(self, kind: T) -> bool:
        """Whether every value so far is of that type (text always fits)."""
        return kind is T.TEXT or kind in self._alive

    def decide(self) -> Decision:
        """The type of a column that is not in the warehouse yet."""
        if self.declared is not None and (not self.has_value or self.fits(self.declared)):
            return self._decision(self.declared)
        if not self.has_value:
            return Decision(T.TEXT)
        for kind in _ORDER:
            if kind in self._alive:
                return self._decision(kind)
        return self._decision(T.TEXT)

    def widen(self, existing: T) -> Decision:
        """The type of a column that exists as `existing`: the same or wider (integer, number, text), never narrower."""
        if self.declared is T.TEXT:
            return self._decision(T.TEXT)
        if not self.has_value or self.fits(existing):
            return self._decision(existing)
        if existing is T.INTEGER and self.fits(T.NUMBER):
            return self._decision(T.NUMBER)
        return self._decision(T.TEXT)

    def _decision(self, kind: T) -> Decision:
        notes = []
        if kind is T.TEXT and self.has_value and self.declared is not T.TEXT:
            if self.declared is not None and not self.fits(self.declared):
                shown = f" (such as {self.example!r})" if self.example else ""
                notes.append(f"has values that are not of the form's type {self.declared.value}{shown}; it is text")
            elif self._alive:
                pass  # it is text by what it held before
            elif self._date_like:
                notes.append(
                    "holds dates that can be read in more than one way or do not exist; it stays text. "
                    "Cast it with a format in a recipe"
                )
            elif self._code_like:
                notes.append("holds numbers with leading zeros, a plus sign or too many digits; it stays text")
            elif self._number_like:
                notes.append("holds numbers that no number column keeps as they are (over 15 digits); it stays text")
            elif self._separated_like:
                notes.append(
                    "holds numbers with a decimal comma or with thousands apart, which can be read in more than one "
                    "way (1,234); it stays text. Take the separators out in a recipe, or at the source"
                )
            elif self._marked_like:
                notes.append(
                    "holds numbers with a percent sign or a currency (such as 25% or $1,200); it stays text. Take the "
                    "signs out in a recipe, or at the source"
                )
        elif kind is not T.TEXT and self.missing:
            notes.append(f"has {self.missing} values that mean missing (such as n/a or -); they are empty")
        return Decision(kind, tuple(notes), lasts=kind is T.TEXT and bool(notes))
