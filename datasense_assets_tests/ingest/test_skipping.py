"""A source that has not changed is asked and not read, except where that would leave the table wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from datasense_assets.catalog.models import ColumnType, Deletes, Organization, Source
from datasense_assets.connectors.errors import Unavailable
from datasense_assets.ingest import skipping
from datasense_assets_tests.ingest.conftest import FakeSource, World


def sheet(*values: str, said: str | None = "v1") -> FakeSource:
    return FakeSource(
        {"visits": [{"_id": str(i), "n": n} for i, n in enumerate(values)]}, history=False, fingerprint=said
    )


def test_an_unchanged_source_is_asked_once_and_not_read(world: World, org: Organization) -> None:
    source, fake = world.source(org), sheet("1", "2")
    first = world.sync(org, source, fake)
    before = world.rows("org_acme.forms__visits")
    for _ in range(2):
        again = world.sync(org, source, fake)
        assert (again.rows_loaded, again.changed, again.data_version) == (0, False, first.data_version)
        assert (again.row_count, again.columns, again.preview) == (2, first.columns, first.preview)
        assert again.last_partition == first.last_partition
        assert again.notes[0].startswith("unchanged since 20")
    assert fake.asked == [None, "v1", "v1"]
    assert len(fake.requests) == 1
    assert world.rows("org_acme.forms__visits") == before
    status = "rows_loaded, loaded_at = (SELECT max(loaded_at) FROM datasense.table_status), fresh_as_of > changed_at"
    assert world.rows("datasense.table_status", status, "1") == [(0, True, True)]


def test_a_changed_source_is_read_and_what_it_said_is_kept(world: World, org: Organization) -> None:
    source, fake = world.source(org), sheet("1", "2")
    world.sync(org, source, fake)
    fake.fingerprint = "v2"
    fake.rows["visits"][0]["n"] = "7"
    assert world.sync(org, source, fake).rows_loaded == 1
    world.sync(org, source, fake)
    assert fake.asked == [None, "v1", "v2"]
    assert len(fake.requests) == 2
    fake.fingerprint = None
    world.sync(org, source, fake)
    world.sync(org, source, fake)
    assert fake.asked[3:] == ["v2", None]
    assert len(fake.requests) == 4


def test_what_a_failed_load_was_told_is_not_kept(world: World, org: Organization) -> None:
    source, fake = world.source(org), sheet("1", "2", "3")
    world.sync(org, source, fake)
    fake.fingerprint, fake.fail_at = "v2", {"visits": 1}
    with pytest.raises(Unavailable):
        world.sync(org, source, fake)
    fake.fail_at = {}
    world.sync(org, source, fake)
    assert fake.asked == [None, "v1", "v1"]
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE org_acme.forms__visits",
        "ALTER TABLE org_acme.forms__visits DROP COLUMN n",
        "ALTER TABLE org_acme.forms__visits ALTER COLUMN n TYPE text",
        "DELETE FROM org_acme.forms__visits WHERE n = 1",
        "TRUNCATE org_acme.forms__visits",
        "INSERT INTO org_acme.forms__visits (_ds_row_id, n) VALUES ('x', 9)",
    ],
)
@pytest.mark.parametrize("said", ["v1", None])
def test_a_table_that_was_changed_by_hand_is_put_right(
    world: World, org: Organization, damage: str, said: str | None
) -> None:
    source, fake = world.source(org), sheet("1", "2", said=said)
    world.sync(org, source, fake)
    world.execute(damage)
    world.sync(org, source, fake)
    assert fake.asked == [None, None]
    assert [str(row[0]) for row in world.rows("org_acme.forms__visits", "n")] == ["1", "2"]


def _config(source: Source) -> dict[str, Any]:
    return {"config": {"url": "other.csv"}}


def _deletes(source: Source) -> dict[str, Any]:
    return {"deletes": Deletes.REMOVE}


@pytest.mark.parametrize("change", [_config, _deletes])
def test_changed_settings_read_again(
    world: World, org: Organization, change: Callable[[Source], dict[str, Any]]
) -> None:
    source, fake = world.source(org), sheet("1", "2")
    world.sync(org, source, fake)
    world.sync(org, source.model_copy(update=change(source)), fake)
    assert len(fake.requests) == 2


def test_changed_types_keys_and_time_zones_read_again(world: World, org: Organization) -> None:
    source, fake = world.source(org), sheet("1", "2")
    world.sync(org, source, fake)
    world.execute('UPDATE datasense.source_tables SET types = \'{"n": "text"}\'')
    world.sync(org, source, fake)
    assert world.types("org_acme", "forms__visits")["n"] == ColumnType.TEXT
    world.execute("UPDATE datasense.source_tables SET key = '{n}'")
    world.sync(org, source, fake)
    world.sync(org.model_copy(update={"timezone": "Asia/Kolkata"}), source, fake)
    assert len(fake.requests) == 4


def test_another_version_of_this_program_reads_again(
    world: World, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, fake = world.source(org), sheet("1", "2")
    world.sync(org, source, fake)
    monkeypatch.setattr(skipping, "LOADING_VERSION", skipping.LOADING_VERSION + 1)
    world.sync(org, source, fake)
    assert fake.asked == [None, None]
    assert len(fake.requests) == 2


def test_a_full_sync_reads_again(world: World, org: Organization) -> None:
    source, fake = world.source(org), sheet("1", "2")
    world.sync(org, source, fake)
    world.sync(org, source, fake, full=True)
    assert fake.asked == [None, None]
    assert len(fake.requests) == 2
