"""The reference of the language, written from its models: `docs/recipes.md` is `reference()`; a test sees to it."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes.condition_examples import OPERATOR_EXAMPLES
from datasense_assets.recipes.errors import MEANINGS, WARNINGS
from datasense_assets.recipes.examples import condition_rows, stored_examples
from datasense_assets.recipes.language.checks import CHECK_MODELS
from datasense_assets.recipes.language.output import ROW_WISE, Output
from datasense_assets.recipes.language.steps import STEP_MODELS

_WHOLE = {
    "version": 1,
    "name": "visits_by_district",
    "title": "Visits by district",
    "inputs": {"visits": "source:health_forms.visits", "people": "recipe:clean_people"},
    "steps": [
        {"op": "filter", "note": "only real visits", "where": {"column": "visits", "operator": ">", "value": 0}},
        {
            "op": "aggregate",
            "group_by": ["district"],
            "aggregations": [{"fn": "sum", "column": "visits", "into": "visits"}],
        },
    ],
    "output": {"indexes": [["district"]]},
    "checks": [{"check": "not_null", "column": "district", "severity": "warn"}],
}

_CONDITIONS = """\
A condition is `{"all": [...]}`, `{"any": [...]}`, `{"not": ...}` or a comparison
`{"column", "operator", "value" | "value_column", "or_null"?}`.

Null never matches a comparison. That holds for `!=`, `not_in` and `not_contains` too: a row whose district is null is
neither "North" nor known not to be. With `or_null` the rows without a value are kept as well, and with `value_column`
those where either is missing; see the second example of these three. It goes with every operator.

A value has to be of the column's type as it is written: `2026` for an integer, `"2026"` for text, `"2026-01-31"` for a
date, `"2026-01-31T09:30:00"` for a date and time (in the organisation's time zone unless it has an offset). `in_last`
takes `"7 days"`, `"2 weeks"` or `"3 months"`. A regular expression's `\\s` is a space of ASCII (blank, tab, line ends),
as are those that `trim` and `collapse_spaces` take; `\\d` is 0 to 9. `\\w` is a letter, mark or digit of any script, or
`_`; `\\b` is where such a word begins or ends; `.` is any character, a line end too, and `$` the end of the whole text.
Of alternatives (`a|ab`) the one with which the pattern matches most is taken, and a pattern's first repeat (`+`, or
`+?` for as little as may be) decides for all of it.

Of these rows, by their first name,
"""


_FORMULAS = """\
Formulas look like a spreadsheet's: numbers, `'text'` or `"text"` (the quote doubled inside), a column by its name or in
brackets (`[Any name]`, `]` doubled inside), operators, functions, `( )`, and `true`, `false`, `null`.

Where there is no answer it is null: a division by zero, an integer beyond 64 bits, a function without a result. But
`+`, `-`, `*` and `/` of numbers beyond 1.8e308, or nearer to zero than 1e-308, fail the build, as sums do: such a
number is a mistake in the data, and the last good table stays. Operators, the tightest first:
"""


_CHECKS = """\
Checks are promises about the result. A source's table takes the same list in the manifest (`checks` of a table), but
for `max_lossy_casts`. Each has a `severity`, `error` (the default) or `warn`, and may have a `name` of its own; without
one it is named after its kind and columns. Null breaks no check but `not_null` and `condition`.

A recipe's checks are run on its new table before that takes the old one's place: with an error the last good table
stays, and what is built on it waits.
"""


_OUTPUT = """\
`table` is what one wants nearly always: readers see the last whole table until the next one is there. What people hung
on the table comes along: grants, comments, indexes, constraints. A column that still answers the question of an input's
column has that one's comment, unless somebody gives it another: whatever it is called, and also where steps tidied,
cast, filled, masked or labelled its values, replaced them in place, or split them into rows. So has a column of several
inputs' (`union`, `coalesce`, the key of a `join`), where those of them that have a comment have the same. What is
reckoned from others, such as a formula or an average, answers another question and has none. Where a form words its
question anew, the comment is the new one after the next build, also where the rows are unchanged and nothing is built.
A comment that a person wrote (`COMMENT ON COLUMN`) stays.

Who reads under `REPEATABLE READ` or `SERIALIZABLE` and has begun before the new table is there finds it without rows,
for PostgreSQL shows him none that came later: such a transaction locks what it will read before its first query
(`LOCK TABLE ... IN ACCESS SHARE MODE`), as `datasense export --to` does, and the build waits for it. The usual
`READ COMMITTED` sees the old table or the new one, whole.

A `view` is always as fresh as its inputs and is reckoned again at each look. Where the result hangs on today's date or
on the hour or date of a moment it is refused, since each reader would get it by his own session's time zone. When a
table under it is built again the view is made again in the same transaction; one that no longer fits is dropped, which
the build tells, and comes back with its own recipe's next build.

`incremental` is for large tables of one source. It takes only steps that make a row of one row: %s, and `fill_missing`
with `method: value`. The result has to keep the source's `_ds_row_id` (named by `key`, renamed or not) and
`_ds_loaded_at`: a row stands while the source has that row, not deleted, from that load; all others are taken out and
made anew, in one transaction that locks no reader out. The whole is built when the recipe or the columns of its input
changed, on another day where it uses `today()`, and with `--force`.
"""


def reference() -> str:
    """The whole reference as Markdown."""
    parts = [
        "# Recipes",
        "A recipe turns tables into a table. It is JSON or YAML: a flat list of steps, no SQL and no Python, so any "
        "user's recipe is safe to run. This page is written from the models in `datasense_assets/recipes/language`.",
        _json(_WHOLE),
        "`inputs` maps an alias to `source:<source>.<table>` or `recipe:<name>`; the first input is where the steps "
        f"start, so their order counts. Types: {_ticked(member.value for member in ColumnType)}.",
        "Rows that their source has deleted (`_ds_deleted_at` is set, under `deletes: mark`) are kept in the loaded "
        "table and left out of every recipe, so that no number counts them.",
        "A new column goes to the end; one that exists is replaced in place. Row order is promised only after `sort`.",
        "## Steps",
        "Every step may have an `id`, unlike any other step's, and a `note`.",
        *(section for op, model in STEP_MODELS.items() for section in _step(op, model)),
        "## Formulas",
        *_formulas(),
        "## Conditions",
        *_conditions(),
        "## Output",
        *_output(),
        "## Checks",
        _CHECKS,
        *(section for kind, model in CHECK_MODELS.items() for section in _check(kind, model)),
        "## Errors",
        "All mistakes are told at once, each with a code, the path in the recipe, a sentence and the nearest right "
        "name if there is one.",
        _ERRORS,
        _table(("code", "meaning"), [(f"`{code}`", meaning) for code, meaning in MEANINGS.items()]),
        "## Warnings",
        "What is allowed and probably not meant. Warnings keep nothing from being built; `datasense check` and "
        "`datasense preview` tell them.",
        _table(("code", "meaning"), [(f"`{code}`", meaning) for code, meaning in WARNINGS.items()]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


_ERRORS = """
Checking does not stop at a mistake of form. A step of the wrong form is a gap: its own formula, pattern and format are
read all the same, and so are all later steps, of which nothing is said that hangs on their columns, for nobody knows
which there are after a gap. Within one field (`where`, the list of `columns` or `cases`) its form comes first: what it
says is read once it is right. How a result can be kept (`materialize`) is looked at once all the steps can be read.
Types and names of columns are held against the tables by `datasense check FILE --org ORG`: of a recipe also where
another part of it has the wrong form; of a manifest's recipes, those of the right form.
""".strip()


def _output() -> list[str]:
    row_wise = _ticked(op for op in STEP_MODELS if op in ROW_WISE and op != "fill_missing")
    return [
        inspect.cleandoc(Output.__doc__ or ""),
        f"Fields: {_fields(Output, set())}.",
        _json(Output.example),
        _OUTPUT % row_wise,
    ]


def _step(op: str, model: type[BaseModel]) -> list[str]:
    text = inspect.cleandoc(model.__doc__ or "")
    fields = f"Fields: {_fields(model, {'op', 'id', 'note'})}."
    return [f"### `{op}`", text, fields, _json(model.example), *_before_and_after(op)]  # type: ignore[attr-defined]


def _before_and_after(op: str) -> list[str]:
    """The example as it was run: the columns that it works on, and what it makes of them."""
    found = stored_examples()["steps"][op]
    return [part for name, side in (("Of", "in"), ("it makes", "out")) for part in (name, _cells(found[side]))]


def _cells(side: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        tuple("*null*" if cell is None else _cell(cell) for cell in row) for row in side["rows"]
    ]
    return _table(tuple(_cell(name) for name in side["columns"]), rows)


def _cell(text: str) -> str:
    """Text in a table's cell; what Markdown would take for its own goes between ticks."""
    return f"`{text}`" if text.strip() != text or any(mark in text for mark in "*[]<>\\`_{}") else text


def _conditions() -> list[str]:
    found = stored_examples()["conditions"]
    rows: list[tuple[str, ...]] = [
        (
            f"`{name}`" if place == 0 else "",
            row.meaning if place == 0 else "",
            f"`{json.dumps(condition, ensure_ascii=False)}`",
            ", ".join(found[name][place]) or "*none*",
        )
        for name, row in OPERATOR_EXAMPLES.items()
        for place, condition in enumerate(row.conditions)
    ]
    return [_CONDITIONS, _cells(condition_rows()), _table(("operator", "meaning", "example", "keeps"), rows)]


def _formulas() -> list[str]:
    from datasense_assets.recipes.formula.reference import function_reference, operator_reference

    operators: list[tuple[str, ...]] = [
        (_ticked(row.operators), row.meaning, _results(row.examples)) for row in operator_reference()
    ]
    functions: list[tuple[str, ...]] = [
        (f"`{row.signature}`", row.meaning, _results(row.examples)) for row in function_reference()
    ]
    return [
        _FORMULAS,
        _table(("operators", "meaning", "examples"), operators),
        _table(("function", "meaning", "examples"), functions),
    ]


def _results(examples: Iterable[tuple[str, str | None]]) -> str:
    return ", ".join(f"`{formula}` → {'*null*' if result is None else f'`{result}`'}" for formula, result in examples)


def _check(kind: str, model: type[BaseModel]) -> list[str]:
    text = inspect.cleandoc(model.__doc__ or "")
    fields = _fields(model, {"check", "name", "severity"})
    return [f"### `{kind}`", text, f"Fields: {fields}.", _json(model.example)]  # type: ignore[attr-defined]


def _fields(model: type[BaseModel], leave_out: set[str]) -> str:
    return ", ".join(_field(name, info) for name, info in model.model_fields.items() if name not in leave_out)


def _field(name: str, info: FieldInfo) -> str:
    shape = _shape(info.annotation)
    written = f"`{info.alias or name}{'' if info.is_required() else '?'}`"
    return f"{written} {shape}".strip()


def _shape(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [a for a in get_args(annotation) if a is not type(None)]
    if origin in (typing.Union, types.UnionType):
        return _shape(arguments[0]) if len(arguments) == 1 else ""
    if origin is typing.Literal:
        return "(" + ", ".join(f"`{argument}`" for argument in arguments) + ")"
    if origin is list:
        inner = _shape(arguments[0])
        return f"(list of {inner})" if inner else "(list)"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + _fields(annotation, set()) + "}"
    return ""


def _json(data: Any) -> str:
    line = json.dumps(data, ensure_ascii=False)
    text = line if len(line) <= 118 else json.dumps(data, indent=2, ensure_ascii=False)
    return f"```json\n{text}\n```"


def _ticked(names: Any) -> str:
    return " ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
