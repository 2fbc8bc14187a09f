"""Everything that can go wrong while a spreadsheet is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datasense_assets.catalog.models import Organization
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    SourceError,
    Throttled,
    Unavailable,
)
from datasense_assets_tests.faults.conftest import SILENCE, Rig
from datasense_assets_tests.ingest.conftest import World
from datasense_assets_tests.stand_ins.google_book import Book, Tab
from datasense_assets_tests.stand_ins.google_sheets import QUOTA_BODY, Account, Google, serve
from examples import kobo_faults as f

ACCOUNT = Account("reader@project.iam.gserviceaccount.com")
VALUES = "/values"
SHEETS = "/v4/"
FOR_EVER = 99
QUOTA = {"status": 429, "body": QUOTA_BODY.encode()}


@pytest.fixture
def tab() -> Tab:
    return Tab("visits", [["n", "name"], *[[number, f"row {number}"] for number in range(4)]])


@pytest.fixture
def book(tab: Tab) -> Book:
    return Book("b1", "Field book", [tab], {ACCOUNT.email})


@pytest.fixture
def server(book: Book) -> Iterator[Google]:
    with serve([book], [ACCOUNT]) as running:
        yield running


@pytest.fixture
def rig(world: World, org: Organization, server: Google, tab: Tab) -> Rig:
    def expected() -> list[tuple[Any, ...]]:
        return [(row[0], row[1]) for row in tab.rows[1:]]

    config = {"spreadsheet": "b1", "api_base_url": server.url}
    credentials = {"service_account": ACCOUNT.key(server.url)}
    return Rig(world, org, "google_sheets", config, credentials, "n, name", expected)


def rename(book: Book) -> None:
    book.tabs[0].title = "renamed"


CASES: dict[str, tuple[Callable[[Book], list[f.Fault]], type[SourceError] | None]] = {
    "quota used up, once": (lambda _: [f.Fault(path=VALUES, **QUOTA)], None),
    "a storm of 429": (lambda _: [f.Fault(path=SHEETS, times=FOR_EVER, **QUOTA)], Throttled),
    "503 once": (lambda _: [f.unavailable(path=VALUES)], None),
    "503 for ever": (lambda _: [f.unavailable(path=VALUES, times=FOR_EVER)], Unavailable),
    "a gateway's page once": (lambda _: [f.bad_gateway(SHEETS)], None),
    "a gateway's page for ever": (lambda _: [f.bad_gateway(VALUES, FOR_EVER)], Unavailable),
    "a page with status 200": (lambda _: [f.web_page(VALUES, FOR_EVER)], BadConfig),
    "half the JSON": (lambda _: [f.truncated(VALUES, FOR_EVER)], BadData),
    "a connection cut once": (lambda _: [f.cut_short(VALUES)], None),
    "a connection always cut": (lambda _: [f.cut_short(VALUES, FOR_EVER)], Unavailable),
    "silence in the middle, once": (lambda _: [f.stalling(SILENCE * 2, VALUES)], None),
    "silence in the middle, always": (lambda _: [f.stalling(SILENCE * 2, VALUES, FOR_EVER)], Unavailable),
    "a slow drip": (lambda _: [f.dripping(0.01, VALUES)], None),
    "a token that is refused": (lambda _: [f.unauthorized(SHEETS, FOR_EVER)], CredentialRefused),
    "no token server": (lambda _: [f.unavailable(path="/token", times=FOR_EVER)], Unavailable),
    "a sheet no longer shared": (lambda b: [f.meanwhile(b.shared.clear, SHEETS)], AccessForbidden),
    "a sheet that is gone": (lambda _: [f.missing(SHEETS, FOR_EVER)], ResourceGone),
    "rows added before the values": (
        lambda b: [f.meanwhile(lambda: b.tabs[0].rows.append([80, "new"]), VALUES)],
        None,
    ),
    "a row edited before the values": (lambda b: [f.meanwhile(lambda: b.tabs[0].rows[8].reverse(), VALUES)], None),
    "rows deleted before the values": (lambda b: [f.meanwhile(lambda: b.tabs[0].rows.pop(1), VALUES)], None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sync_is_exact_or_fails_clearly(rig: Rig, server: Google, book: Book, tab: Tab, case: str) -> None:
    rig.sync()
    tab.rows += [[number, f"row {number}"] for number in range(4, 8)]
    if "edited" in case:
        tab.rows[8] = ["text", 7]  # what is edited back to a number and a text before the values are asked for
    book.touch()
    faults, error = CASES[case]
    server.fail(*faults(book))

    def mend() -> None:
        assert error is not None or not server._faults  # it was met
        server.clear_faults()
        book.touch()
        book.shared.add(ACCOUNT.email)

    rig.check(error, full=False, mend=mend, case=case)


def test_a_tab_renamed_while_it_is_read_leaves_the_table(rig: Rig, server: Google, book: Book) -> None:
    rig.sync()
    before = rig.state()
    book.touch()
    server.fail(f.meanwhile(lambda: rename(book), VALUES))
    with pytest.raises(SourceError):
        rig.sync()
    assert rig.state() == before
