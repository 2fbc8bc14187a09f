"""Everything that can go wrong while KoboToolbox is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasense_assets.catalog.models import Organization
from datasense_assets.connectors.errors import (
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
from examples import kobo_faults as f
from examples.kobo_form import Form
from examples.kobo_stand_in import StandIn, serve

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATA = "/data/"
FOR_EVER = 99


@pytest.fixture
def form() -> Form:
    form = Form("visits", "Visits", {"survey": [{"type": "integer", "name": "n"}]})
    for number in range(4):
        form.add({"n": str(number)}, at=START + timedelta(minutes=number))
    return form


@pytest.fixture
def server(form: Form) -> Iterator[StandIn]:
    with serve([form], token="t") as running:
        yield running


@pytest.fixture
def rig(world: World, org: Organization, server: StandIn, form: Form) -> Rig:
    def expected() -> list[tuple[Any, ...]]:
        return [(row["_id"], int(row["n"])) for row in form.submissions]

    config = {"base_url": server.url, "page_size": 3, "lag_seconds": 0}
    return Rig(world, org, "kobo", config, {"token": "t"}, "_id, n", expected)


def last_second(form: Form) -> None:
    """Rows of the very second that the cursor stands at, one of them under an id behind the newest."""
    form.add({"n": "70"}, at=START + timedelta(minutes=3))
    form.add({"n": "71"}, at=START + timedelta(minutes=3), id=50)
    form.add({"n": "72"}, at=START + timedelta(minutes=3), id=49)


CASES: dict[str, tuple[Callable[[Form], list[f.Fault]], type[SourceError] | None]] = {
    "429 once": (lambda _: [f.throttled(7, DATA)], None),
    "a storm of 429": (lambda _: [f.throttled(7, DATA, FOR_EVER)], Throttled),
    "429 that asks for an hour": (lambda _: [f.throttled(3600, DATA)], Throttled),
    "503 once": (lambda _: [f.unavailable(path=DATA)], None),
    "503 for ever": (lambda _: [f.unavailable(path=DATA, times=FOR_EVER)], Unavailable),
    "a gateway's page once": (lambda _: [f.bad_gateway(DATA)], None),
    "a gateway's page for ever": (lambda _: [f.bad_gateway(DATA, FOR_EVER)], Unavailable),
    "a page with status 200": (lambda _: [f.web_page(DATA, FOR_EVER)], BadConfig),
    "half the JSON": (lambda _: [f.truncated(DATA, FOR_EVER)], BadData),
    "a connection cut once": (lambda _: [f.cut_short(DATA)], None),
    "a connection always cut": (lambda _: [f.cut_short(DATA, FOR_EVER)], Unavailable),
    "silence in the middle, once": (lambda _: [f.stalling(SILENCE * 2, DATA)], None),
    "silence in the middle, always": (lambda _: [f.stalling(SILENCE * 2, DATA, FOR_EVER)], Unavailable),
    "silence before the answer": (lambda _: [f.slow(SILENCE * 2, DATA, FOR_EVER)], Unavailable),
    "a slow drip": (lambda _: [f.dripping(0.01, DATA, 2)], None),
    "a token revoked on the way": (lambda _: [f.unauthorized(DATA)], CredentialRefused),
    "a form that goes away": (lambda _: [f.missing("/assets/visits/", FOR_EVER)], ResourceGone),
    "rows added between pages": (lambda form: [f.meanwhile(lambda: form.add({"n": "80"}), DATA, 2)], None),
    "a row edited between pages": (lambda form: [f.meanwhile(lambda: form.edit(8, {"n": "81"}), DATA, 2)], None),
    "a row deleted before its page": (lambda form: [f.meanwhile(lambda: form.delete(8), DATA, 2)], None),
    "a row deleted after its page": (lambda form: [f.meanwhile(lambda: form.delete(2), DATA, 2)], None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sync_is_exact_or_fails_clearly(rig: Rig, server: StandIn, form: Form, case: str) -> None:
    rig.sync()
    for number in range(4, 8):
        form.add({"n": str(number)}, at=START + timedelta(minutes=number))
    faults, error = CASES[case]
    server.fail(*faults(form))

    def mend() -> None:
        assert error is not None or not server._faults  # it was met
        server.clear_faults()

    rig.check(error, full=True, mend=mend, case=case)


def test_rows_of_the_cursors_own_second_are_not_missed(rig: Rig, server: StandIn, form: Form) -> None:
    rig.sync()
    last_second(form)
    rig.check(None, full=False, mend=server.clear_faults)
