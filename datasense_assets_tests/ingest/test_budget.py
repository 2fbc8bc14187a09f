"""The quotas of one source: which bind a call to which host, and what a source may not wait for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from datasense_assets.catalog.migrate import migrate
from datasense_assets.connectors import quotas_of
from datasense_assets.connectors.base import Quota
from datasense_assets.connectors.errors import OutOfQuota
from datasense_assets.ingest.budget import SharedBudget
from datasense_assets.warehouse.database import engine

KEY = json.dumps(
    {"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": "x", "project_id": "p"}
)


@pytest.fixture
def catalog(database_url: str) -> Iterator[Engine]:
    made = engine(database_url)
    migrate(made)
    yield made
    made.dispose()


def counted(catalog: Engine) -> set[tuple[str, str]]:
    with catalog.connect() as connection:
        return {
            (row.name, row.host) for row in connection.execute(text("SELECT name, host FROM datasense.quota_state"))
        }


def test_googles_servers_are_counted_each_by_its_own_quotas(catalog: Engine) -> None:
    quotas = quotas_of("google_sheets", {"spreadsheet": "s"}, {"service_account": KEY})
    budget = SharedBudget(catalog, quotas, longest_wait=60)
    for host in ("oauth2.googleapis.com", "www.googleapis.com", "sheets.googleapis.com"):
        with budget.call(host) as waited:
            assert waited < 60
    assert counted(catalog) == {
        ("google_sheets.user", "sheets.googleapis.com"),
        ("google_sheets.project", "sheets.googleapis.com"),
        ("google_drive.project", "www.googleapis.com"),
        ("google_sheets.elsewhere", "oauth2.googleapis.com"),
    }


def test_two_users_of_a_project_share_its_quota_and_not_their_own(catalog: Engine) -> None:
    other = KEY.replace("a@p", "b@p")
    for key in (KEY, other):
        budget = SharedBudget(
            catalog, quotas_of("google_sheets", {"spreadsheet": "s"}, {"service_account": key}), longest_wait=0
        )
        with budget.call("sheets.googleapis.com"):
            pass
    with catalog.connect() as connection:
        rows = connection.execute(text("SELECT name FROM datasense.quota_state ORDER BY name")).scalars().all()
    assert rows == ["google_sheets.project", "google_sheets.user", "google_sheets.user"]


@pytest.mark.parametrize("reason", ["blocked", "spent", "held"])
def test_a_longer_wait_than_is_allowed_asks_nothing_and_says_when_to_come_again(catalog: Engine, reason: str) -> None:
    quota = Quota("test.account", calls=1 if reason == "spent" else None, one_at_a_time=reason == "held")
    first, second = (SharedBudget(catalog, [quota], longest_wait=1.0) for _ in range(2))
    with first.call("x.org"):
        if reason == "blocked":
            first.block("x.org", 300)
        with pytest.raises(OutOfQuota) as caught, second.call("x.org"):
            raise AssertionError("the call was allowed")
    words = {"blocked": "left alone for 300 s", "spent": "used up", "held": "one request at a time"}
    assert words[reason] in caught.value.message
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= (290 if reason == "blocked" else 1.0)
    assert not caught.value.permanent
