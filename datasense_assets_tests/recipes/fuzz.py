"""Spoilt recipes and formulas by the hundred thousand: nothing but RecipeErrors, and no SQL that reaches out.

    python -m datasense_assets_tests.recipes.fuzz --cases 100000 --seed 1 [--start 0] [--url postgresql://...]

Case number n of a seed is always the same, so a run goes on where another stopped (`--start`), and one case can be
looked at alone (`--start n --cases 1`). Each recipe that compiles is read by PostgreSQL's own parser, its tables and
functions are held against what is allowed, and the server plans it as a role that may read one schema only.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from pglast import ast, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor
from psycopg import sql

from datasense_assets.recipes import Recipe, RecipeErrors, TableRef, compile_recipe
from datasense_assets.recipes.errors import CODES
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.recipes.chooser import Chooser, seeded
from datasense_assets_tests.recipes.proving import OPERATIONS, random_example, table_ref
from datasense_assets_tests.recipes.random_tables import SHAPES
from datasense_assets_tests.recipes.reference_formulas import FORMULAS

SCHEMA = "org_fuzz"
SLOW = 10.0
"""Seconds of CPU after which a case counts as a fault: a recipe must not hold up who compiles it."""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

SPITEFUL: tuple[str, ...] = (
    *(
        "'; DROP TABLE x; --",
        '"; SELECT 1; --',
        "pg_catalog.pg_authid",
        "org_other.secret",
        "information_schema.tables",
    ),
    *(
        "pg_sleep(10)",
        "$$",
        "$1",
        "%s",
        "%(x)s",
        "{0}",
        "{{x}}",
        "/*",
        "*/",
        "--",
        "\\",
        "\\'",
        "E'\\x00'",
        "\x00",
        "\ud800",
    ),
    *(
        "",
        " ",
        "\n",
        "\u202e",
        "NaN",
        "null",
        "1e999",
        "9" * 400,
        "x" * 64,
        "😀" * 16,
        "ज़" * 40,
        "_ds_unknown",
        "t0",
        "*",
    ),
    *(
        "[",
        "(",
        "(?<x>a)",
        "(?i)",
        "(a+)+$",
        "a{1,999}",
        "\\p{L}",
        "(?=a)+",
        "[[:alpha:]]",
        "x{,3}",
        "\\1",
        "[^]",
        "a**",
    ),
    *(
        "source:forms.t1",
        "recipe:r",
        "source:../x.y",
        "%d/%m/%Y",
        "%q",
        "%Y-%j",
        "count",
        "-n",
        "--n",
        "7 days",
        "0 days",
    ),
    *("select", "=", "matches", "0001-01-01", "2026-02-30", "24:00", "2026-01-31T09:30:00+99:00", "T", "١٢"),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 2**31, 2**63, -(2**63), -(2**63) - 1, 10**400, 1e308, 5e-324),
    *(
        math.nan,
        math.inf,
        [],
        {},
        [[]],
        [None],
        {"": None},
        [1, "a"],
        date(2026, 1, 31),
        datetime(2026, 1, 31, 9),
        b"x",
    ),
)
PIECES = (
    *(
        "(",
        ")",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "=",
        "<>",
        "<",
        "and",
        "or",
        "not",
        "null",
        "true",
        "'a'",
        '"b"',
        "1",
        "2.5",
    ),
    *(
        "[n]",
        "[x",
        "]",
        "if(",
        "case(",
        "date(",
        "left(",
        "'",
        '"',
        ".",
        "1e5",
        "1e999",
        "99999999999999999999",
        "&&",
        ";",
        "é",
    ),
    *(
        "pad_left('a', 999, 'bc')",
        "today()",
        "date_add(",
        ", 'month')",
        " ",
        "\n",
        "\t",
        "\u00a0",
        "😀",
        "ज़िला",
        "concat(",
        "sum(",
    ),
)

FUNCTIONS = frozenset(
    {
        *(
            "abs",
            "age",
            "array_agg",
            "array_length",
            "array_remove",
            "array_to_string",
            "arraycontains",
            "avg",
            "bool_and",
        ),
        *(
            "bool_or",
            "btrim",
            "cardinality",
            "ceil",
            "char_length",
            "coalesce",
            "concat",
            "concat_ws",
            "convert_to",
            "count",
        ),
        *(
            "date",
            "date_part",
            "date_trunc",
            "dense_rank",
            "encode",
            "exp",
            "extract",
            "first_value",
            "floor",
            "generate_series",
        ),
        *("greatest", "initcap", "int8", "jsonb_array_element_text", "jsonb_array_elements", "jsonb_array_length"),
        *("jsonb_build_array", "jsonb_object_field", "jsonb_object_field_text", "jsonb_typeof", "json_array_length"),
        *(
            "json_typeof",
            "lag",
            "last_value",
            "lead",
            "least",
            "left",
            "length",
            "ln",
            "log",
            "lower",
            "lpad",
            "make_interval",
        ),
        *(
            "max",
            "min",
            "mod",
            "mode",
            "normalize",
            "ntile",
            "percentile_cont",
            "position",
            "pow",
            "power",
            "rank",
            "regexp_match",
        ),
        *(
            "regexp_replace",
            "regexp_split_to_array",
            "repeat",
            "replace",
            "right",
            "round",
            "row_number",
            "sha256",
            "sign",
        ),
        *(
            "split_part",
            "sqrt",
            "starts_with",
            "stddev_samp",
            "string_agg",
            "string_to_array",
            "strpos",
            "substr",
            "substring",
        ),
        *("sum", "timezone", "to_char", "to_jsonb", "translate", "trunc", "unnest", "upper", "json_array_elements"),
    }
)
"""Of PostgreSQL's functions those that a recipe may come to: none reads a file, a setting, another table or waits."""


class Fault(Exception):
    """What must not happen."""


class _Looker(Visitor):  # type: ignore[misc]
    """Relations, functions and whatever else a statement names."""

    def __init__(self) -> None:
        self.relations: set[tuple[str | None, str]] = set()
        self.functions: set[str] = set()
        self.common: set[str] = set()
        self.foreign: set[str] = set()

    def visit_RangeVar(self, ancestors: Any, node: ast.RangeVar) -> None:
        self.relations.add((node.schemaname, node.relname))

    def visit_CommonTableExpr(self, ancestors: Any, node: ast.CommonTableExpr) -> None:
        self.common.add(node.ctename)

    def visit_FuncCall(self, ancestors: Any, node: ast.FuncCall) -> None:
        *schema, name = (part.sval for part in node.funcname)
        if schema in ([], ["pg_catalog"]):
            self.functions.add(name)
        else:
            self.foreign.add(".".join([*schema, name]))

    def visit_InsertStmt(self, ancestors: Any, node: ast.InsertStmt) -> None:
        self.foreign.add("INSERT")

    def visit_UpdateStmt(self, ancestors: Any, node: ast.UpdateStmt) -> None:
        self.foreign.add("UPDATE")

    def visit_DeleteStmt(self, ancestors: Any, node: ast.DeleteStmt) -> None:
        self.foreign.add("DELETE")

    def visit_IntoClause(self, ancestors: Any, node: ast.IntoClause) -> None:
        self.foreign.add("INTO")

    def visit_LockingClause(self, ancestors: Any, node: ast.LockingClause) -> None:
        self.foreign.add("FOR UPDATE")

    def visit_ParamRef(self, ancestors: Any, node: ast.ParamRef) -> None:
        self.foreign.add("a parameter")


def judge(statement: str, tables: set[tuple[str, str]]) -> None:
    """Raises Fault where the statement is not one SELECT over these tables with allowed functions."""
    try:
        found = parse_sql(statement)
    except ParseError as error:
        raise Fault(f"PostgreSQL's parser refuses it: {error}\n{statement}") from None
    if len(found) != 1 or not isinstance(found[0].stmt, ast.SelectStmt):
        raise Fault(f"not one SELECT\n{statement}")
    looker = _Looker()
    looker(found)
    outside = {
        place for place in looker.relations if place not in tables and (place[0] or place[1] not in looker.common)
    }
    foreign = looker.foreign | (looker.functions - FUNCTIONS)
    if outside or foreign:
        raise Fault(f"reaches out to {sorted(map(str, outside))} {sorted(foreign)}\n{statement}")


class Field:
    """Where recipes are fuzzed: real tables of an organisation and a role that may read them."""

    def __init__(self, connection: psycopg.Connection[Any], role: str) -> None:
        self.connection = connection
        self.role = role
        self.refs = {}
        self.places = {(SCHEMA, shape.alias) for shape in SHAPES}
        for shape in SHAPES:
            ref = table_ref(shape)
            self.refs[shape.alias] = TableRef(SCHEMA, ref.table, ref.columns, choice_labels=ref.choice_labels)
        self.tally: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def laid_out(cls, url: str) -> Iterator[Field]:
        """Tables and role, gone again afterwards."""
        role = sql.Identifier(f"t_fuzz_{uuid.uuid4().hex[:12]}")
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
            for shape in SHAPES:
                columns = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t, _ in shape.columns]
                table = sql.Identifier(SCHEMA, shape.alias)
                connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(columns)))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), role))
            connection.execute(
                sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), role)
            )
            connection.execute(sql.SQL("SET ROLE {}").format(role))
            connection.execute("SET default_transaction_read_only = on")
            connection.execute("SET statement_timeout = '20s'")
            try:
                yield cls(connection, role.as_string(connection))
            finally:
                connection.execute("RESET ROLE")
                connection.execute("SET default_transaction_read_only = off")
                connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
                connection.execute(sql.SQL("DROP ROLE {}").format(role))

    def run(self, data: Any) -> None:
        """One recipe as JSON might bring it. Raises Fault."""
        began = time.process_time()
        try:
            recipe = Recipe.parse(data)
            refs = {alias: self.refs[alias] for alias in recipe.inputs if alias in self.refs}
            compiled = compile_recipe(recipe, refs)
        except RecipeErrors as errors:
            self.tally["refused"] += 1
            for error in errors.errors:
                self.tally[error.code] += 1
                if error.code not in CODES or not error.message.strip() or len(error.message) > 20_000:
                    raise Fault(f"an error that says nothing: {error!r}") from None
            if not errors.errors:
                raise Fault("no errors in RecipeErrors") from None
            return
        except Exception as error:
            raise Fault(f"{type(error).__name__}: {error}") from error
        finally:
            if time.process_time() - began > SLOW:
                raise Fault(f"took {time.process_time() - began:.0f} s to compile")
        self.tally["compiled"] += 1
        for statement in (compiled.sql, *(query for _, query in compiled.lossy_casts)):
            judge(statement, self.places)
            self.plan(statement)

    def plan(self, statement: str) -> None:
        try:
            self.connection.execute(b"EXPLAIN " + statement.encode())
        except psycopg.errors.NumericValueOutOfRange:
            # Of numbers that are written in the recipe and whose product no type holds: the build says so.
            self.tally["too large"] += 1
        except psycopg.Error as error:
            raise Fault(f"PostgreSQL refuses it: {type(error).__name__}: {error}\n{statement}") from None


def case(seed: int, number: int) -> Any:
    """A valid recipe, spoilt in up to four places; one of three has a spoilt formula at its end."""
    choose = seeded(f"{seed}/{number}")
    FORMULAS.clear()
    data = _valid(choose)
    if choose.chance(30):
        name = choose.one(SPITEFUL) if choose.chance(20) else "f"
        data["steps"].append({"op": "formula", "column": name, "formula": formula(choose)})
    for _ in range(choose.one((0, 1, 1, 1, 2, 3))):
        spoil(choose, data.get("steps") if choose.chance(90) else data)
    return data


def _valid(choose: Chooser) -> dict[str, Any]:
    if choose.chance(5):
        steps = [copy.deepcopy(choose.one(tuple(STEP_MODELS.values())).example) for _ in range(choose.between(1, 3))]
        inputs = ["t0", "t1"]
    else:
        example = random_example(choose, NOW, OPERATIONS, choose.between(1, 3))
        steps = copy.deepcopy(list(example.steps)) if example else []
        inputs = [shape.alias for shape in example.shapes] if example else ["t0"]
    data: dict[str, Any] = {
        "version": 1,
        "name": "r",
        "inputs": {alias: f"source:forms.{alias}" for alias in inputs},
        "steps": steps,
    }
    if choose.chance(20):
        column = choose.one(("n", "ज़िला", "it's", *SPITEFUL))
        data["checks"] = [
            {"check": "not_null", "column": column},
            {"check": "unique", "columns": [column]},
            {
                "check": "accepted_values",
                "column": column,
                "values": [copy.deepcopy(choose.one(ODD_VALUES)), choose.one(SPITEFUL)],
            },
            {"check": "row_count", "min": 1},
        ][: choose.between(1, 4)]
        data["output"] = {"indexes": [[column]]}
    return data


def formula(choose: Chooser) -> str:
    """A formula with pieces put in, taken out and torn apart; at times made of nothing but pieces."""
    if choose.chance(60) and FORMULAS:
        text = choose.one(list(FORMULAS))
    else:
        text = " ".join(choose.one(PIECES) for _ in range(choose.between(1, 12)))
    for _ in range(choose.one((0, 0, 1, 1, 2, 3))):
        place = choose.between(0, len(text))
        match choose.below(4):
            case 0:
                text = text[:place] + choose.one(PIECES) + text[place:]
            case 1:
                text = text[:place] + text[place + choose.between(1, 4) :]
            case 2:
                text = text[:place] + choose.one(SPITEFUL) + text[place:]
            case _:
                text = text[place:] + text[:place] if choose.chance(20) else text[:place] + text
    return "(" * 60 + text if choose.chance(1) else text


def spoil(choose: Chooser, data: Any) -> None:
    """Changes one place of the data."""
    places = list(_places(data))
    if not places:
        return
    holder, key = choose.one(places)
    value = holder[key]
    match choose.below(14):
        case 9 | 10 | 11 | 12 | 13:
            # Something of the same sort from elsewhere in the recipe: what comes out is often valid, and odd.
            alike = [other[place] for other, place in places if type(other[place]) is type(value)]
            holder[key] = copy.deepcopy(choose.one(alike))
        case 0:
            del holder[key]
        case 1:
            # Its own list or object: put into a shared one, a later change would make it hold itself.
            holder[key] = copy.deepcopy(choose.one(ODD_VALUES))
        case 2 | 3:
            holder[key] = choose.one(SPITEFUL)
        case 4:
            other, place = choose.one(places)
            holder[key] = copy.deepcopy(other[place])
        case 5 if isinstance(holder, list):
            holder.append(copy.deepcopy(value))
        case 5 if isinstance(key, str):
            holder[choose.one(SPITEFUL)] = value
        case 6 if isinstance(value, str):
            place = choose.between(0, len(value))
            holder[key] = value[:place] + choose.one(SPITEFUL) + value[place:]
        case 7 if isinstance(value, (int, float)):
            holder[key] = choose.one((value + 1, -value, value * 10**30, str(value), [value]))
        case 7 if isinstance(value, list):
            value.reverse()
        case 8 if isinstance(value, (dict, list)):
            holder[key] = {"all": [value] * choose.between(1, 3)} if isinstance(value, dict) else [value]
        case _:
            holder[key] = [value] if choose.chance(50) else {"column": value}


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        yield data, key
        yield from _places(value)


def run(url: str, seed: int, start: int, cases: int, most_faults: int = 20) -> tuple[Counter[str], list[str]]:
    """Tally and faults of a range of cases."""
    faults: list[str] = []
    with Field.laid_out(url) as field:
        for number in range(start, start + cases):
            data = case(seed, number)
            try:
                field.run(data)
            except Fault as fault:
                faults.append(f"case {number} of seed {seed}: {fault}\n{data!r}")
                if len(faults) >= most_faults:
                    break
            if (number + 1 - start) % 10_000 == 0:
                sys.stderr.write(f"{number + 1 - start} cases, {len(faults)} faults\n")
        return field.tally, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--url", default="postgresql://postgres@127.0.0.1:5432/postgres")
    given = parser.parse_args()
    with fresh_database(given.url, "fuzz") as url:
        tally, faults = run(url, given.seed, given.start, given.cases)
    counts = ", ".join(f"{count} {name}" for name, count in tally.most_common())
    which = f"{given.cases} cases from {given.start} of seed {given.seed}"
    sys.stdout.write("\n\n".join([*faults, f"{which}: {len(faults)} faults; {counts}\n"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
