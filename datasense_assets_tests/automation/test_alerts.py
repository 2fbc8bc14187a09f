"""Alerts: told once, told again when they change, told when they are over; to real servers over HTTP and SMTP."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, IntegrityError

from datasense_assets.automation.alerts.delivery import LONGEST_SECONDS, Delivered, deliver, wait_after
from datasense_assets.automation.alerts.planning import Planned, plan
from datasense_assets.automation.alerts.sensor import build_alerts_sensor
from datasense_assets.automation.alerts.timing import send_after
from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.manifest import parse_manifest
from datasense_assets.catalog.migrate import migrate
from datasense_assets.catalog.models import Alerting
from datasense_assets.catalog.state import FailureRecord, record_source_result
from datasense_assets.catalog.state.alerts import Trouble, open_alerts
from datasense_assets.catalog.troubles import troubles
from datasense_assets.running import owners
from datasense_assets.settings import Settings, get_settings
from datasense_assets.warehouse.database import engine
from datasense_assets_tests.places import free_port

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
SECRET = "s3cr3t-path-of-the-hook"
MANIFEST = """
version: 1
organization:
  slug: clean-water
  name: Clean Water Trust
  timezone: Asia/Kolkata
  contacts: [{env: TEST_ALERTS}]
sources:
  - {slug: forms, connector: kobo, config: {base_url: "https://kobo.example.org"}, credentials: {token: {env: T}}}
  - {slug: census, connector: csv, config: {url: "https://example.org/census.csv"}}
"""
REFUSED = FailureRecord("credential_refused", "The token is wrong.", "Make a new token.", permanent=True)
DOWN = FailureRecord("unavailable", "The server does not answer.", "Wait.")


class Hook:
    """A web hook that keeps what it is sent; answers 500 while `broken`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.broken = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not hook.broken:
                    hook.got.append(body)
                self.send_response(500 if hook.broken else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/{SECRET}"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.got]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


class World:
    """A catalog with one organisation, two hooks, and a clock that the test moves."""

    def __init__(self, catalog: Engine, settings: Settings) -> None:
        self.catalog, self.settings, self.now = catalog, settings, NOW

    def fails(self, source: str, failure: FailureRecord | None, times: int = 1) -> None:
        with self.catalog.begin() as connection:
            source_id = connection.execute(
                text("SELECT id FROM datasense.sources WHERE slug = :slug"), {"slug": source}
            ).scalar_one()
            for _ in range(times):
                run_id = uuid.uuid4().hex
                record_source_result(connection, source_id, run_id=run_id, started_at=self.now, failure=failure)

    def look(self) -> Planned:
        with self.catalog.begin() as connection:
            return plan(connection, troubles(connection, self.now), self.now, link="https://ui.example.org")

    def send(self) -> Delivered:
        return deliver(self.catalog, self.settings, self.now)

    def run(self, statement: str) -> None:
        with self.catalog.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture
def world(database_url: str, tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("TEST_ALERTS", hook.url)
    settings = Settings(home=tmp_path, database_url=database_url, allow_private_addresses=True)
    catalog = engine(database_url)
    migrate(catalog)
    with catalog.begin() as connection:
        apply_manifest(connection, parse_manifest(MANIFEST))
        connection.execute(text("UPDATE datasense.source_status SET next_due_at = NULL"))
    yield World(catalog, settings)
    catalog.dispose()


def test_a_failure_is_told_once_until_it_changes_and_when_it_is_over(world: World, hook: Hook) -> None:
    world.fails("forms", REFUSED)
    world.look()
    assert world.send().sent == 1
    world.look()
    world.fails("forms", REFUSED)
    assert world.look() == Planned()
    world.send()
    assert hook.titles == ["clean-water/forms is failing"]
    assert "The token is wrong." in hook.got[0]["message"]
    assert "What to do: Make a new token." in hook.got[0]["message"]
    assert "last good load" not in hook.got[0]["message"], "there was none"
    world.fails("forms", REFUSED)
    assert world.look().changed == 1
    world.send()
    assert "tried only now and then" in hook.got[1]["message"]
    world.fails("forms", None)
    assert world.look().closed == 1
    world.send()
    assert hook.titles[2:] == ["clean-water/forms works again"]
    world.fails("forms", REFUSED)
    world.look()
    world.send()
    assert "The table keeps the data of the last good load." in hook.got[3]["message"]


def test_what_may_pass_by_itself_is_told_when_it_did_not(world: World, hook: Hook) -> None:
    world.fails("forms", DOWN, times=2)
    assert world.look() == Planned()
    world.fails("forms", DOWN)
    assert world.look().opened == 1
    world.send()
    assert "3 times in a row" in hook.got[0]["message"]


def test_what_somebody_paused_is_no_trouble(world: World) -> None:
    world.fails("forms", REFUSED)
    world.run("INSERT INTO datasense.pauses (org_id, paused_by) SELECT id, 'me' FROM datasense.organizations")
    assert world.look() == Planned()


def test_a_source_that_breaks_its_promise_is_late_for_its_people_and_for_the_operators(
    world: World, hook: Hook
) -> None:
    world.run(
        "INSERT INTO datasense.source_tables (source_id, slug, resource, created_at) "
        "SELECT id, 't', 't', '2030-01-02 12:00+00' FROM datasense.sources"
    )
    world.run("UPDATE datasense.source_status SET next_due_at = '2030-01-02 12:00+00'")
    world.now = NOW + timedelta(minutes=10)
    assert world.look() == Planned()
    world.now = NOW + timedelta(hours=1)
    assert world.look().opened == 1  # of operators: due sources wait
    world.now = NOW + timedelta(hours=49)
    assert world.look().opened == 2
    world.send()
    assert "2 messages" in hook.titles[0]
    assert "census is late" in hook.got[0]["message"]
    assert "forms is late" in hook.got[0]["message"]
    assert "should be no older than 2 days" in hook.got[0]["message"]
    assert world.look() == Planned()
    world.run("UPDATE datasense.source_status SET next_due_at = now() + interval '100 years'")
    world.run("UPDATE datasense.table_status SET fresh_as_of = '2030-01-04 12:00+00'")
    assert world.look().closed == 3


def test_a_credential_is_told_of_two_weeks_ahead_when_it_has_ended_and_when_it_is_new(world: World, hook: Hook) -> None:
    def expires(day: str) -> None:
        given = MANIFEST.replace("{token: {env: T}}", f"{{token: {{env: T, expires: {day}}}}}")
        with world.catalog.begin() as connection:
            apply_manifest(connection, parse_manifest(given))

    expires("2030-01-17")
    assert world.look() == Planned()
    world.now = NOW + timedelta(days=1)
    assert world.look().opened == 1
    world.send()
    assert hook.titles == ["clean-water/forms/token expires"]
    assert "until 2030-01-17" in hook.got[0]["message"]
    assert "What to do: Make a new one" in hook.got[0]["message"]
    world.now = NOW + timedelta(days=15)
    assert world.look() == Planned()
    world.now = NOW + timedelta(days=16)
    assert world.look().changed == 1
    world.send()
    assert "ended on 2030-01-17" in hook.got[1]["message"]
    expires("2031-01-17")
    assert world.look().closed == 1
    world.run("UPDATE datasense.credentials SET updated_at = now()")
    with pytest.raises(IntegrityError, match="is_secret"):
        world.run("""UPDATE datasense.credentials SET reference = '{"env": "T", "expires": "soon"}'""")
    # one row with a day that no calendar has must not keep everybody's alerts from being found
    with pytest.raises(DataError, match="2031-02-30"):
        world.run("""UPDATE datasense.credentials SET reference = '{"env": "T", "expires": "2031-02-30"}'""")


def test_a_hook_that_is_down_is_tried_again_and_nothing_is_lost(world: World, hook: Hook) -> None:
    hook.broken = True
    world.fails("forms", REFUSED)
    world.look()
    for attempt in range(6):
        assert world.send().failed == 1
        assert world.send().failed == 0
        world.now += wait_after(attempt)
    with world.catalog.connect() as connection:
        assert [alert.kind for alert in open_alerts(connection)] == ["failing", "contact"]
        said = connection.execute(text("SELECT last_error FROM datasense.alert_messages WHERE attempts > 0")).scalar()
    assert said == "Contact 1 (JSON) did not take the message."
    hook.broken = False
    assert world.send().sent == 1
    assert hook.titles == ["clean-water/forms is failing"]
    with world.catalog.connect() as connection:
        assert [alert.kind for alert in open_alerts(connection)] == ["failing"]


def test_what_a_mail_server_did_not_take_in_time_is_not_sent_into_quiet_hours(world: World, hook: Hook) -> None:
    # five in the afternoon of Kolkata comes a minute after the first try
    world.run("""UPDATE datasense.organizations SET alerting = '{"quiet_hours": "17:31-21:00"}'""")
    hook.broken = True
    world.fails("forms", REFUSED)
    world.look()
    assert world.send().failed == 1
    hook.broken = False
    for minutes in (1, 60, 208):
        world.now = NOW + timedelta(minutes=minutes)
        assert world.send() == Delivered()
    world.now = NOW + timedelta(minutes=210)
    assert world.send().sent == 1
    assert hook.titles == ["clean-water/forms is failing"]


def test_of_several_contacts_each_is_told_once_whatever_becomes_of_the_others(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Hook()
    try:
        monkeypatch.setenv("OTHER_ALERTS", other.url)
        world.run(
            "UPDATE datasense.organizations SET contacts = "
            """'[{"env": "NOT_SET"}, {"env": "TEST_ALERTS"}, {"env": "OTHER_ALERTS"}]'"""
        )
        other.broken = True
        world.fails("forms", REFUSED)
        world.look()
        for attempt in range(3):
            assert world.send().failed == 1
            world.now += wait_after(attempt)
        assert hook.titles == ["clean-water/forms is failing"]
        with world.catalog.connect() as connection:
            (said,) = connection.execute(text("SELECT last_error FROM datasense.alert_messages WHERE attempts > 0"))
        assert "NOT_SET" in said[0]
        assert said[0].endswith("Contact 3 (JSON) did not take the message.")

        monkeypatch.setenv("NOT_SET", other.url)
        other.broken = False
        assert world.send().sent == 1
        assert other.titles == ["clean-water/forms is failing"] * 2
        assert len(hook.got) == 1

        # who was told that it broke hears that it works, though others have heard of neither
        other.broken = True
        world.fails("census", REFUSED)
        world.look()
        world.send()
        world.fails("census", None)
        world.look()
        world.send()
        assert hook.titles[1:] == ["clean-water/census is failing", "clean-water/census works again"]
    finally:
        other.server.shutdown()
        other.server.server_close()


def test_a_look_ends_in_time_and_leaves_what_it_did_not_come_to_for_the_next(world: World, hook: Hook) -> None:
    world.settings = world.settings.model_copy(update={"operator_contacts": SecretStr(hook.url)})
    world.fails("forms", REFUSED)
    world.look()
    silence = iter((0.0, 0.0, LONGEST_SECONDS + 1))
    assert deliver(world.catalog, world.settings, world.now, seconds=lambda: next(silence)) == Delivered(sent=1)
    assert world.send() == Delivered(sent=1)
    assert len(hook.got) == 2


def test_a_sender_that_dies_leaves_its_messages_to_the_next(world: World, hook: Hook) -> None:
    from datasense_assets.catalog.state.messages import claim_messages

    world.fails("forms", REFUSED)
    world.look()
    with world.catalog.begin() as connection:
        claim_messages(connection, world.now, world.now + timedelta(minutes=5), 10)
    assert world.send() == Delivered()
    world.now += timedelta(minutes=5)
    assert world.send().sent == 1
    assert len(hook.got) == 1


def test_what_is_over_before_it_was_told_is_told_to_nobody(world: World, hook: Hook) -> None:
    world.run("""UPDATE datasense.organizations SET alerting = '{"quiet_hours": "17:00-18:00"}'""")
    world.fails("forms", REFUSED)
    world.look()
    world.fails("forms", None)
    world.look()
    world.now += timedelta(hours=2)
    assert world.send() == Delivered()
    assert hook.got == []


def test_who_was_not_told_that_it_broke_is_not_told_that_it_works_though_others_are(world: World, hook: Hook) -> None:
    operators = Hook()
    try:
        world.settings = world.settings.model_copy(update={"operator_contacts": SecretStr(operators.url)})
        world.run("""UPDATE datasense.organizations SET alerting = '{"quiet_hours": "17:00-18:00"}'""")
        world.fails("forms", REFUSED)
        world.look()
        assert world.send().sent == 1
        world.fails("forms", None)
        world.look()
        world.now += timedelta(hours=2)
        world.send()
        assert operators.titles == ["clean-water/forms is failing", "clean-water/forms works again"]
        assert hook.got == []
    finally:
        operators.server.shutdown()
        operators.server.server_close()


def test_what_is_over_before_the_mail_server_is_back_is_told_all_the_same_for_a_day(world: World, hook: Hook) -> None:
    # what is written now is a message of now, whatever clock the test keeps
    world.now = datetime.now(UTC)
    hook.broken = True
    world.fails("forms", REFUSED)
    world.look()
    world.send()
    world.fails("forms", None)
    world.look()
    world.fails("census", REFUSED)
    world.look()
    world.now += timedelta(minutes=1)
    world.send()
    world.now += timedelta(hours=25)
    world.fails("census", None)
    world.look()
    hook.broken = False
    world.send()
    (one,) = hook.got
    assert "clean-water/forms is failing" in one["message"]
    assert "clean-water/forms works again" in one["message"]
    assert "census" not in one["message"], "that is no news any more"


def test_an_organisation_chooses_what_it_hears_and_when(world: World, hook: Hook) -> None:
    world.run("""UPDATE datasense.organizations SET alerting = '{"kinds": ["failing"], "digest": "18:00"}'""")
    world.fails("forms", REFUSED)
    world.fails("census", REFUSED)
    world.now += timedelta(minutes=20)
    world.look()
    world.send()
    assert hook.got == []
    world.now = NOW + timedelta(minutes=30)
    assert world.send().sent == 2
    assert hook.titles == ["Clean Water Trust: 2 messages"]


def test_what_another_program_wrote_amiss_about_alerts_or_time_keeps_nobody_from_being_told(
    world: World, hook: Hook
) -> None:
    # as from before such values were refused
    world.run("ALTER TABLE datasense.organizations DROP CONSTRAINT organizations_alerting_is_known")
    world.run("""UPDATE datasense.organizations SET alerting = '{"quiet_hours": "at night"}'""")
    world.fails("forms", REFUSED)
    assert world.look().opened == 1
    assert world.send().sent == 1
    assert hook.titles == ["clean-water/forms is failing"]


def test_changed_columns_are_told_once_with_the_recipes_that_use_them(world: World, hook: Hook) -> None:
    world.run(
        "INSERT INTO datasense.source_tables (source_id, org_id, slug, resource, created_at) "
        "SELECT id, org_id, 'visits', 'v', '2030-01-02' FROM datasense.sources WHERE slug = 'forms'"
    )
    affects = '[{"recipe": "by_age", "effect": "breaks"}]'
    world.run(
        "INSERT INTO datasense.schema_changes (table_id, kind, column_name, old_type, new_type, affects) "
        f"SELECT id, 'retyped', 'age', 'integer', 'text', '{affects}' FROM datasense.source_tables"
    )
    assert world.look().opened == 1
    assert world.look() == Planned()
    world.send()
    assert hook.titles == ["clean-water/forms/visits has changed its columns"]
    assert "Column age is text and no longer integer" in hook.got[0]["message"]
    assert "by_age" in hook.got[0]["message"]


def test_broken_checks_of_a_table_are_one_alert_until_others_break_or_all_hold(world: World, hook: Hook) -> None:
    world.run(
        "INSERT INTO datasense.source_tables (source_id, org_id, slug, resource, created_at) "
        "SELECT id, org_id, 'visits', 'v', '2030-01-02' FROM datasense.sources WHERE slug = 'forms'"
    )
    broken = (
        "INSERT INTO datasense.check_results (table_id, name, kind, severity, passed, message) "
        "SELECT id, '{name}', 'unique', '{severity}', false, 'Two rows have one key.' FROM datasense.source_tables"
    )
    world.run(broken.format(name="unique_id", severity="warn"))
    assert world.look().opened == 1
    assert world.look() == Planned()
    world.run(broken.format(name="not_null_id", severity="error"))
    assert world.look().changed == 1
    world.send()
    assert "not_null_id: Two rows" in hook.got[0]["message"]
    assert "wait on their last good data" in hook.got[0]["message"]
    world.run("UPDATE datasense.check_results SET passed = true")
    assert world.look().closed == 1


def test_many_failures_at_once_are_an_alarm_of_the_operators(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = world.settings.model_copy(
        update={"operator_contacts": type(world.settings.database_url)(hook.url)}
    )
    monkeypatch.setenv("TEST_ALERTS", "json://127.0.0.1:9/nobody")
    world.run(
        "INSERT INTO datasense.sources (org_id, slug, connector) "
        "SELECT id, 's' || n, 'csv' FROM datasense.organizations, generate_series(1, 30) AS n"
    )
    world.run("UPDATE datasense.source_status SET last_started_at = '2030-01-02 11:30+00', next_due_at = NULL")
    world.run(
        "UPDATE datasense.source_status SET failures_in_a_row = 1, failure_kind = 'unavailable' WHERE source_id IN "
        "(SELECT id FROM datasense.sources WHERE slug IN ('s1', 's2', 's3'))"
    )
    assert world.look().opened == 1
    assert world.send().sent == 1
    assert hook.titles == ["Many sources are failing"]
    assert "3 of the 32 sources" in hook.got[0]["message"]


def test_a_queue_that_does_not_move_and_a_full_disk_are_alarms_of_the_operators_until_they_are_over(
    world: World, hook: Hook
) -> None:
    world.settings = world.settings.model_copy(
        update={"operator_contacts": type(world.settings.database_url)(hook.url)}
    )
    world.run(
        "INSERT INTO datasense.source_tables (source_id, slug, resource) SELECT id, 't', 'a' FROM datasense.sources"
    )
    world.run("UPDATE datasense.source_status SET next_due_at = '2030-01-02 11:44+00'")

    def look(free_disk: float) -> list[str]:
        """Titles of what the operators are told now."""
        before = len(hook.got)
        with world.catalog.begin() as connection:
            plan(connection, troubles(connection, world.now, free_disk=free_disk), world.now)
        world.send()
        return sorted(line for each in hook.got[before:] for line in [*each["message"].split("\n"), each["title"]]
                      if line.startswith(("Runs wait", "The disk is", "Over:")))  # fmt: skip

    told = look(0.09)
    assert len(told) == 2
    assert told[0].startswith("Runs wait too long")
    assert told[1].startswith("The disk is nearly full")
    assert look(0.08) == [], "each is told once"
    world.run("UPDATE datasense.source_status SET next_due_at = NULL")
    assert [line.partition(" (")[0] for line in look(0.2)] == [
        "Over: Runs wait too long",
        "Over: The disk is nearly full",
    ]


@pytest.mark.parametrize(
    "url",
    ["syslog://", f"json://127.0.0.1/{SECRET}", f"mailto://a:b@192.168.1.4/{SECRET}", f"json://169.254.169.254/{SECRET}",
     f"workflows://example.org:443/{SECRET}/b/?template=/etc/passwd", "no such thing"],
)  # fmt: skip
def test_a_contact_cannot_reach_into_the_platforms_own_network_or_files(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TEST_ALERTS", url)
    world.settings = world.settings.model_copy(update={"allow_private_addresses": False})
    world.fails("forms", REFUSED)
    world.look()
    assert world.send().failed == 1
    with world.catalog.connect() as connection:
        said = connection.execute(
            text("SELECT last_error FROM datasense.alert_messages WHERE audience = 'organization'")
        ).scalar_one()
    assert said.startswith("Contact 1 ")
    assert SECRET not in said
    assert hook.got == []


def test_alerts_go_out_by_mail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiosmtpd.controller import Controller

    class Box:
        def __init__(self) -> None:
            self.mails: list[bytes] = []

        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            self.mails.append(envelope.content)
            return "250 OK"

    box = Box()
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        monkeypatch.setenv("TEST_ALERTS", f"mailto://127.0.0.1:{port}?from=us@example.org&to=them@example.org")
        world.fails("forms", REFUSED)
        world.look()
        assert world.send().sent == 1
    finally:
        controller.stop()
    (mail,) = box.mails
    parsed = message_from_bytes(mail)
    assert parsed["To"] is not None
    assert "them@example.org" in parsed["To"]
    assert "clean-water/forms is failing" in parsed["Subject"]


def test_the_sensor_looks_plans_and_sends_without_asking_for_a_run(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "catalog_engine", lambda: world.catalog)
    monkeypatch.setattr("datasense_assets.automation.alerts.sensor.catalog_engine", lambda: world.catalog)
    get_settings.cache_clear()
    world.run("UPDATE datasense.source_status SET next_due_at = NULL")
    world.fails("forms", REFUSED)
    with dg.instance_for_test() as instance:
        sensor = build_alerts_sensor(world.settings)
        result = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert result.run_requests == []
    assert "1 things are wrong; 1 opened" in str(result.skip_message)
    (told,) = result.asset_events
    assert isinstance(told, dg.AssetCheckEvaluation)
    assert (told.check_name, told.passed) == ("nothing_fails", False)
    inventory = str(told.metadata["inventory"].value)
    assert "clean-water/forms" in inventory
    assert "Make a new token." in inventory
    with dg.DagsterInstance.ephemeral() as instance:
        again = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=result.cursor))
    assert again.asset_events == []  # nothing else to report
    assert hook.titles == ["clean-water/forms is failing"]


TIMES = st.times().map(lambda at: f"{at:%H:%M}")
ZONES = st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin", "Pacific/Apia"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))


@given(TIMES, TIMES, ZONES, MOMENTS)
def test_nothing_goes_out_in_quiet_hours_nor_waits_longer_than_they_last(
    first: str, last: str, zone: str, now: datetime
) -> None:
    when = send_after(Alerting(quiet_hours=f"{first}-{last}"), zone, now)
    assert now <= when <= now + timedelta(hours=26)
    local = when.astimezone(ZoneInfo(zone))
    at = f"{local:%H:%M}"
    inside = first <= at < last if first <= last else at >= first or at < last
    # an hour that a change of clocks skips or repeats is the one exception
    moved = {(local + timedelta(hours=n)).utcoffset() for n in (-3, 0, 3)}
    assert not inside or len(moved) > 1


@given(TIMES, ZONES, MOMENTS)
def test_a_digest_goes_out_at_its_own_time_within_a_day(at: str, zone: str, now: datetime) -> None:
    when = send_after(Alerting(digest=at), zone, now)
    assert now <= when <= now + timedelta(hours=26)


def test_waiting_grows_to_six_hours() -> None:
    waits = [wait_after(attempt) for attempt in range(40)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (timedelta(minutes=1), timedelta(hours=6))


def test_the_platform_has_a_path_of_its_own() -> None:
    trouble = Trouble(None, "", "disk", "", "disk", "", "")
    assert (trouble.path, replace(trouble, org_id=1, org_slug="o", subject="s").path) == ("platform", "o/s")
