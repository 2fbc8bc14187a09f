"""Results kept as views and as tables in which only changed rows are replaced: what is refused, and what comes out."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import ibis
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from datasense_assets.catalog.state import LastBuild
from datasense_assets.recipes import Recipe, RecipeErrors, TableRef
from datasense_assets.recipes.build import BuildReport, build_recipe
from datasense_assets.recipes.inputs import ibis_type
from datasense_assets.recipes.making import BuildFailed
from datasense_assets.warehouse.reading import table_columns
from datasense_assets.warehouse.swap import SessionLimits, SwapRefused
from datasense_assets.warehouse.views import own_views
from datasense_assets_tests.at_length import examples

COLUMNS = {
    "_ds_row_id": "text PRIMARY KEY",
    "_ds_loaded_at": "timestamptz",
    "_ds_deleted_at": "timestamptz",
    "name %s": "text",
    "n": "bigint",
    "at": "timestamptz",
    "day": "date",
}


class Yard:
    """A schema with one source's table, and recipes over it."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.schema = f"org_{uuid.uuid4().hex[:8]}"
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self.schema)))
        parts = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in COLUMNS.items()]
        self.execute("CREATE TABLE {s}.forms__t ({c})", c=sql.SQL(", ").join(parts))
        self.builds: dict[str, LastBuild] = {}
        self.moment = 0

    def execute(self, statement: str, **names: Any) -> psycopg.Cursor[Any]:
        return self.connection.execute(sql.SQL(statement).format(s=sql.Identifier(self.schema), **names))  # type: ignore[arg-type]

    def put(self, row_id: str, name: str | None, n: int | None) -> None:
        """A row as a load writes it: new, or in place of the one with its id."""
        self.moment += 1
        self.execute("DELETE FROM {s}.forms__t WHERE _ds_row_id = {i}", i=sql.Literal(row_id))
        self.execute(
            "INSERT INTO {s}.forms__t VALUES ({i}, to_timestamp({m}), NULL, {name}, {n}, NULL, NULL)",
            i=sql.Literal(row_id),
            m=sql.Literal(self.moment),
            name=sql.Literal(name),
            n=sql.Literal(n),
        )

    def mark(self, row_id: str, gone: bool) -> None:
        self.execute(
            "UPDATE {s}.forms__t SET _ds_deleted_at = {d} WHERE _ds_row_id = {i}",
            d=sql.SQL("now()" if gone else "NULL"),
            i=sql.Literal(row_id),
        )

    def remove(self, row_id: str) -> None:
        self.execute("DELETE FROM {s}.forms__t WHERE _ds_row_id = {i}", i=sql.Literal(row_id))

    def ref(self, table: str) -> TableRef:
        found = table_columns(self.connection, self.schema, table)
        return TableRef(self.schema, table, ibis.schema({c.name: ibis_type(c.pg_type) for c in found}))

    def build(
        self, name: str, steps: list[dict[str, Any]], source: str = "source:forms.t", **output: Any
    ) -> BuildReport:
        recipe = Recipe.parse({"version": 1, "name": name, "inputs": {"t": source}, "steps": steps, "output": output})
        table = "forms__t" if source.startswith("source") else source.partition(":")[2]
        self.moment += 1
        report = build_recipe(
            self.connection,
            self.schema,
            recipe,
            {"t": self.ref(table)},
            versions={"t": self.moment},
            last=self.builds.get(name),
            limits=SessionLimits(timezone="Asia/Kolkata"),
        )
        self.builds[name] = LastBuild(
            1, report.rows, None, report.definition_hash, report.build_key, report.columns_hash, report.content_hash
        )
        return report

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return sorted(self.execute("SELECT * FROM {s}.{t}", t=sql.Identifier(table)).fetchall(), key=repr)

    def oid(self, table: str) -> Any:
        row = self.connection.execute(
            "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))::oid", (self.schema, table)
        ).fetchone()
        return row and row[0]


@pytest.fixture
def yard(recipe_database: str) -> Iterator[Yard]:
    with psycopg.connect(recipe_database, autocommit=True, prepare_threshold=None) as connection:
        made = Yard(connection)
        yield made
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(made.schema)))


STEPS: list[dict[str, Any]] = [
    {"op": "rename", "columns": {"_ds_row_id": "id"}},
    {"op": "filter", "where": {"column": "n", "operator": ">=", "value": 0}},
    {"op": "formula", "column": "twice", "formula": "n * 2"},
    {"op": "clean_text", "columns": ["name %s"], "actions": ["upper"]},
    {"op": "cast", "columns": [{"column": "name %s", "to": "integer"}]},
    {"op": "drop", "columns": ["at", "day", "_ds_deleted_at"]},
]
KEPT = {"materialize": "incremental", "key": ["id"]}

IDS = st.sampled_from(["a", "it's %s", "उ"])
TEXTS = st.sampled_from([None, "1", "x", " 7 "])
CHANGE = st.one_of(
    st.tuples(st.just("put"), IDS, TEXTS, st.sampled_from([None, -1, 0, 1, 2])),
    st.tuples(st.just("gone"), IDS),
    st.tuples(st.just("back"), IDS),
    st.tuples(st.just("remove"), IDS),
)
ROUNDS = st.lists(st.lists(CHANGE, min_size=1, max_size=4), min_size=1, max_size=6)


def change(yard: Yard, what: tuple[Any, ...]) -> None:
    if what[0] == "put":
        yard.put(*what[1:])
    elif what[0] == "remove":
        yard.remove(what[1])
    else:
        yard.mark(what[1], gone=what[0] == "gone")


@settings(
    max_examples=examples(20, deep=1_200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROUNDS)
def test_changed_rows_give_what_the_whole_would(yard: Yard, rounds: list[list[tuple[Any, ...]]]) -> None:
    yard.execute("DELETE FROM {s}.forms__t")
    yard.builds.clear()
    for row_id in ("a", "उ"):
        yard.put(row_id, "1", 1)
    yard.build("kept", STEPS, **KEPT)
    oid = yard.oid("kept")
    for changes in rounds:
        for what in changes:
            change(yard, what)
        report = yard.build("kept", STEPS, **KEPT)
        whole = yard.build("whole", STEPS)
        assert report.rows_removed is not None, "it was built whole"
        assert (report.rows, report.content_hash) == (whole.rows, whole.content_hash)
        assert report.lossy_casts == whole.lossy_casts
        assert yard.rows("kept") == yard.rows("whole")
    assert yard.oid("kept") == oid


def test_only_changed_rows_are_written(yard: Yard) -> None:
    for i in range(100):
        yard.put(f"r{i}", "1", i)
    assert yard.build("kept", STEPS, **KEPT).rows_removed is None
    yard.put("r3", "2", 3)
    yard.put("new", "2", 3)
    yard.put("r4", "2", -3)
    yard.mark("r5", gone=True)
    yard.remove("r6")
    report = yard.build("kept", STEPS, **KEPT)
    assert (report.rows_removed, report.rows_written, report.rows) == (4, 2, 98)


def test_another_recipe_another_schema_or_a_dropped_table_is_built_whole(yard: Yard) -> None:
    yard.put("a", "1", 1)
    yard.build("kept", STEPS, **KEPT)
    other = [{**step, "formula": "n * 3"} if step["op"] == "formula" else step for step in STEPS]
    assert yard.build("kept", other, **KEPT).rows_removed is None
    assert yard.rows("kept")[0][-1] == 3
    assert yard.build("kept", other, **KEPT).rows_removed == 0
    yard.execute("ALTER TABLE {s}.forms__t ADD COLUMN more bigint DEFAULT 5")
    assert yard.build("kept", other, **KEPT).rows_removed is None
    assert 5 in yard.rows("kept")[0]
    yard.execute("DROP TABLE {s}.kept")
    assert yard.build("kept", other, **KEPT).rows_removed is None
    # what depends on the day is made anew on another one
    dated = [*STEPS, {"op": "formula", "column": "today", "formula": "today()"}]
    yard.build("dated", dated, **KEPT)
    first = yard.builds["dated"].definition_hash
    assert yard.build("dated", dated, **KEPT).rows_removed == 0
    assert yard.builds["dated"].definition_hash == first


def op(name: str, **fields: Any) -> dict[str, Any]:
    return {"op": name, **fields}


SOURCE = "source:forms.t"


@pytest.mark.parametrize(
    ("steps", "source", "output", "code", "said"),
    [
        ([op("sort", by=["n"]), op("limit", rows=1)], SOURCE, {}, "invalid_value", "Step 1 (sort), Step 2 (limit)"),
        ([op("fill_missing", columns=["n"], method="down", order_by=["day"])], SOURCE, {}, "invalid_value", "several"),
        ([], "recipe:t2", {}, "invalid_value", "and 't' is a recipe"),
        ([op("formula", column="x", formula="now()")], SOURCE, {}, "invalid_value", "now()"),
        ([op("drop", columns=["_ds_row_id"])], SOURCE, {}, "unknown_column", "_ds_row_id"),
        ([op("clean_text", columns=["_ds_row_id"], actions=["upper"])], SOURCE, {}, "invalid_value", "as it came"),
        ([op("select", columns=["_ds_row_id", "n"])], SOURCE, {}, "missing_field", "_ds_loaded_at"),
        ([], SOURCE, {"key": ["n"]}, "invalid_value", "'n' is not the source's"),
    ],
)
def test_what_cannot_be_kept_incrementally_says_why(
    yard: Yard, steps: list[dict[str, Any]], source: str, output: dict[str, Any], code: str, said: str
) -> None:
    yard.execute("CREATE TABLE {s}.t2 AS TABLE {s}.forms__t")
    with pytest.raises(RecipeErrors) as caught:
        yard.build("kept", steps, source, **{"materialize": "incremental", "key": ["_ds_row_id"], **output})
    assert [error.code for error in caught.value.errors] == [code]
    assert said in caught.value.errors[0].message
    assert yard.oid("kept") is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"materialize": "incremental"}, ("missing_field", "output.key")),
        ({"key": ["_ds_row_id"]}, ("invalid_value", "output")),
        ({"materialize": "view", "indexes": [["n"]]}, ("invalid_value", "output")),
        ({"materialize": "cube"}, ("invalid_value", "output.materialize")),
    ],
)
def test_mistakes_of_form(output: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Recipe.parse({"version": 1, "name": "r", "inputs": {"t": "source:a.b"}, "output": output})
    assert [(error.code, error.path) for error in caught.value.errors] == [expected]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"op": "formula", "column": "x", "formula": "today()"}, "today's date"),
        ({"op": "filter", "where": {"column": "day", "operator": "in_last", "value": "7 days"}}, "today's date"),
        ({"op": "date_part", "column": "at", "part": "hour"}, "hour of a moment"),
        ({"op": "date_part", "column": "at", "part": "trunc_month"}, "hour of a moment"),
        ({"op": "formula", "column": "x", "formula": "start_of(at, 'day')"}, "hour of a moment"),
        ({"op": "formula", "column": "x", "formula": "date_diff(at, _ds_loaded_at)"}, "hour of a moment"),
        ({"op": "cast", "columns": [{"column": "at", "to": "date"}]}, "hour of a moment"),
        ({"op": "cast", "columns": [{"column": "day", "to": "datetime"}]}, "read as moments"),
        ({"op": "cast", "columns": [{"column": "name %s", "to": "datetime"}]}, "read as moments"),
        (
            {"op": "filter", "where": {"column": "at", "operator": ">", "value": "2026-01-01T00:00:00"}},
            "read as moments",
        ),
        ({"op": "cast", "columns": [{"column": "day", "to": "text"}]}, "text of a date"),
    ],
)
def test_no_view_is_made_of_what_its_reader_would_see_in_his_own_time_zone(
    yard: Yard, step: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeErrors) as caught:
        yard.build("seen", [step], materialize="view")
    assert [error.path for error in caught.value.errors] == ["output.materialize"]
    assert said in caught.value.errors[0].message


def test_a_view_shows_its_source_as_it_is_with_the_declared_types(yard: Yard) -> None:
    steps = [
        {"op": "filter", "where": {"column": "at", "operator": "is_null"}},
        {"op": "aggregate", "group_by": ["name %s"], "aggregations": [{"fn": "sum", "column": "n", "into": "total"}]},
    ]
    yard.put("a", "x", 1)
    assert yard.build("seen", steps, materialize="view").rows == 1
    assert [c.pg_type for c in table_columns(yard.connection, yard.schema, "seen")] == ["text", "bigint"]
    yard.put("b", "x", 4)
    assert yard.rows("seen") == [("x", 5)]
    # from a view to a table and back
    yard.build("seen", steps)
    yard.put("c", "x", 1)
    assert yard.rows("seen") == [("x", 5)]
    yard.build("seen", steps, materialize="view")
    assert yard.rows("seen") == [("x", 6)]


def test_a_view_is_not_made_that_fails_for_a_row_far_down_and_the_one_that_was_there_stays(yard: Yard) -> None:
    yard.execute(
        "INSERT INTO {s}.forms__t SELECT n::text, now(), NULL, n::text, n, NULL, NULL FROM generate_series(1, 40) n"
    )
    steps = [{"op": "cast", "columns": [{"column": "name %s", "to": "integer", "on_error": "fail"}]}]
    assert yard.build("seen", steps, materialize="view").rows == 40
    before = yard.oid("seen")
    yard.put("z", "forty", 41)
    # the same rows to read, of another definition
    more = [*steps, {"op": "select", "columns": ["name %s", "n"]}]
    with pytest.raises(BuildFailed, match=r"its old table stays: .* cannot be read as"):
        yard.build("seen", more, materialize="view")
    assert yard.oid("seen") == before
    yard.remove("z")
    assert yard.build("seen", more, materialize="view").rows == 40


def test_views_of_ours_come_along_in_a_swap_and_others_are_named(yard: Yard) -> None:
    yard.put("a", "x", 1)
    base = [{"op": "select", "columns": ["name %s", "n"]}]
    yard.build("base", base)
    yard.build(
        "seen",
        [{"op": "filter", "where": {"column": "n", "operator": ">", "value": 0}}],
        "recipe:base",
        materialize="view",
    )
    yard.build("above", [{"op": "select", "columns": ["n"]}], "recipe:seen", materialize="view")
    role = f"reader_{uuid.uuid4().hex[:8]}"
    yard.connection.execute(f"CREATE ROLE {role}")
    try:
        yard.execute("GRANT SELECT ON {s}.above TO {r}", r=sql.Identifier(role))
        yard.execute("COMMENT ON VIEW {s}.above IS 'All of it'")
        yard.put("b", "y", 2)
        assert yard.build("base", base).lost_views == ()
        assert yard.rows("above") == [(1,), (2,)]
        assert [view.name for view in own_views(yard.connection, yard.schema, "base")] == ["seen", "above"]
        kept = yard.connection.execute(
            "SELECT obj_description(%(v)s::regclass), has_table_privilege(%(r)s, %(v)s, 'SELECT')",
            {"v": f"{yard.schema}.above", "r": role},
        ).fetchone()
        assert kept == ("All of it", True)
        # a column that they need goes: they go with it, and are told of
        without = [{"op": "select", "columns": ["name %s"]}]
        assert yard.build("base", without).lost_views == (f"{yard.schema}.seen", f"{yard.schema}.above")
        assert yard.oid("seen") is None
        yard.build("base", base)
        yard.execute("CREATE VIEW {s}.mine AS SELECT n FROM {s}.base")
        with pytest.raises(SwapRefused, match=r"view .*mine"):
            yard.build("base", base)
    finally:
        yard.connection.execute(f"DROP OWNED BY {role}")
        yard.connection.execute(f"DROP ROLE {role}")
