"""Types that the user sets by hand go before those that a table already has, and what stands in their way is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.catalog.models import Deletes, Organization, Source
from datasense_assets.ingest.casting import cast
from datasense_assets.ingest.retyping import MOST_GIVEN_UP, retyping
from datasense_assets.ingest.schema import PG_TYPES
from datasense_assets.ingest.typing import Vote
from datasense_assets_tests.ingest.conftest import FakeSource, World, at

TABLE = "org_acme.forms__visits"
KINDS = pytest.mark.parametrize("history", [True, False], ids=["upsert", "mirror"])


def forms(*values: str | None, history: bool = True) -> FakeSource:
    rows = [{"_id": f"r{i:02d}", "_at": at(i), "v": value} for i, value in enumerate(values)]
    return FakeSource({"visits": rows}, history=history)


def set_types(world: World, **types: str) -> None:
    world.execute(f"UPDATE datasense.source_tables SET types = '{json.dumps(types)}'")


def values(world: World) -> list[Any]:
    return [value for (value,) in world.rows(TABLE, "v")]


def lasting(world: World) -> dict[str, str]:
    return dict(world.rows("datasense.table_status", "column_notes", "1")[0][0])


@KINDS
@pytest.mark.parametrize(
    ("written", "was", "wanted", "result"),
    [
        (["yes", "no", None], "text", T.BOOLEAN, [True, False, None]),
        (["1", "0", "1"], "bigint", T.BOOLEAN, [True, False, True]),
        (["007", "12", "n/a"], "text", T.INTEGER, [7, 12, None]),
        (["1", "2", "3"], "bigint", T.NUMBER, [1.0, 2.0, 3.0]),
        (["1.5", "2", " 3"], "double precision", T.TEXT, ["1.5", "2", "3"]),
    ],
)
def test_a_type_set_by_hand_is_taken_by_what_is_there(
    world: World, org: Organization, history: bool, written: list[str | None], was: str, wanted: T, result: list[Any]
) -> None:
    source, fake = world.source(org), forms(*written, history=history)
    world.sync(org, source, fake)
    assert world.types("org_acme", "forms__visits")["v"] == was
    set_types(world, v=wanted.value)
    (change,) = world.sync(org, source, fake).schema_changes
    assert (change.kind, change.new_type) == ("retyped", wanted)
    if wanted is T.TEXT and not history:
        result = ["1.5", "2", " 3"]  # as the source writes it, since all of it was loaded again
    assert values(world) == result
    fake.rows["visits"].append({"_id": "r99", "_at": at(99), "v": written[0]})
    assert world.sync(org, source, fake).schema_changes == ()
    assert values(world) == [*result, result[0]]
    assert lasting(world) == {}


def test_a_value_in_the_table_that_is_not_of_the_type_keeps_it_as_it_is_and_is_named(
    world: World, org: Organization
) -> None:
    source, fake = world.source(org), forms("1", "x", "3")
    world.sync(org, source, fake)
    set_types(world, v="integer")
    report = world.sync(org, source, fake)
    assert values(world) == ["1", "x", "3"]
    said = "has values that are not of the type integer set in `types` (such as 'x'); it is text"
    assert f"v: {said}" in report.notes
    assert lasting(world) == {"v": said}
    fake.rows["visits"][1] = {"_id": "r01", "_at": at(9), "v": "2"}
    report = world.sync(org, source, fake)
    assert (report.notes, report.schema_changes) == ((f"v: {said}",), ())  # it was in the table when that was decided
    assert [change.new_type for change in world.sync(org, source, fake).schema_changes] == ["integer"]
    assert values(world) == [1, 2, 3]
    assert lasting(world) == {}


def test_what_the_load_itself_brings_is_named_too(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms("1", "2")
    world.sync(org, source, fake)
    set_types(world, v="boolean")
    report = world.sync(org, source, fake, full=True)
    assert report.notes == (
        "v: has values that are not of the type boolean set in `types` (such as '2'); it is integer",
    )
    assert values(world) == [1, 2]


def test_of_a_mirror_only_what_the_source_has_now_counts(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms("1", "gone tomorrow", history=False)
    world.sync(org, source, fake)
    fake.rows["visits"].pop()
    report = world.sync(org, source, fake)
    still = "held other values once and stays text, though all are of the type integer now; `types` can change it"
    assert report.notes == (f"v: {still}",)
    assert lasting(world) == {"v": still}
    fake.rows["visits"].append({"_id": "r50", "_at": at(50), "v": "gone tomorrow"})
    world.sync(org, source, fake)
    fake.rows["visits"].pop()
    set_types(world, v="integer")
    world.sync(org, source, fake)
    assert values(world) == [1]
    assert lasting(world) == {}


def test_a_mirror_with_too_many_other_values_says_so(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.ingest import retyping as module

    monkeypatch.setattr(module, "MOST_GIVEN_UP", 2)
    assert MOST_GIVEN_UP > 2
    source, fake = world.source(org), forms("a", "b", "c", history=False)
    world.sync(org, source, fake)
    fake.rows["visits"] = forms("1", "2", "3").rows["visits"]
    set_types(world, v="integer")
    assert "such as" in world.sync(org, source, fake).notes[0]
    assert values(world) == ["1", "2", "3"]
    world.sync(org, source, fake, full=True)
    assert values(world) == [1, 2, 3]


def test_rows_that_are_marked_as_deleted_keep_their_values(world: World, org: Organization) -> None:
    source: Source = world.source(org, deletes=Deletes.MARK)
    fake = forms("1", "x", history=False)
    world.sync(org, source, fake)
    fake.rows["visits"].pop()
    set_types(world, v="integer")
    assert "such as 'x'" in world.sync(org, source, fake).notes[0]
    assert values(world) == ["1", "x"]


def test_a_load_that_dies_between_new_type_and_new_rows_is_made_good(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms("1", "x", history=False)
    world.sync(org, source, fake)
    fake.rows["visits"][1]["v"] = "2"
    set_types(world, v="integer")
    with world.open(org, source, fake) as died:
        died.parts.ensure(died.prepare(world.tables(source)["visits"]))
    assert values(world) == [1, None]
    world.sync(org, source, fake)
    assert values(world) == [1, 2]


def test_a_name_that_is_no_columns_is_said(world: World, org: Organization) -> None:
    source, fake = world.source(org, types={"vv": T.TEXT}), forms("1")
    assert world.sync(org, source, fake).notes == ("vv: is named in `types`, and the table has no such column",)
    set_types(world, v="text")
    assert world.sync(org, source, fake).notes == ()
    assert lasting(world) == {}


def test_what_is_said_of_a_column_lasts_while_no_other_value_comes(world: World, org: Organization) -> None:
    source, fake = world.source(org), forms("31/12/2025", "01/02/2026")
    world.sync(org, source, fake)
    assert "dates that can be read in more than one way" in lasting(world)["v"]
    world.sync(org, source, fake)
    fake.rows["visits"].append({"_id": "r50", "_at": at(50), "v": "7"})
    assert world.sync(org, source, fake).notes == ()  # which alone could be read in one way only
    assert "dates that can be read in more than one way" in lasting(world)["v"]
    set_types(world, v="text")
    world.sync(org, source, fake)
    assert lasting(world) == {}


NUMBERS = "|n/a| 7 |007|+4|-3|12345678901234567|9223372036854775808|1.50|.5|-0.25|1e-3|\u00a05\u2003"
WORDS = 'yes|NO|true|0|1|{"a": 1}|10:15|10:15:30.25|25:00|2026-03-01|2026-02-30'
SKIPPED = "2026-03-29 00:30|2026-03-29 01:30"
MOMENTS = "2026-03-01T10:00:00Z|2026-10-25 01:30:00|2026-10-25T01:30:00+01:00|2026-10-25 02:00"
WRITTEN = st.sampled_from("|".join((NUMBERS, WORDS, SKIPPED, MOMENTS)).split("|"))


@pytest.fixture
def bare(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        yield connection


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WRITTEN, min_size=1, max_size=6), st.sampled_from([t for t in T if t is not T.TEXT]))
def test_converting_in_place_is_as_loading_anew(bare: psycopg.Connection, written: list[str], wanted: T) -> None:
    bare.execute("DROP TABLE IF EXISTS public.t")
    bare.execute("CREATE TABLE public.t (i serial, v text)")
    bare.cursor().executemany("INSERT INTO public.t (v) VALUES (%s)", [(each,) for each in written])
    page = pa.chunked_array([pa.array(written, pa.string())])
    vote = Vote(wanted)
    vote.add(page)
    how = retyping(bare, "public", "t", "v", T.TEXT, wanted, timezone="Europe/London", replaced=False)
    assert (how.misfit is None) == vote.fits(wanted)
    if how.misfit is not None:
        assert how.misfit in written
        return
    bare.execute("CREATE TEMP TABLE anew (i int, v text) ON COMMIT DROP")
    loaded = cast(page, wanted, "Europe/London")
    if wanted is T.DATETIME:
        loaded = loaded.cast(pa.string())
    pairs = [(i, None if v is None else str(v)) for i, v in enumerate(loaded.to_pylist(), 1)]
    bare.cursor().executemany("INSERT INTO anew VALUES (%s, %s)", pairs)
    alter = sql.SQL("ALTER TABLE public.t ALTER v TYPE {} USING {}").format(sql.SQL(PG_TYPES[wanted]), how.using)
    bare.execute(alter)
    compared = sql.SQL(
        "SELECT count(*) FROM public.t JOIN anew USING (i) WHERE t.v IS DISTINCT FROM anew.v::{}"
    ).format(sql.SQL(PG_TYPES[wanted]))
    assert bare.execute(compared).fetchone() == (0,)
    bare.commit()
