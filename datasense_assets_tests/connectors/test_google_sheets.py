"""The Google Sheets connector against the stand-in: what it finds, what cells become, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.connectors import NetworkPolicy, google_sheets, google_table, open_connector, validate_config
from datasense_assets.connectors.base import ROW_ID, Connector, Page, ReadRequest, Window
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    Throttled,
    Unavailable,
)
from datasense_assets.connectors.google_ranges import column_index, column_letters
from datasense_assets_tests.stand_ins.google_book import Book, Cell, Tab
from datasense_assets_tests.stand_ins.google_sheets import DISABLED_BODY, QUOTA_BODY, Account, Fault, Google, serve

ME = Account("reader@project.iam.gserviceaccount.com")
BOOK = "1AbC_d-9"
Opener = Callable[..., Connector]


@pytest.fixture
def book() -> Book:
    return Book(BOOK, "Field book", [Tab("Visits")], {ME.email})


@pytest.fixture
def google(book: Book) -> Iterator[Google]:
    with serve([book], [ME]) as server:
        yield server


@pytest.fixture
def connect(google: Google, local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[Opener]:
    opened: list[Connector] = []

    def make(secret: str | None = None, **config: object) -> Connector:
        settings = {"spreadsheet": BOOK, "api_base_url": google.url, **config}
        credentials = {"service_account": secret or ME.key(google.url)}
        opened.append(open_connector("google_sheets", settings, credentials, local_policy))
        return opened[-1]

    yield make
    for connector in opened:
        connector.close()


def pages(connector: Connector, resource: str = "Visits") -> list[Page]:
    return list(connector.read(ReadRequest(resource)))


def rows(connector: Connector, resource: str = "Visits") -> list[dict[str, Any]]:
    return [row for page in pages(connector, resource) for row in page.data.to_pylist()]


def columns(connector: Connector, resource: str = "Visits") -> dict[str, list[Any]]:
    found = rows(connector, resource)
    return {name: [row[name] for row in found] for name in found[0]}


def keys(connector: Connector, resource: str = "Visits") -> list[str]:
    (info,) = connector.describe(resource)
    return [column.key for column in info.columns]


# --- what there is


def test_every_tab_and_named_range_is_a_table_and_charts_and_empty_tabs_are_not(book: Book, connect: Opener) -> None:
    book.tabs = [
        Tab("Visits", [["a", "b"], [1, 2], [3, 4]], id=5),
        Tab('It\'s "मेरा"', [["c"], ["x"]], id=6),
        Tab("Empty", id=7),
        Tab("Chart", id=8, kind="OBJECT"),
    ]
    book.named = {"Budget": "Visits!B1:B3", "Rate": "Visits!B2", "Visits": "'It''s \"मेरा\"'!A1:A2"}
    connector = connect()
    tables = connector.discover()
    assert [(t.resource, [c.key for c in t.columns], t.rows) for t in tables] == [
        ("Visits", ["a", "b"], 2),
        ('It\'s "मेरा"', ["c"], 1),
        ("Budget", ["b"], 2),
        ("range:Visits", ["c"], 1),
    ]
    assert columns(connector, "Budget") == {"b": ["2", "4"], ROW_ID: ["2", "3"]}
    assert columns(connector, "range:Visits")["c"] == ["x"]
    assert columns(connector, "gid=6")["c"] == ["x"]
    assert connector.check() == (
        "The spreadsheet 'Field book' can be read by reader@project.iam.gserviceaccount.com: 3 tabs and 3 named ranges."
    )


def test_a_sync_takes_three_reads_for_all_small_tables_and_two_without_numbers(
    book: Book, google: Google, connect: Opener
) -> None:
    book.tabs = [Tab(f"t{i}", [["a"], ["x"]], id=i) for i in range(1, 6)]
    connector = connect()
    for i in range(1, 6):
        assert columns(connector, f"t{i}")["a"] == ["x"]
    assert len(google.reads()) == 2
    book.tabs[2].rows.append([date(2026, 3, 1)])
    connector = connect()
    for i in range(1, 6):
        rows(connector, f"t{i}")
    assert len(google.reads()) == 2 + 3
    assert connector.stats.api_calls == 4  # the token's is one


def test_only_the_configs_ranges_are_tables(book: Book, connect: Opener) -> None:
    book.tabs = [Tab("Visits", [["title"], [None, "a", "b"], [None, 1, 2], [None, 3, 4], ["total", 4, 6]])]
    connector = connect(ranges=["Visits!B2:C4"])
    assert [t.resource for t in connector.discover()] == ["Visits!B2:C4"]
    assert columns(connector, "Visits!B2:C4") == {"a": ["1", "3"], "b": ["2", "4"], ROW_ID: ["3", "4"]}
    with pytest.raises(BadConfig, match="outside the tab, which has 1000 rows"):
        connector.describe("Visits!B2000:C2100")


# --- what cells become


def test_dates_moments_times_and_lengths_of_time_come_from_format_and_values(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [
        ["day", "moment", "stamp", "clock", "length", "number"],
        [
            date(2026, 3, 1),
            datetime(2026, 3, 1, 9, 30),
            Cell(46082, "DATE"),
            time(9, 5),
            timedelta(hours=26, minutes=30),
            46082,
        ],
        [date(1899, 12, 30), datetime(2026, 3, 1), Cell(46082.25, "DATE"), time(23, 59, 59), timedelta(hours=1), 0.5],
    ]
    assert columns(connect()) == {
        "day": ["2026-03-01", "1899-12-30"],
        "moment": ["2026-03-01T09:30:00+05:30", "2026-03-01T00:00:00+05:30"],
        "stamp": ["2026-03-01T00:00:00+05:30", "2026-03-01T06:00:00+05:30"],
        "clock": ["09:05:00", "23:59:59"],
        "length": ["26:30:00", "01:00:00"],
        "number": ["46082", "0.5"],
        ROW_ID: ["2", "3"],
    }


def test_moments_are_in_the_spreadsheets_zone_also_in_summer(book: Book, connect: Opener) -> None:
    book.timezone = "Europe/Paris"
    book.tabs[0].rows = [["at"], [datetime(2026, 1, 15, 12)], [datetime(2026, 7, 15, 12)], [datetime(1900, 1, 1)]]
    assert columns(connect())["at"] == [
        "2026-01-15T12:00:00+01:00",
        "2026-07-15T12:00:00+02:00",
        "1899-12-31T23:50:39+00:00",
    ]


def test_hours_that_clocks_repeat_or_skip_are_read_as_everywhere_else(book: Book, connect: Opener) -> None:
    book.timezone = "Europe/Paris"
    book.tabs[0].rows = [["at"], [datetime(2026, 10, 25, 2, 30)], [datetime(2026, 3, 29, 2, 30)]]
    assert columns(connect())["at"] == ["2026-10-25T02:30:00+01:00", "2026-03-29T02:30:00+01:00"]


def test_an_unknown_zone_is_said(book: Book, connect: Opener) -> None:
    book.timezone = "Moon/Sea"
    book.tabs[0].rows = [["at"], [datetime(2026, 1, 15, 12)]]
    connector = connect()
    assert columns(connector)["at"] == ["2026-01-15T12:00:00"]
    assert "Moon/Sea" in connector.stats.notes[0]


def test_percentages_and_currencies_are_numbers_booleans_words_and_errors_empty(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [
        ["share", "fee", "open", "code", "big", "ratio"],
        [Cell(0.25, "PERCENT"), Cell(1200, "CURRENCY"), True, "007", 1e16, "#DIV/0!"],
        [Cell(1, "PERCENT"), Cell(1.5, "CURRENCY"), False, "+91", 12345678901234, 0.1],
    ]
    connector = connect()
    assert columns(connector) == {
        "share": ["0.25", "1"],
        "fee": ["1200", "1.5"],
        "open": ["true", "false"],
        "code": ["007", "+91"],
        "big": ["10000000000000000", "12345678901234"],
        "ratio": [None, "0.1"],
        ROW_ID: ["2", "3"],
    }
    assert connector.stats.notes == [
        "'Visits' in the spreadsheet 'Field book': cells with a formula's error are empty (#DIV/0! 1)."
    ]


def test_percentages_beside_plain_numbers_are_said(book: Book, connect: Opener) -> None:
    percent = Cell(0.25, "PERCENT")
    book.tabs[0].rows[:] = [["a", "b", "c"], [percent, percent, 1], [25, Cell(1, "PERCENT"), 2]]
    connector = connect()
    assert [[row[key] for key in "abc"] for row in rows(connector, book.tabs[0].title)] == [
        ["0.25", "0.25", "1"],
        ["25", "1", "2"],
    ]
    (note,) = connector.stats.notes
    assert "'a' has percentages in some rows and plain numbers in others" in note


def test_merged_cells_under_the_header_are_said(book: Book, connect: Opener) -> None:
    book.tabs[0].rows[:] = [["district", "village"], ["Ajmer", "a"], [None, "b"], ["c", None]]
    book.tabs[0].merges = ["A1:B1", "A2:A3", "A4:B4"]
    connector = connect()
    assert [row["district"] for row in rows(connector, book.tabs[0].title)] == ["Ajmer", None, "c"]
    first, second = connector.stats.notes
    assert "has merged cells (A2:A3), of which only the first holds the value" in first
    assert "has merged cells (A4:B4)" in second


def test_a_mixed_column_keeps_each_value_as_what_it_is(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [["when"], [date(2026, 3, 1)], ["last spring"], [2026], [None], [date(2026, 3, 2)]]
    connector = connect()
    assert columns(connector)["when"] == ["2026-03-01", "last spring", "2026", "2026-03-02"]
    assert "dates in some rows" in connector.stats.notes[0]


def test_a_long_column_whose_sample_disagrees_is_read_whole(
    book: Book, google: Google, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google_table, "SAMPLE_CELLS", 40)
    days = [date(2026, 1, 1) + timedelta(days=i) for i in range(100)]
    book.tabs[0].rows = [["a", "b"], *([day, day] for day in days)]
    connector = connect()
    assert columns(connector)["a"] == [day.isoformat() for day in days]
    assert len(google.reads()) == 3
    book.tabs[0].rows[2][1] = 7  # in the sample
    book.tabs[0].rows[50][1] = 8  # not in it
    found = columns(connect())
    assert (found["b"][1], found["b"][49], found["b"][50]) == ("7", "8", days[50].isoformat())
    assert len(google.reads()) == 3 + 4


# --- headers and rows


def test_no_header_loses_a_column(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [
        ["Name", "Name", None, "Two\nlines ", 2026, date(2026, 3, 1), True, None],
        ["a", "b", "c", "d", "e", "f", "g", None, None, "beyond"],
    ]
    found = columns(connect())
    assert list(found) == [
        "Name",
        "Name (2)",
        "column 3",
        "Two lines",
        "2026",
        "2026-03-01",
        "true",
        "column 10",
        ROW_ID,
    ]
    assert found["column 10"] == ["beyond"]


def test_several_header_rows_with_merged_cells_become_one_name(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [
        ["Survey of wells", None, None, None, None],
        ["Village", "Household", None, "Water", None],
        [None, "Men", "Women", "Depth", "Clear"],
        ["Rampur", 3, 4, 12.5, True],
    ]
    book.tabs[0].merges = ["A2:A3", "B2:C2", "D2:E2"]
    connector = connect(header_row=[2, 3])
    assert keys(connector) == ["Village", "Household / Men", "Household / Women", "Water / Depth", "Water / Clear"]
    assert rows(connector)[0]["Household / Women"] == "4"
    assert keys(connect(header_row=2)) == ["Village", "Household", "Household (2)", "Water", "Water (2)"]


def test_blank_rows_are_left_out_and_row_numbers_stay(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [["a"], ["x"], [], [""], ["y"]]
    assert columns(connect()) == {"a": ["x", "y"], ROW_ID: ["2", "5"]}


def test_a_header_alone_is_a_table_of_no_rows(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [["a", "b"]]
    (page,) = pages(connect())
    assert (page.data.num_rows, page.data.column_names) == (0, ["a", "b", ROW_ID])


def test_an_empty_tab_a_moved_header_and_a_renamed_tab_are_told_apart(book: Book, connect: Opener) -> None:
    with pytest.raises(BadData, match="'Visits' in the spreadsheet 'Field book' is empty"):
        connect().describe("Visits")
    book.tabs[0].rows = [[], [], ["a"], [1]]
    with pytest.raises(BadData, match=r"no header in row 1, though row 3 holds values.*`header_row: 3`"):
        connect().describe("Visits")
    (listed,) = connect().discover()
    assert listed.columns == ()
    with pytest.raises(BadData, match=r"no header in row 9, though row 3"):
        connect(header_row=9).describe("Visits")
    book.tabs[0].title = "Visits 2026"
    with pytest.raises(ResourceGone, match=r"no tab or named range 'Visits'.*There are: Visits 2026"):
        connect().describe("Visits")
    book.tabs[0].rows = [["Visits of 2026"], ["a", "b", "c"], [1, 2, 3]]
    connector = connect()
    assert rows(connector, "Visits 2026")
    assert "2 of 3 columns have no header in row 1" in connector.stats.notes[0]


def test_a_key_names_rows_and_refuses_missing_and_repeated_ones(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [["id", "day", "v"], [1, date(2026, 3, 1), "a"], [1, None, "b"], [1, date(2026, 3, 1), "c"]]
    (page,) = pages(connect(key=["id", "day"]))
    assert page.data.column(ROW_ID).to_pylist() == ["1|2026-03-01"]
    assert [(r.line, r.reason) for r in page.rejected] == [
        (3, "has no value in its key (id, day)"),
        (4, "has the same key (id, day) as an earlier row"),
    ]
    with pytest.raises(BadConfig, match="no column 'nr'"):
        pages(connect(key=["nr"]))
    with pytest.raises(BadData, match="not one of its 3 rows"):
        book.tabs[0].rows = [["id", "v"], [None, "a"], [None, "b"], [None, "c"]]
        pages(connect(key=["id"]))


def test_a_big_tab_is_read_in_blocks_with_the_same_result(
    book: Book, google: Google, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.tabs[0].rows = [["n", "at"], *([i, Cell(46000 + i / 4, "DATE")] for i in range(1200)), [], ["last"]]
    whole = rows(connect())
    monkeypatch.setattr(google_sheets, "SMALL_CELLS", 100)
    monkeypatch.setattr(google_sheets, "BLOCK_CELLS", 100)
    monkeypatch.setattr(google_table, "PAGE_ROWS", 500)
    connector = connect()
    assert [t.rows for t in connector.discover()] == [None]
    found = pages(connector)
    assert [page.data.num_rows for page in found] == [500, 500, 201]
    assert [row for page in found for row in page.data.to_pylist()] == whole
    blocks = [seen.path for seen in google.reads() if "/values/" in seen.path]
    assert len(blocks) == 3
    book.tabs[0].rows = [[], ["a"], ["x"]]
    with pytest.raises(BadData, match="`header_row: 2`"):
        connect().describe("Visits")
    assert [t.columns for t in connect().discover()] == [()]


def test_many_tabs_with_long_names_are_asked_for_in_addresses_of_bounded_length(
    book: Book, google: Google, connect: Opener
) -> None:
    book.tabs = [Tab(f"{i} " + "गाँव" * 20, [["a"], [i]], id=i + 1) for i in range(30)]
    connector = connect()
    found = connector.discover()
    assert [rows(connector, table.resource)[0]["a"] for table in found] == [str(i) for i in range(30)]
    batches = [seen for seen in google.reads() if seen.path.endswith("batchGet")]
    assert 1 < len(batches) < 15


def test_a_window_is_refused(book: Book, connect: Opener) -> None:
    book.tabs[0].rows = [["a"], [1]]
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(BadConfig, match="no earlier state"):
        list(connect().read(ReadRequest("Visits", window=window)))


# --- how it fails


def test_a_sheet_that_is_not_shared_names_the_account_to_share_it_with(book: Book, connect: Opener) -> None:
    book.shared.clear()
    with pytest.raises(AccessForbidden) as caught:
        connect().check()
    assert (
        caught.value.advice == "Share the spreadsheet with reader@project.iam.gserviceaccount.com (Viewer is enough)."
    )


def test_what_google_refuses_is_said_in_plain_words(book: Book, google: Google, connect: Opener) -> None:
    with pytest.raises(ResourceGone, match="The spreadsheet nowhere is not there"):
        connect(spreadsheet="nowhere").check()
    google.fail(Fault("/v4/", 403, DISABLED_BODY))
    with pytest.raises(AccessForbidden, match="API is not enabled"):
        connect().check()
    google.fail(Fault("/v4/", 401, "{}"))
    with pytest.raises(CredentialRefused, match="refused the token of reader@"):
        connect().check()
    book.is_office_file = True
    with pytest.raises(BadConfig, match="Excel file kept in Drive"):
        connect().check()
    book.is_office_file = False
    connector = connect()
    connector.check()
    book.tabs[0].title = "Renamed meanwhile"
    with pytest.raises(ResourceGone, match="lost a tab or range"):
        connector.describe("Visits")


def test_a_used_up_quota_is_waited_for_and_then_left_to_the_run(
    google: Google, connect: Opener, pauses: list[float]
) -> None:
    google.fail(Fault("/v4/", 429, QUOTA_BODY, times=2))
    assert "can be read" in connect().check()
    assert len(pauses) == 2
    google.fail(Fault("/v4/", 429, QUOTA_BODY, times=4))
    with pytest.raises(Throttled) as caught:
        connect().check()
    assert caught.value.retry_after == 60.0


def test_a_refused_key_is_said_without_any_part_of_it(google: Google, connect: Opener) -> None:
    with pytest.raises(CredentialRefused, match=r"refused the key of reader@.*invalid_grant") as caught:
        connect(Account(ME.email).key(google.url)).check()
    assert "eyJ" not in str(caught.value)
    google.fail(Fault("/token", 400, json.dumps({"error": "bad $sent"})))
    with pytest.raises(CredentialRefused, match=r"bad \*\*\*") as caught:
        connect().check()
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda key: "not json PRIVATE", "is not JSON"),
        (lambda key: json.dumps({"type": "authorized_user", "refresh_token": "PRIVATE"}), "no service account's key"),
        (lambda key: json.dumps({"type": "service_account"}), "no client_email and no private_key"),
        (lambda key: json.dumps({**json.loads(key), "private_key": "PRIVATE"}), "private key .* is damaged"),
    ],
)
def test_a_key_that_is_none_is_refused_before_any_call(
    google: Google, connect: Opener, change: Callable[[str], str], words: str
) -> None:
    with pytest.raises(CredentialRefused, match=words) as caught:
        connect(change(ME.key(google.url)))
    assert "PRIVATE" not in str(caught.value)
    assert google.seen == []


def test_a_tokens_address_may_lead_nowhere_private_and_nowhere_else(
    google: Google, connect: Opener, pauses: list[float]
) -> None:
    settings = {"spreadsheet": BOOK, "api_base_url": google.url}
    connector = open_connector("google_sheets", settings, {"service_account": ME.key(google.url)}, NetworkPolicy())
    with pytest.raises(BadConfig, match="private network"):
        connector.check()
    connector.close()
    google.fail(Fault("/token", 307, headers={"Location": f"{google.url}/elsewhere"}))
    with pytest.raises(BadConfig, match="redirects a login"):
        connect().check()
    google.fail(Fault("/token", 503, times=4))
    with pytest.raises(Unavailable):
        connect().check()
    assert [seen.path for seen in google.seen] == ["/token"] * 5


def test_no_token_is_in_any_failure(google: Google, connect: Opener) -> None:
    connector = connect()
    connector.check()
    (token,) = google.tokens
    google.fail(Fault("/v4/", 400, json.dumps({"error": {"message": f"bad {token}"}})))
    with pytest.raises(BadConfig) as caught:
        connector.describe("Visits")
    assert "***" in str(caught.value)
    assert token not in str(caught.value)
    assert token not in repr(vars(connector))


def test_a_token_is_renewed_before_it_runs_out(
    google: Google, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.connectors import google_account

    monkeypatch.setattr(google_account, "_MARGIN", 3600)
    connector = connect()
    connector.check()
    with pytest.raises(BadData, match="is empty"):
        connector.describe("Visits")
    assert len(google.tokens) == 2


# --- config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"spreadsheet": "https://docs.google.com/spreadsheets/d/e/2PACX-1v/pubhtml"}, "published copy"),
        ({"spreadsheet": "my budget"}, "neither a spreadsheet's id"),
        ({"spreadsheet": "x", "header_row": [3, 2]}, "top to bottom"),
        ({"spreadsheet": "x", "header_row": 0}, "greater than or equal to 1"),
        ({}, "is missing"),
    ],
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, Any], words: str) -> None:
    (problem,) = validate_config("google_sheets", config, {"service_account"})
    assert words in problem.message


def test_the_spreadsheets_whole_address_may_be_given(connect: Opener) -> None:
    address = f"https://docs.google.com/spreadsheets/d/{BOOK}/edit?gid=0#gid=0"
    assert "can be read" in connect(spreadsheet=address).check()


@given(st.integers(0, 18_277))
def test_column_letters_and_indexes_agree(index: int) -> None:
    assert column_index(column_letters(index)) == index


# --- what has not changed


def test_drive_tells_what_has_not_changed_by_one_call(book: Book, google: Google, connect: Opener) -> None:
    first = connect().fingerprint("Visits", None)
    assert first is not None
    google.seen.clear()
    again = connect()
    assert again.fingerprint("Visits", first) == first
    assert again.fingerprint("Other tab", first) == first
    assert [seen.path for seen in google.seen] == ["/token", f"/drive/v3/files/{BOOK}"]
    assert google.reads() == []
    book.modified = "2026-03-02T10:00:00.000Z"
    assert connect().fingerprint("Visits", first) != first


def test_what_drive_says_is_believed_for_a_day_and_not_where_the_config_says_no(
    connect: Opener, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.connectors import google_drive

    first = connect().fingerprint("Visits", None)
    google.seen.clear()
    assert connect(skip_unchanged=False).fingerprint("Visits", first) is None
    assert google.seen == []
    monkeypatch.setattr(google_drive, "BELIEVED_SECONDS", 0.0)
    monkeypatch.setattr("datasense_assets.connectors.google_drive.time.time", lambda: 4_000_000_000.0)
    connector = connect()
    connector._drive._modified, connector._drive._asked = str(first).split()[1], True  # type: ignore[attr-defined]
    assert connector.fingerprint("Visits", first) != first


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/drive", status=403, body=DISABLED_BODY.replace("Sheets", "Drive")),
        Fault("/drive", status=404),
        Fault("/drive", status=429, body=QUOTA_BODY, times=9),
        Fault("/drive", status=500, times=9),
        Fault("/drive", status=200, body="[]"),
        Fault("/token", status=400, body='{"error": "invalid_scope"}'),
    ],
)
def test_a_key_that_may_not_ask_drive_just_reads(book: Book, google: Google, connect: Opener, fault: Fault) -> None:
    book.tabs[0].rows[:] = [["a"], [1]]
    google.fail(fault)
    connector = connect()
    assert connector.fingerprint("Visits", "drive 2026-03-01T10:00:00.000Z 1") is None
    assert pages(connector)[0].data.num_rows == 1
