"""Everything that can go wrong while SurveyCTO is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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
from datasense_assets_tests.stand_ins.surveycto import PASSWORD, USER, Form, StandIn, serve
from examples import kobo_faults as f

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATA = "/data/"
FOR_EVER = 99
WAIT = b'{"error": {"code": 417, "message": "Please wait for 5 seconds before requesting all of the data again."}}'
BUSY = b'{"error": {"code": 409, "message": "Another request is being processed"}}'
NO_ACCESS = b'{"error": {"code": 412, "message": "The user has no access to the API"}}'


@pytest.fixture
def form() -> Form:
    form = Form("visits", ["n", ("kids", ["name"])])
    for number in range(4):
        form.add({"n": str(number), "kids": [{"name": "a"}]}, at=START + timedelta(minutes=number))
    return form


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form]) as running:
        yield running


@pytest.fixture
def rig(world: World, org: Organization, server: StandIn, form: Form) -> Rig:
    def expected() -> list[tuple[Any, ...]]:
        return [(s.key, int(s.answers["n"])) for s in form.submissions if s.review == "APPROVED"]

    credentials = {"username": USER, "password": PASSWORD}
    return Rig(world, org, "surveycto", {"server": server.url, "lag_seconds": 3600}, credentials, "key, n", expected)


def late(form: Form) -> object:
    return form.add({"n": "90"}, at=START + timedelta(minutes=30))


CASES: dict[str, tuple[Callable[[Form], list[f.Fault]], type[SourceError] | None]] = {
    "417 that passes": (lambda _: [f.Fault(417, DATA, body=WAIT)], None),
    "417 for ever": (lambda _: [f.Fault(417, DATA, FOR_EVER, body=WAIT)], Throttled),
    "409 that passes": (lambda _: [f.Fault(409, DATA, body=BUSY)], None),
    "409 for ever": (lambda _: [f.Fault(409, DATA, FOR_EVER, body=BUSY)], Throttled),
    "412": (lambda _: [f.Fault(412, DATA, body=NO_ACCESS)], AccessForbidden),
    "a storm of 429": (lambda _: [f.throttled(7, DATA, FOR_EVER)], Throttled),
    "503 once": (lambda _: [f.unavailable(path=DATA)], None),
    "503 for ever": (lambda _: [f.unavailable(path=DATA, times=FOR_EVER)], Unavailable),
    "a gateway's page for ever": (lambda _: [f.bad_gateway(DATA, FOR_EVER)], Unavailable),
    "a page with status 200": (lambda _: [f.web_page(DATA, FOR_EVER)], BadConfig),
    "half the JSON": (lambda _: [f.truncated(DATA, FOR_EVER)], BadData),
    "a connection cut once": (lambda _: [f.cut_short(DATA)], None),
    "a connection always cut": (lambda _: [f.cut_short(DATA, FOR_EVER)], Unavailable),
    "silence in the middle, once": (lambda _: [f.stalling(SILENCE * 2, DATA)], None),
    "silence in the middle, always": (lambda _: [f.stalling(SILENCE * 2, DATA, FOR_EVER)], Unavailable),
    "a slow drip": (lambda _: [f.dripping(0.01, DATA, 2)], None),
    "a password changed on the way": (lambda _: [f.unauthorized(DATA)], CredentialRefused),
    "a form that goes away": (lambda _: [f.missing(DATA, FOR_EVER)], ResourceGone),
    "a row that comes while it is read": (lambda form: [f.meanwhile(lambda: late(form), DATA, 1)], None),
    "a row that is edited while it is read": (
        lambda form: [f.meanwhile(lambda: form.submissions[7].answers.update(n="91"), DATA, 1)],
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sync_is_exact_or_fails_clearly(rig: Rig, server: StandIn, form: Form, case: str) -> None:
    rig.sync()
    server.pass_time(301)
    for number in range(4, 8):
        form.add({"n": str(number)}, at=START + timedelta(minutes=number))
    faults, error = CASES[case]
    server.fail(*faults(form))

    def mend() -> None:
        assert error is not None or not server._faults  # it was met
        server.clear_faults()
        server.pass_time(301)

    rig.check(error, full=True, mend=mend, case=case)


def test_rows_of_the_cursors_own_second_are_not_missed(rig: Rig, server: StandIn, form: Form) -> None:
    rig.sync()
    form.add({"n": "70"}, at=START + timedelta(minutes=3))
    form.add({"n": "71"}, at=START + timedelta(minutes=3, milliseconds=900))
    rig.check(None, full=False, mend=server.clear_faults)


def test_what_the_server_no_longer_gives_goes_with_a_full_read(rig: Rig, server: StandIn, form: Form) -> None:
    rig.sync()
    server.pass_time(301)
    form.submissions[1].review = "REJECTED"
    rig.sync()
    assert len(rig.rows()) == 4
    rig.sync(full=True)
    assert rig.rows() == sorted(rig.expected())
    assert len(rig.rows()) == 3


def test_a_second_full_read_at_once_is_throttled_with_the_servers_own_time(
    rig: Rig, server: StandIn, form: Form
) -> None:
    rig.sync()
    server.pass_time(33)
    before = rig.state()
    with pytest.raises(Throttled) as caught:
        rig.sync(full=True)
    assert caught.value.retry_after == 267
    assert rig.state() == before
