"""A form, or a tab, that is gone or broken does not stop its siblings; a retry takes only what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from datasense_assets import definitions
from datasense_assets.connectors import http
from datasense_assets.running import failures
from datasense_assets.running.scope import scope_of, scoped_to
from datasense_assets.running.tags import selected
from datasense_assets_tests.assets.conftest import TOKEN, Yard
from datasense_assets_tests.places import today
from datasense_assets_tests.stand_ins import google_book, google_sheets, surveycto
from examples import kobo_faults
from examples.kobo_form import Form
from examples.kobo_stand_in import serve as serve_kobo

PATH = "clean_water/forms"
AT = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = ("broken", "whole")  # the broken one comes first


@dataclass
class Case:
    """A source of two tables. `lose` takes the first away; `fail` makes its next reading fail in passing; `asked`
    counts how often the second was asked for.
    """

    source: dict[str, Any]
    lose: Callable[[], object]
    fail: Callable[[], object]
    asked: Callable[[], int]


@contextmanager
def kobo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    forms = [Form(name, name, {"survey": [{"type": "integer", "name": "n"}]}) for name in TABLES]
    for form in forms:
        form.add({"n": "1"}, at=AT)
    with serve_kobo(forms, token=TOKEN) as server:
        source = {"config": {"base_url": server.url}, "credentials": {"token": {"env": "CLEAN_WATER_KOBO_TOKEN"}}}
        yield Case(
            {"connector": "kobo", **source},
            lambda: server.fail(kobo_faults.missing("/assets/broken/", 99)),
            lambda: server.fail(kobo_faults.unavailable(path="/assets/broken/data/")),
            lambda: server.count_requests("/assets/whole/data/"),
        )


@contextmanager
def scto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    forms = [surveycto.Form(name, ["n"]) for name in TABLES]
    for form in forms:
        form.add({"n": "1"}, at=AT)
    monkeypatch.setenv("SCTO_USER", surveycto.USER)
    monkeypatch.setenv("SCTO_PASS", surveycto.PASSWORD)
    with surveycto.serve(forms) as server:
        monkeypatch.setattr(surveycto, "FULL_PULL_SECONDS", 0)
        source = {
            "config": {"server": server.url},
            "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
        }
        yield Case(
            {"connector": "surveycto", **source},
            lambda: server.forms.pop("broken"),
            lambda: server.fail(kobo_faults.unavailable(path="/json/broken")),
            lambda: sum("/json/whole" in request.path for request in server.requests),
        )


@contextmanager
def sheets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    account = google_sheets.Account("reader@project.iam.gserviceaccount.com")
    tabs = [google_book.Tab(name, [["n"], [1]]) for name in TABLES]
    book = google_book.Book("b1", "Field book", tabs, {account.email})
    with google_sheets.serve([book], [account]) as server:
        monkeypatch.setenv("GOOGLE_KEY", account.key(server.url))
        source = {
            "config": {"spreadsheet": "b1", "api_base_url": server.url},
            "credentials": {"service_account": {"env": "GOOGLE_KEY"}},
        }

        def lose() -> None:
            tabs[0].title = "renamed"

        yield Case(
            {"connector": "google_sheets", **source},
            lose,
            lambda: server.fail(kobo_faults.unavailable(path="/values")),
            lambda: -1,  # both tabs are asked for together
        )


def apply(yard: Yard, case: Case) -> None:
    tables = [{"slug": name, "resource": name} for name in TABLES]
    yard.apply({"slug": "forms", **case.source, "tables": tables, "partitions": {"start": today(ago=30)}})


@pytest.mark.parametrize("kind", [kobo, scto, sheets])
def test_what_is_gone_is_named_and_the_rest_is_loaded(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any]
) -> None:
    with kind(monkeypatch) as case:
        apply(yard, case)
        case.lose()
        done = yard.run(PATH, partition=today())
        assert not done.success
        assert set(done.materialized) == {("clean_water", "forms", "whole")}
        assert "broken: " in done.failures[0]
        assert "whole: " not in done.failures[0]
        assert yard.rows("SELECT count(*) FROM org_clean_water.forms__whole") == [(1,)]
        paused = yard.rows("SELECT count(*) FROM datasense.pauses")
        assert paused == [(0,)]  # one form that is gone is no reason to stop the others


@pytest.mark.parametrize("kind", [kobo, scto, sheets])
def test_a_retry_takes_only_what_failed(yard: Yard, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any]) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(failures, "wait_before_retry", lambda number, asked: 0.0)
    with kind(monkeypatch) as case:
        apply(yard, case)
        case.fail()
        keys = yard.keys(PATH)
        with scoped_to(scope_of(selected(keys))):  # type: ignore[arg-type]
            graph = definitions.definitions()
        asked: list[int] = []
        retried = failures.as_dagster

        def count(*args: Any, **how: Any) -> Any:
            asked.append(case.asked())
            assert [table for table, _ in args[0]] == ["broken"]
            return retried(*args, **how)

        monkeypatch.setattr("datasense_assets.assets.loading.as_dagster", count)
        result = dg.materialize(
            [asset for asset in graph.assets or () if isinstance(asset, dg.AssetsDefinition)],
            instance=yard.instance,
            partition_key=today(),
            raise_on_error=False,
        )
        assert result.success
        made = [event.asset_key for event in result.get_asset_materialization_events()]
        assert sorted({key.path[-1] for key in made if key is not None}) == ["broken", "whole"]
        assert asked == [case.asked()]  # tried again once, and the whole one not asked for any more
        for name in TABLES:
            assert yard.rows(f"SELECT count(*) FROM org_clean_water.forms__{name}") == [(1,)]
