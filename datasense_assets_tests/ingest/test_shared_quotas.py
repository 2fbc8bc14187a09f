"""Worker processes that read with shared credentials: together they stay within what the server allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.catalog.migrate import migrate
from datasense_assets.warehouse.database import engine
from datasense_assets_tests.ingest.dying import forks
from datasense_assets_tests.ingest.quota_worker import work
from datasense_assets_tests.stand_ins.google_book import Book, Tab
from datasense_assets_tests.stand_ins.google_sheets import Account, Google, Quota, serve
from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Form, StandIn
from datasense_assets_tests.stand_ins.surveycto import serve as serve_surveycto
from examples import kobo_faults
from examples.kobo_stand_in import serve as serve_kobo
from examples.make_submissions import demo_accounts

PROCESSES = 6


class Workers:
    """Processes on one catalog, started together."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.environment = {
            "DATASENSE_DATABASE_URL": url,
            "DATASENSE_HOME": str(home / "state"),
            "DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true",
        }
        migrate(engine(url))

    def apply(self, sources: Sequence[dict[str, Any]]) -> None:
        organization = {"slug": "acme", "name": "Acme"}
        text = yaml.safe_dump({"version": 1, "organization": organization, "sources": list(sources)})
        with engine(self.url).begin() as connection:
            apply_manifest(connection, parse_manifest(text, self.home / "manifest.yaml"))

    def limit(self, name: str, host: str, calls: int, seconds: float) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO datasense.quota_limits (name, host, calls, seconds) VALUES (%s, %s, %s, %s)",
                (name, host, calls, seconds),
            )

    def read(self, sources: Sequence[str], seconds: float, **settings: str) -> list[dict[str, Any]]:
        """What one process a source named tells; they read for so many seconds from the same moment on."""
        environment, context, running = {**self.environment, **settings}, forks(), []
        try:
            for source in sources:
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(environment, f"acme/{source}", seconds, theirs))
                process.start()
                running.append((process, ours))
            for _, pipe in running:
                assert pipe.poll(60), "a worker does not come to its source"
                assert pipe.recv() == "ready"
            for _, pipe in running:
                pipe.send("go")
            for _, pipe in running:
                assert pipe.poll(240), "a worker does not end"
            return [pipe.recv() for _, pipe in running]
        finally:
            for process, _ in running:
                process.kill()
                process.join()


@pytest.fixture
def workers(database_url: str, tmp_path: Path) -> Iterator[Workers]:
    yield Workers(database_url, tmp_path)
    engine(database_url).dispose()


def sheets(google: Google, accounts: Sequence[Account], folder: Path) -> list[dict[str, Any]]:
    sources = []
    for number, account in enumerate(accounts):
        key = folder / f"key-{number}.json"
        # Google's tokens come from a server of their own, which counts by itself
        key.write_text(account.key(google.url.replace("127.0.0.1", "localhost")), encoding="utf-8")
        sources.append(
            {
                "slug": f"sheet-{number}",
                "connector": "google_sheets",
                "config": {"spreadsheet": "book", "api_base_url": google.url},
                "credentials": {"service_account": {"file": str(key)}},
                "tables": [{"slug": "lines", "resource": "Lines"}],
                "schedule": "manual",
            }
        )
    return sources


# alone: beside other tests on two cores six readers lose their turns, which is no matter of the quota
@pytest.mark.alone
@pytest.mark.parametrize("shared_account", [False, True], ids=["six-users-of-a-project", "one-user"])
def test_six_processes_use_googles_quota_up_without_ever_being_refused(
    workers: Workers, tmp_path: Path, shared_account: bool
) -> None:
    window, windows = 8.0, 3  # a part of Google's minute, at two thirds of its pace, so that a slow machine keeps up
    quota = Quota(user=6, project=28, seconds=window)
    accounts = [Account(f"reader-{n}@p.iam.gserviceaccount.com") for n in range(1 if shared_account else PROCESSES)]
    book = Book("book", "Stock", [Tab("Lines", [["item"], ["Rope"], ["Bucket"]])], shared={a.email for a in accounts})
    with serve([book], accounts, quota=quota) as google:
        host = google.url.removeprefix("http://")
        workers.limit("google_sheets.user", host, quota.user, window)
        workers.limit("google_sheets.project", host, quota.project, window)
        workers.apply(sheets(google, accounts, tmp_path))
        names = [f"sheet-{n % len(accounts)}" for n in range(PROCESSES)]
        told = workers.read(names, window * windows)
        reads = google.reads()
    assert [one["failures"] for one in told] == [[]] * PROCESSES
    assert {read.status for read in reads} == {200}
    # steady: from when all have certainly begun
    begun = min(read.at for read in reads) + window
    counted = sum(begun <= read.at < begun + window * (windows - 1) for read in reads)
    allowed = (quota.user if shared_account else quota.project) * (windows - 1)
    assert 0.8 * allowed <= counted <= allowed
    assert all(one["waited"] > window for one in told)


def kobo_source(kobo: Any, form: Any, token: str = "KOBO_TOKEN", slug: str = "forms") -> dict[str, Any]:
    return {
        "slug": slug,
        "connector": "kobo",
        "config": {"base_url": kobo.url},
        "credentials": {"token": {"env": token}},
        "tables": [{"slug": "visits", "resource": form.uid}],
        "schedule": "manual",
    }


def test_a_pause_that_one_process_is_told_holds_all_the_others(workers: Workers) -> None:
    form = demo_accounts(date(2026, 1, 1))[1].forms[0]
    with serve_kobo([form], token="sesame") as kobo:
        workers.apply([kobo_source(kobo, form)])
        kobo.fail(kobo_faults.throttled(300, times=1))
        told = workers.read(["forms"] * PROCESSES, 20.0, KOBO_TOKEN="sesame")
        # how many calls the others end while the first writes the pause down is the scheduler's affair; then none
        asked = len(kobo.requests)
        later = workers.read(["forms"] * PROCESSES, 20.0, KOBO_TOKEN="sesame")
        assert len(kobo.requests) == asked
        assert [request.status for request in kobo.requests].count(429) == 1
    assert [failure[0] for one in later for failure in one["failures"]] == ["OutOfQuota"] * PROCESSES
    kinds = sorted(failure[0] for one in told for failure in one["failures"])
    assert kinds == ["OutOfQuota"] * (PROCESSES - 1) + ["Throttled"]
    assert all(180 < failure[1] <= 300 for one in told for failure in one["failures"])


def test_a_short_pause_is_waited_for_by_all_and_counted_as_throttled(workers: Workers) -> None:
    form = demo_accounts(date(2026, 1, 1))[1].forms[0]
    with serve_kobo([form], token="sesame") as kobo:
        workers.apply([kobo_source(kobo, form)])
        # longer than all of them read, so that each comes to it, however late it is given a processor
        kobo.fail(kobo_faults.throttled(12, times=1))
        told = workers.read(["forms"] * 3, 9.0, KOBO_TOKEN="sesame")
        assert [request.status for request in kobo.requests].count(429) == 1
    assert [one["failures"] for one in told] == [[]] * 3
    assert all(one["waited"] > 2.0 for one in told)


def surveycto_source(server: StandIn, form: str) -> dict[str, Any]:
    return {
        "slug": form,
        "connector": "surveycto",
        "config": {"server": server.url},
        "credentials": {"username": {"env": "SCTO_USER"}, "password": {"env": "SCTO_PASS"}},
        "tables": [{"slug": form, "resource": form}],
        "schedule": "manual",
    }


def test_a_surveycto_server_is_asked_one_request_at_a_time_by_all_processes_and_let_alone_when_it_asks(
    workers: Workers,
) -> None:
    names = [f"form-{n}" for n in range(4)]
    forms = [Form(name, ["village"]) for name in names]
    for form in forms:
        form.add({"village": "V"}, at=datetime.now(UTC) - timedelta(hours=1))
    credentials = {"SCTO_USER": USER, "SCTO_PASS": PASSWORD}
    with serve_surveycto(forms) as server:
        server.slow = 0.2
        workers.apply([surveycto_source(server, name) for name in names])
        told = workers.read(names, 6.0, **credentials)
        assert [one["failures"] for one in told] == [[]] * len(names)
        assert {request.status for request in server.requests} == {200}
        assert sum(one["calls"] for one in told) == len(server.requests)
        assert all(one["waited"] > 0 for one in told)
        server.slow = 0.0
        server.requests.clear()
        wait = b'{"error": {"code": 417, "message": "Please wait for 240 seconds before trying again."}}'
        server.fail(kobo_faults.Fault(417, path="/", body=wait))
        told = workers.read(names, 6.0, **credentials)
        assert [request.status for request in server.requests].count(417) == 1
        assert server.requests[-1].status == 417
    kinds = sorted(failure[0] for one in told for failure in one["failures"])
    assert kinds == ["OutOfQuota"] * 3 + ["Throttled"]
    assert all(120 < failure[1] <= 240 for one in told for failure in one["failures"])


def test_another_token_on_the_same_server_is_not_held(workers: Workers) -> None:
    clean_water, springs = demo_accounts(date(2026, 1, 1))
    form, other = clean_water.forms[0], springs.forms[0]
    with serve_kobo([form], token="sesame", more_accounts={"barley": [other]}) as kobo:
        workers.apply([kobo_source(kobo, form), kobo_source(kobo, other, "OTHER_TOKEN", "other")])
        kobo.fail(kobo_faults.throttled(300, path=form.uid, times=1))
        told = workers.read(["forms", "other"], 3.0, KOBO_TOKEN="sesame", OTHER_TOKEN="barley")
    assert [failure[0] for failure in told[0]["failures"]] == ["Throttled"]
    assert told[1]["failures"] == []
