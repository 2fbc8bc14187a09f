"""The function table: everything a formula can call, one row each. A function that is not here does not exist.

Signatures are in the words of `signatures`; the Ibis behind each row is in the module of its section. The
documentation is made from this table, and a test runs each example on PostgreSQL.
"""

from __future__ import annotations

import functools

from datasense_assets.recipes.formula import conversions, logic_functions
from datasense_assets.recipes.formula import date_functions as dates
from datasense_assets.recipes.formula import number_functions as numbers
from datasense_assets.recipes.formula import text_functions as texts
from datasense_assets.recipes.formula.signatures import Function, function

choices = functools.partial(function, section="Choices and nulls")
number = functools.partial(function, section="Numbers")
text = functools.partial(function, section="Text")
date = functools.partial(function, section="Dates and times")
conversion = functools.partial(function, section="Conversions")

_UNITS = "{second, minute, hour, day, week, month, quarter, year}"
_DATE_UNITS = "{day, week, month, quarter, year}"

FUNCTIONS: tuple[Function, ...] = (
    choices(
        "if(condition: boolean, then: any, otherwise: any = null) -> any",
        "`then` where the condition is true, else `otherwise` (also where the condition is null).",
        ("if(2 > 1, 'more', 'less')", "more"),
        ("if(null, 1, 0)", "0"),
        build=logic_functions.if_then,
    ),
    choices(
        "case(condition: boolean, value: any, ...) -> any",
        "The value after the first condition that is true: `case(c1, v1, c2, v2, default)`. Without a default, null.",
        ("case(1 > 2, 'a', 2 > 1, 'b', 'c')", "b"),
        ("case(false, 1)", None),
        build=logic_functions.case,
    ),
    choices(
        "coalesce(values: any...) -> any",
        "The first value that is not null.",
        ("coalesce(null, 'unknown')", "unknown"),
        build=logic_functions.coalesce,
        aliases=("if_null",),
    ),
    choices(
        "nullif(value: comparable, unwanted: comparable) -> comparable",
        "The value, or null where it equals `unwanted`.",
        ("nullif('n/a', 'n/a')", None),
        ("nullif(3, 99)", "3"),
        build=logic_functions.null_if,
    ),
    choices(
        "is_null(value: each) -> boolean",
        "Whether the value is missing.",
        ("is_null(1 / 0)", "true"),
        build=logic_functions.is_null,
        aliases=("isnull",),
    ),
    choices(
        "is_blank(value: each) -> boolean",
        "Whether the value is missing or text without anything but spaces.",
        ("is_blank('  ')", "true"),
        ("is_blank(0)", "false"),
        build=logic_functions.is_blank,
        aliases=("isblank",),
    ),
    choices(
        "between(value: ordered, low: ordered, high: ordered) -> boolean",
        "Whether low <= value <= high.",
        ("between(5, 1, 5)", "true"),
        build=logic_functions.between,
    ),
    choices(
        "one_of(value: comparable, options: comparable...) -> boolean",
        "Whether the value equals one of the options.",
        ("one_of('b', 'a', 'b')", "true"),
        build=logic_functions.one_of,
    ),
    number(
        "abs(value: numeric) -> numeric",
        "The value without its sign.",
        ("abs(-3)", "3"),
        build=numbers.absolute,
    ),
    number(
        "round(value: number, digits: integer = 0) -> number",
        "Rounded to so many decimals (below 0: to tens, hundreds, ...); halves go away from zero.",
        ("round(2.675, 2)", "2.68"),
        ("round(1250, -2)", "1300"),
        build=numbers.rounded,
    ),
    number(
        "floor(value: numeric) -> integer",
        "The largest integer that is not above the value.",
        ("floor(-1.2)", "-2"),
        build=numbers.floor,
    ),
    number(
        "ceil(value: numeric) -> integer",
        "The smallest integer that is not below the value.",
        ("ceil(1.2)", "2"),
        build=numbers.ceil,
        aliases=("ceiling",),
    ),
    number(
        "trunc(value: numeric) -> integer",
        "The value without its decimals.",
        ("trunc(-1.9)", "-1"),
        build=numbers.truncated,
    ),
    number(
        "sqrt(value: number) -> number",
        "Square root; of a negative null.",
        ("sqrt(16)", "4"),
        ("sqrt(-1)", None),
        build=numbers.square_root,
    ),
    number(
        "power(base: number, exponent: number) -> number",
        "`base ^ exponent`; null where there is no such number or it is beyond 1e304.",
        ("power(2, 10)", "1024"),
        ("power(-8, 0.5)", None),
        build=numbers.power,
    ),
    number(
        "mod(value: numeric, divisor: numeric) -> numeric",
        "`value % divisor`: what is left of the division, with the divisor's sign; by zero null.",
        ("mod(-7, 3)", "2"),
        ("mod(7, 0)", None),
        build=numbers.mod,
    ),
    number(
        "sign(value: number) -> integer",
        "-1, 0 or 1.",
        ("sign(-2.5)", "-1"),
        build=numbers.sign,
    ),
    number(
        "exp(value: number) -> number",
        "e to the value; null beyond 1e304.",
        ("exp(0)", "1"),
        build=numbers.exponential,
    ),
    number(
        "ln(value: number) -> number",
        "Natural logarithm; of zero and below null.",
        ("ln(1)", "0"),
        ("ln(0)", None),
        build=numbers.logarithm,
    ),
    number(
        "log(value: number, base: number = 10) -> number",
        "Logarithm to a base; of zero and below null.",
        ("log(1000)", "3"),
        ("log(8, 2)", "3"),
        build=numbers.logarithm_to_base,
    ),
    number(
        "min(values: ordered...) -> ordered",
        "The smallest of the values in this row; nulls are passed over.",
        ("min(3, null, 1.5)", "1.5"),
        build=numbers.smallest,
    ),
    number(
        "max(values: ordered...) -> ordered",
        "The largest of the values in this row; nulls are passed over.",
        ("max(3, null, 1)", "3"),
        build=numbers.largest,
    ),
    text("lower(text: text) -> text", "In small letters.", ("lower('Kisumu')", "kisumu"), build=texts.lower),
    text("upper(text: text) -> text", "In capital letters.", ("upper('Kisumu')", "KISUMU"), build=texts.upper),
    text(
        "title(text: text) -> text",
        "Each word with a capital letter.",
        ("title('new DELHI')", "New Delhi"),
        build=texts.title,
        aliases=("proper",),
    ),
    text("trim(text: text) -> text", "Without white space around it.", ("trim('  a b ')", "a b"), build=texts.trim),
    text(
        "left(text: text, count: integer) -> text",
        "The first characters; null for a count below 0.",
        ("left('Nairobi', 3)", "Nai"),
        build=texts.left,
    ),
    text(
        "right(text: text, count: integer) -> text",
        "The last characters; null for a count below 0.",
        ("right('Nairobi', 3)", "obi"),
        build=texts.right,
    ),
    text(
        "mid(text: text, start: integer, count: integer) -> text",
        "So many characters from the place `start`, counting from 1; null for a start below 1.",
        ("mid('Nairobi', 2, 3)", "air"),
        build=texts.mid,
        aliases=("substring",),
    ),
    text(
        "length(text: text) -> integer",
        "How many characters.",
        ("length('नमस्ते')", "6"),
        build=texts.length,
        aliases=("len",),
    ),
    text(
        "replace(text: text, find: text, put: text) -> text",
        "Every `find` replaced by `put`, letter for letter.",
        ("replace('a-b-c', '-', '/')", "a/b/c"),
        build=texts.replace,
        aliases=("substitute",),
    ),
    text(
        "contains(text: text, part: text) -> boolean",
        "Whether the part is in the text; case matters.",
        ("contains('100% sure', '%')", "true"),
        build=texts.contains,
    ),
    text(
        "starts_with(text: text, part: text) -> boolean",
        "Whether the text begins with the part.",
        ("starts_with('Nairobi', 'Nai')", "true"),
        build=texts.starts_with,
    ),
    text(
        "ends_with(text: text, part: text) -> boolean",
        "Whether the text ends with the part.",
        ("ends_with('Nairobi', 'Nai')", "false"),
        build=texts.ends_with,
    ),
    text(
        "find(text: text, part: text) -> integer",
        "The place of the part's first occurrence, counting from 1; null where there is none.",
        ("find('Nairobi', 'r')", "4"),
        ("find('Nairobi', 'x')", None),
        build=texts.find,
    ),
    text(
        "split(text: text, separator: text, index: integer) -> text",
        "The part at a place, counting from 1; null where there is none or it is empty.",
        ("split('a/b/c', '/', 2)", "b"),
        ("split('a/b/c', '/', 9)", None),
        build=texts.split,
    ),
    text(
        "pad_left(text: text, width: integer, fill: text = '0') -> text",
        "Filled up from the left to a width of at most 1,000; a longer text stays as it is.",
        ("pad_left('42', 5)", "00042"),
        build=texts.pad_left,
    ),
    text(
        "concat(values: each...) -> text",
        "All values in a row, as text; nulls are passed over.",
        ("concat('No. ', 7, null, '!')", "No. 7!"),
        build=texts.concat,
    ),
    text(
        "json_field(value: json, name: text) -> text",
        "A field of a json object, as text; null where there is none.",
        build=texts.json_field,
    ),
    *(
        date(
            f"{name}(value: {kinds}) -> integer",
            meaning,
            (f"{name}({value})", result),
            build=functools.partial(dates.part, name),
        )
        for name, kinds, meaning, value, result in (
            ("year", "date|datetime", "The year.", "date('2026-03-09')", "2026"),
            ("quarter", "date|datetime", "The quarter, 1 to 4.", "date('2026-03-09')", "1"),
            ("month", "date|datetime", "The month, 1 to 12.", "date('2026-03-09')", "3"),
            ("week", "date|datetime", "The week of ISO 8601, 1 to 53.", "date('2027-01-01')", "53"),
            ("day", "date|datetime", "The day of the month.", "date('2026-03-09')", "9"),
            ("hour", "datetime|time", "The hour, 0 to 23.", "time('18:05:09')", "18"),
            ("minute", "datetime|time", "The minute, 0 to 59.", "time('18:05:09')", "5"),
            ("second", "datetime|time", "The second, 0 to 59.", "time('18:05:09')", "9"),
        )
    ),
    date(
        "weekday(value: date|datetime) -> integer",
        "The day of the week, 1 Monday to 7 Sunday.",
        ("weekday(date('2026-03-09'))", "1"),
        build=dates.weekday,
    ),
    date(
        f"date_diff(start: moment, end: moment, unit: {_UNITS} = day) -> integer",
        "Complete units from `start` to `end`, days and longer ones by the clock; below 0 where the end is earlier.",
        ("date_diff(date('2026-01-31'), date('2026-03-09'))", "37"),
        ("date_diff(date('2000-03-10'), date('2026-03-09'), 'year')", "25"),
        build=dates.date_diff,
    ),
    date(
        f"date_add(value: moment, count: integer, unit: {_UNITS} = day) -> moment",
        "So many units later, or earlier where the count is below 0.",
        ("date_add(date('2026-01-31'), 1, 'month')", "2026-02-28"),
        ("date_add(date('2026-01-31'), -31)", "2025-12-31"),
        build=dates.date_add,
    ),
    date(
        f"start_of(value: date|datetime, unit: {_DATE_UNITS}) -> date",
        "The first day of the unit; a week starts on Monday.",
        ("start_of(date('2026-03-09'), 'quarter')", "2026-01-01"),
        build=dates.start_of,
    ),
    date(
        "date_of(year: integer, month: integer, day: integer) -> date",
        "The date of year, month and day; null where there is no such day.",
        ("date_of(2024, 2, 29)", "2024-02-29"),
        ("date_of(2026, 2, 29)", None),
        build=conversions.date_of_parts,
    ),
    date(
        "today() -> date", "The day on which the recipe is built.", ("today() = date(now())", "true"), build=dates.today
    ),
    date(
        "now() -> datetime", "The moment at which the recipe is built.", ("year(now()) > 2000", "true"), build=dates.now
    ),
    conversion(
        "text(value: each) -> text",
        "Any value as text; dates as 2026-03-09, datetimes as 2026-03-09 18:05:00.",
        ("text(1.50)", "1.5"),
        build=conversions.to_text,
    ),
    conversion(
        "integer(value: text|integer|number|boolean) -> integer",
        "A whole number; null where the value is none.",
        ("integer(' 12 ')", "12"),
        ("integer('12.5')", None),
        build=conversions.to_integer,
        aliases=("int",),
    ),
    conversion(
        "number(value: text|integer|number|boolean) -> number",
        "A number with a decimal point; null where the value is none.",
        ("number('12.5')", "12.5"),
        ("number('12,5')", None),
        build=conversions.to_number,
    ),
    conversion(
        "boolean(value: text|integer|number|boolean) -> boolean",
        "True for true, yes, y, t, on, 1; false for false, no, n, f, off, 0; numbers: whether not 0; else null.",
        ("boolean('Yes')", "true"),
        ("boolean('maybe')", None),
        build=conversions.to_boolean,
    ),
    conversion(
        "date(value: text|date|datetime) -> date",
        "A date from text like 2026-03-09 or from a datetime; null where the text is no date.",
        ("date('2026-03-09')", "2026-03-09"),
        ("date('2026-02-30')", None),
        build=conversions.to_date,
    ),
    conversion(
        "datetime(value: text|date|datetime) -> datetime",
        "A datetime from text like 2026-03-09T18:05:00+03:00 (without a zone: the organisation's) or a date.",
        ("datetime('2026-03-09 18:05')", "2026-03-09 18:05:00"),
        ("datetime('2026-03-09 25:00')", None),
        build=conversions.to_datetime,
    ),
    conversion(
        "time(value: text|datetime|time) -> time",
        "A time of day from text like 18:05 or 18:05:30, or from a datetime.",
        ("time('18:05')", "18:05:00"),
        ("time('18:65')", None),
        build=conversions.to_time,
    ),
)

BY_NAME: dict[str, Function] = {name: row for row in FUNCTIONS for name in (row.name, *row.aliases)}
