"""What sensors ask at each tick is found by index: the plans of PostgreSQL on a catalog of some size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from benchmarks.sensor_tick import FILL, MAKE_DUE, MAKE_STALE, SETTLE
from datasense_assets.catalog.state import (
    count_due,
    due_rereads,
    due_sources,
    mark_outdated,
    open_requests,
    sources_to_replan,
    stale_recipes,
)

COMPILER = 1
RECENT = timedelta(minutes=5)
BIG = {"sources", "source_tables", "source_status", "table_status", "recipes", "recipe_status", "recipe_inputs"}
BIG |= {"rereads", "sync_requests", "credentials"}


_SERVED = """
INSERT INTO datasense.rereads (source_id, due_at) SELECT id, now() + interval '1 day' FROM datasense.sources
    ON CONFLICT (source_id) DO UPDATE SET due_at = excluded.due_at;
INSERT INTO datasense.sync_requests (org_id, source_id, taken_at) SELECT org_id, id, now() FROM datasense.sources
"""


@pytest.fixture
def big(catalog: Engine) -> Iterator[Connection]:
    """1,000 sources with a recipe each, none due and none stale."""
    with catalog.connect() as connection:
        connection.execute(text(FILL.format(orgs=200, compiler=COMPILER).replace(":", "\\:")))
        connection.execute(text(_SERVED))
        connection.commit()
        connection.execute(text(SETTLE))
        connection.commit()
        connection.execute(text("ANALYZE"))
        connection.commit()
        yield connection


class Plans:
    """Explains every SELECT, and every UPDATE, that goes through a connection."""

    def __init__(self, connection: Connection) -> None:
        self.scanned: dict[str, str] = {}
        self.explained = 0
        self._connection = connection
        event.listen(connection, "before_cursor_execute", self._explain)

    def _explain(self, _: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not re.match(r"\s*(SELECT|WITH|UPDATE)", statement):
            return
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        (plan,) = cursor.fetchone()
        self.explained += 1
        for node in nodes((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG:
                self.scanned[node["Relation Name"]] = statement


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_a_tick_at_rest_and_one_with_some_due_scan_no_table(big: Connection) -> None:
    big.execute(text(MAKE_DUE.format(due=20)))
    plans = Plans(big)
    now = datetime.now(UTC)
    assert count_due(big, now)["waits"] == 20
    assert len(due_sources(big, now, 200)) == 20
    assert sources_to_replan(big) == []
    assert open_requests(big, 50, None) == []
    assert due_rereads(big, now, 40, None) == []
    assert plans.explained == 5
    assert plans.scanned == {}


def test_stale_recipes_are_found_by_index_and_are_those_of_a_look_at_everything(big: Connection) -> None:
    now = datetime.now(UTC)
    assert stale_recipes(big, now, COMPILER, recent=RECENT) == stale_recipes(big, now, COMPILER) == []
    big.execute(text(MAKE_STALE.format(due=5).rpartition(";")[2]))
    plans = Plans(big)
    found = stale_recipes(big, now, COMPILER, recent=RECENT)
    mark_outdated(big, found, now, None)
    assert plans.explained >= 3
    assert plans.scanned == {}
    assert len(found) == 5
    assert {row.recipe_id for row in found} == {row.recipe_id for row in stale_recipes(big, now, COMPILER)}


@pytest.mark.parametrize(
    "change",
    [
        'UPDATE datasense.recipes SET spec = \'{"inputs": {"w": "source:forms_1.visits"}}\' WHERE id = :id',
        "UPDATE datasense.organizations o SET timezone = 'Asia/Kolkata' FROM datasense.recipes r "
        "WHERE r.id = :id AND o.id = r.org_id",
        "UPDATE datasense.recipe_status SET compiler_version = 0 WHERE recipe_id = :id",
        "UPDATE datasense.recipe_status SET built_for = current_date - 2 WHERE recipe_id = :id",
        "UPDATE datasense.table_status ts SET columns_hash = 'other', columns_changed_at = now() "
        "FROM datasense.recipes r JOIN datasense.source_tables t ON t.org_id = r.org_id "
        "WHERE r.id = :id AND ts.table_id = t.id",
        "INSERT INTO datasense.recipes (org_id, name, spec) SELECT org_id, 'another', spec FROM datasense.recipes "
        "WHERE id = :id",
    ],
)
def test_whatever_makes_a_recipe_stale_is_seen_by_a_look_at_what_changed(big: Connection, change: str) -> None:
    now = datetime.now(UTC)
    (some,) = big.execute(text("SELECT min(id) FROM datasense.recipes")).one()
    big.execute(text(change.replace('": ', '"\\: ').replace("e:f", "e\\:f")), {"id": some})
    every = {row.recipe_id for row in stale_recipes(big, now, COMPILER)}
    assert every
    assert {row.recipe_id for row in stale_recipes(big, now, COMPILER, recent=RECENT)} == every


def test_what_was_stale_and_waits_is_looked_at_until_it_is_built(big: Connection) -> None:
    now = datetime.now(UTC)
    big.execute(text("UPDATE datasense.recipe_inputs SET built_version = 0 WHERE recipe_id = 1"))
    assert stale_recipes(big, now, COMPILER, recent=RECENT) == []
    mark_outdated(big, stale_recipes(big, now, COMPILER), now, None)
    assert [row.recipe_id for row in stale_recipes(big, now, COMPILER, recent=RECENT)] == [1]
    big.execute(text("UPDATE datasense.recipe_inputs SET built_version = 1 WHERE recipe_id = 1"))
    mark_outdated(big, stale_recipes(big, now, COMPILER, recent=RECENT), now, None)
    assert big.execute(text("SELECT count(outdated_since) FROM datasense.recipe_status")).scalar() == 0
