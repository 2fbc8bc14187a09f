"""The stand-in for Google Sheets as gspread, a client that is not ours, sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import gspread
import pytest
import requests
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.service_account import Credentials
from requests.adapters import HTTPAdapter

from datasense_assets_tests.stand_ins.google_book import Book, Cell, Tab
from datasense_assets_tests.stand_ins.google_sheets import Account, Google, Quota, serve

ME = Account("reader@project.iam.gserviceaccount.com")
ROWS: list[list[Any]] = [
    ["Village", "Visited", "Share", "Fee", "Open"],
    ["Rampur", date(2026, 3, 1), Cell(0.25, "PERCENT"), Cell(1200, "CURRENCY"), True],
    [],
    ["गाँव", None, None, None, False, None],
]


class ToStandIn(HTTPAdapter):
    """gspread's addresses are constants: what goes to Google goes to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        assert request.url is not None
        for host in ("https://sheets.googleapis.com", "https://www.googleapis.com"):
            request.url = request.url.replace(host, self.url)
        return super().send(request, *args, **kwargs)


def client(google: Google, account: Account = ME, key: str | None = None) -> gspread.Client:
    info = json.loads(key or account.key(google.url))
    credentials = Credentials.from_service_account_info(info, scopes=gspread.auth.READONLY_SCOPES)
    session = AuthorizedSession(credentials)
    session.mount("https://", ToStandIn(google.url))
    return gspread.Client(credentials, session)


@pytest.fixture
def google() -> Iterator[Google]:
    tabs = [
        Tab("Visits", ROWS, merges=["D1:E1"], grid=(20, 8)),
        Tab("It's", [["a"], [1]]),
        Tab("Chart", kind="OBJECT"),
    ]
    book = Book("b1", "Field book", tabs, {ME.email}, named={"Fees": "Visits!A1:D2"})
    with serve([book, Book("b2", "Other", [Tab("Sheet1")])], [ME]) as server:
        yield server


def test_gspread_reads_tabs_values_ranges_and_dates(google: Google) -> None:
    book = client(google).open_by_key("b1")
    assert (book.title, book.timezone) == ("Field book", "Asia/Kolkata")
    assert book.get_lastUpdateTime() == "2026-03-01T10:00:00.000Z"
    visits = book.worksheet("Visits")
    assert (visits.row_count, visits.col_count, visits.id) == (20, 8, 0)
    assert visits.get_all_values() == [
        ["Village", "Visited", "Share", "Fee", ""],
        ["Rampur", "01/03/2026", "25%", "₹1,200.00", "TRUE"],
        ["", "", "", "", ""],
        ["गाँव", "", "", "", "FALSE"],
    ]
    unformatted = visits.get("A2:E", value_render_option="UNFORMATTED_VALUE")
    assert unformatted == [["Rampur", 46082, 0.25, 1200, True], [], ["गाँव", "", "", "", False]]
    first, second = book.values_batch_get(["'It''s'!A:A", "Fees"])["valueRanges"]
    assert (first["values"], second["range"]) == ([["a"], ["1"]], "Visits!A1:D2")
    assert visits.acell("A2").value == "Rampur"
    assert [r["name"] for r in book.list_named_ranges()] == ["Fees"]
    merges = [s for s in book.fetch_sheet_metadata()["sheets"] if "merges" in s]
    assert merges[0]["merges"][0]["endColumnIndex"] == 5


def test_gspread_meets_googles_refusals(google: Google) -> None:
    with pytest.raises(PermissionError):
        client(google).open_by_key("b2")
    with pytest.raises(gspread.SpreadsheetNotFound):
        client(google).open_by_key("nowhere")
    book = client(google).open_by_key("b1")
    with pytest.raises(gspread.WorksheetNotFound):
        book.worksheet("Nothing")
    with pytest.raises(gspread.exceptions.APIError, match="Unable to parse range"):
        book.values_get("Nothing!A1")
    with pytest.raises(gspread.exceptions.APIError, match="exceeds grid limits"):
        book.values_get("Visits!A900:B")


def test_a_key_that_signs_wrongly_gets_no_token(google: Google) -> None:
    stranger = Account(ME.email)
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        client(google, stranger).open_by_key("b1")


def test_the_quota_of_a_user_is_counted_by_the_minute() -> None:
    book = Book("b1", "Field book", [Tab("Visits", ROWS)], {ME.email})
    with serve([book], [ME], quota=Quota(user=2)) as server:
        opened = client(server).open_by_key("b1")
        opened.worksheet("Visits")
        with pytest.raises(gspread.exceptions.APIError) as caught:
            opened.worksheet("Visits")
        assert caught.value.response.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert "Retry-After" not in caught.value.response.headers
        now = server.clock()
        server.clock = lambda: now + 61
        assert opened.worksheet("Visits").title == "Visits"
