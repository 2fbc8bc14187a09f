"""`datasense metrics`: what it says of a platform in which something has happened, and what is built on it."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import httpx
import psycopg
import pytest
import yaml
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families

from datasense_assets.operations import health
from datasense_assets.operations.health import readiness
from datasense_assets.operations.metrics import Exporter
from datasense_assets.operations.metrics.runs import waits_since
from datasense_assets.operations.serving import make_server
from datasense_assets.running.instance import open_instance
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.operations.conftest import CommandLine, need

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
DEAD = "postgresql://nobody:secret-word@127.0.0.1:1/nothing"


class Read:
    """Samples of a scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert len(found) == 1, (name, labels, found)
        return float(found[0])

    def total(self, name: str, **labels: str) -> float:
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())


def scrape(datasense: CommandLine) -> Read:
    return Read(datasense("metrics", "--once").out)


def test_metrics_tell_of_runs_failures_rows_and_breakers(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    (datasense.folder / "towns.csv").unlink()
    for _ in range(3):
        datasense("sync", datasense.org, "--local", code=2)
    read = scrape(datasense)
    assert {
        sample.labels["part"]: sample.value for sample in read.samples if sample.name == "datasense_up"
    } == dict.fromkeys(("runs", "catalog", "database", "dagster", "processes"), 1.0)
    assert read.total("datasense_runs_ended_total", state="success") == 1
    assert read.total("datasense_runs_ended_total", state="failure") == 3
    assert read.total("datasense_run_failures_total") == 3
    assert read.total("datasense_run_duration_seconds_count") == 4
    assert read.total("datasense_run_start_delay_seconds_count") == 4
    assert read.total("datasense_rows_loaded_total") == 3
    assert read.total("datasense_run_cpu_seconds_total") > 0
    assert read.total("datasense_worker_peak_memory_bytes_count") >= 1
    assert read.total("datasense_worker_peak_memory_bytes_sum") > 50e6
    assert read("datasense_catalog_rows", what="sources") == 1
    assert read.total("datasense_failing", connector="csv") == 1
    assert read("datasense_database_bytes") > 1e6
    assert read("datasense_database_part_bytes", part="warehouse") > 0
    assert read.total("datasense_database_connections", who="datasense") >= 1


def test_an_ended_run_is_counted_once_however_often_it_is_read(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    exporter = Exporter(catalog_engine, lambda: instance, get_settings(), since=datetime.now(UTC))
    with open_instance() as instance:
        datasense("sync", datasense.org, "--local")
        (run,) = instance.get_runs()
        for _ in range(2):
            exporter._text_at = float("-inf")
            read = Read(exporter.text().decode())
            assert read.total("datasense_runs_ended_total") == 1
            # as the daemon does when it tries a run again
            instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})


def test_freshness_is_by_organisation_and_quotas_count_calls(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    datasense.rows("UPDATE datasense.sources SET schedule = '\"hourly\"', fresh_within_seconds = 3600")
    datasense.rows("UPDATE datasense.table_status SET fresh_as_of = now() - interval '3 hours'")
    ask = (
        "SELECT wait FROM datasense.take_call(ARRAY['k'], ARRAY['kobo.account'], 'kobo.example.org', "
        "ARRAY[60], ARRAY[60.0]::double precision[], ARRAY[false], 'me', 30)"
    )
    waits = [datasense.rows(ask)[0][0] for _ in range(5)]
    read = scrape(datasense)
    assert read("datasense_late", what="source") == 1
    assert read("datasense_late_by_org", org=datasense.org) == 1
    assert read("datasense_late_longest_seconds") == pytest.approx(7200, abs=120)
    one = {"quota": "kobo.account", "host": "kobo.example.org"}
    refused = sum(wait > 0 for wait in waits)
    assert 0 < refused < 5
    assert read("datasense_api_calls_total", **one) == 5 - refused
    assert read("datasense_api_waits_total", **one) == refused
    assert read("datasense_api_wait_seconds_total", **one) == pytest.approx(sum(waits), abs=1e-3)
    assert read("datasense_quota_allowed_calls_per_second", **one) == 1.0


def test_labels_are_bounded_however_many_organisations_and_hosts_there_are(datasense: CommandLine) -> None:
    datasense("db", "migrate")
    datasense.rows(
        "WITH o AS (INSERT INTO datasense.organizations (slug, name) "
        "SELECT 'many-' || n, 'Many' FROM generate_series(1, 300) n RETURNING id), "
        "s AS (INSERT INTO datasense.sources (org_id, slug, connector, fresh_within_seconds, schedule) "
        "SELECT id, 'forms', 'kobo', 60, '\"hourly\"' FROM o RETURNING id) "
        "INSERT INTO datasense.source_tables (source_id, slug, resource, warehouse_name) "
        "SELECT id, 't', 't', 't' FROM s"
    )
    datasense.rows("UPDATE datasense.source_tables SET created_at = now() - interval '1 day'")
    datasense.rows(
        "INSERT INTO datasense.quota_state (key, name, host, calls) "
        "SELECT 'k' || n, 'kobo.account', 'host-' || n, n FROM generate_series(1, 300) n"
    )
    datasense.rows(
        "UPDATE datasense.source_status SET failures_in_a_row = 2, failure_kind = 'gone' WHERE source_id % 2 = 0"
    )
    read = scrape(datasense)
    assert read("datasense_late", what="source") == 150
    assert len(read.families["datasense_late_by_org"].samples) == 51
    assert read.total("datasense_late_by_org") == 150
    assert read.total("datasense_api_calls_total") == 300 * 301 / 2
    assert len(read.samples) < 1500


def test_a_scheduled_run_waits_since_its_slot(database_url: str) -> None:
    del database_url
    made = datetime(2026, 3, 1, 12, 0, 30)
    tags = {"dagster/run_key": "source-7@2026-03-01T12:00:00+00:00"}
    for given, since in ((tags, 0), ({}, 30), ({"dagster/run_key": "somebody@else"}, 30)):
        run = dg.DagsterRun(job_name="j", tags=given)
        record = dg.RunRecord(1, run, create_timestamp=made, update_timestamp=made)
        assert waits_since(record) == datetime(2026, 3, 1, 12, 0, since, tzinfo=UTC)


@contextmanager
def served(exporter: Any, ready: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, exporter, ready)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_health_is_503_with_reasons_until_a_daemon_is_heard_of(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    with open_instance() as instance:
        exporter = Exporter(catalog_engine, lambda: instance, get_settings())
        with served(exporter.text, lambda: readiness(catalog_engine, lambda: instance, get_settings())) as url:
            assert httpx.get(f"{url}/health/live").json()["live"] is True
            answer = httpx.get(f"{url}/health/ready")
            assert answer.status_code == 503
            said = answer.json()
            assert [check["name"] for check in said["checks"] if not check["ok"]] == ["daemon", "due_tick"]
            assert "SENSOR has never been heard of" in said["reasons"][0]
            assert "has never been evaluated" in said["reasons"][1]
            made = instance.create_run_for_job(_idle_job)
            let_wait(datasense, made.run_id)
            stuck = {c["name"]: c for c in httpx.get(f"{url}/health/ready").json()["checks"]}["queue"]
            assert stuck["ok"] is False
            assert re.search(r"It does not move: 1 runs wait, the oldest for \d{4} s; 0 go on\.", stuck["said"])
            metrics = httpx.get(f"{url}/metrics")
            assert metrics.headers["content-type"].startswith("text/plain")
            read = Read(metrics.text)
            assert read.total("datasense_queue_depth") == 1
            assert read.total("datasense_queue_oldest_wait_seconds") > 1000
            assert httpx.get(f"{url}/else").status_code == 404
    out = datasense("metrics", "--ready", code=2)
    assert out.document["ready"] is False


def test_each_thing_that_is_not_well_is_said_and_nothing_else(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("apply", datasense.manifest())
    ticks: dict[str, Any] = {}
    monkeypatch.setattr(health, "newest_ticks", lambda _: ticks)
    here = get_settings()

    def tick(age: float, status: str = "SUCCESS") -> None:
        then = datetime.now(UTC).timestamp() - age
        ticks["due_sources"] = SimpleNamespace(timestamp=then, status=SimpleNamespace(value=status))

    with open_instance() as instance:

        def beat(age: float, *kinds: str) -> None:
            for kind in kinds or instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - age, kind, None))

        def reasons(**changed: int) -> str:
            return "\n".join(
                readiness(catalog_engine, lambda: instance, here.model_copy(update=changed)).document()["reasons"]
            )

        beat(5)
        tick(5)
        assert reasons() == ""
        beat(500, "SENSOR")
        assert re.fullmatch(r"daemon: SENSOR has not been heard of for 5\d\d s\.", reasons())
        beat(5)
        for age, status, words in (
            (500, "SUCCESS", r"due_sources was last evaluated 5\d\d s ago\."),
            (5, "FAILURE", r"due_sources was last evaluated \d+ s ago, and failed\."),
        ):
            tick(age, status)
            assert re.fullmatch(f"due_tick: {words}", reasons())
        ticks.clear()
        assert reasons() == "due_tick: The sensor due_sources has never been evaluated, or is stopped."
        tick(5)
        let_wait(datasense, instance.create_run_for_job(_idle_job).run_id)
        assert reasons().startswith("queue: It does not move: 1 runs wait")
        other = instance.create_run_for_job(_idle_job).run_id
        datasense.rows("UPDATE runs SET status = 'STARTED' WHERE run_id = %s", other)
        assert reasons() == "", "a queue that is merely full moves"
        assert reasons(min_free_memory_mb=10**9).startswith("memory: ")
        assert reasons(min_free_disk_mb=10**9).startswith("disk: ")
        with monkeypatch.context() as patch:
            patch.setattr(health, "CONNECTIONS_SHARE", 0.0)
            assert re.fullmatch(r"database: \d+ of \d+ connections are used\.", reasons())
        ((version,),) = datasense.rows("SELECT version_num FROM datasense.alembic_version")
        datasense.rows("UPDATE datasense.alembic_version SET version_num = '0001'")
        assert reasons() == f"catalog: It is at version 0001; this program's is {version}."
        datasense.rows("UPDATE datasense.alembic_version SET version_num = %s", version)
        name = datasense.database_url.rpartition("/")[2]
        datasense.rows(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        catalog_engine().dispose()
        try:
            assert reasons().startswith("database: It takes no writes.")
        finally:
            writing = psycopg.connect(
                datasense.database_url, options="-c default_transaction_read_only=off", autocommit=True
            )
            writing.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
            writing.close()


@dg.op
def _idle() -> None: ...


@dg.job
def _idle_job() -> None:
    _idle()


def let_wait(datasense: CommandLine, run_id: str) -> None:
    """As if a run that has not begun had been asked for twenty minutes ago."""
    then = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=20)
    datasense.rows("UPDATE runs SET create_timestamp = %s WHERE run_id = %s", then, run_id)


def test_a_database_that_is_away_is_said_and_tells_no_secret(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", DEAD)
    get_settings.cache_clear()
    catalog_engine.cache_clear()
    out = datasense("metrics", "--once").out
    read = Read(out)
    assert read("datasense_up", part="catalog") == 0
    assert read("datasense_up", part="processes") == 1
    ready = datasense("metrics", "--ready", code=2)
    assert "database: It cannot be looked at" in ready.document["reasons"][0]
    assert "secret-word" not in out + ready.out + ready.words


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bdatasense_[a-z_]+", expression))


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    found = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_every_metric_of_dashboard_and_alerts_is_one_that_the_exporter_has(datasense: CommandLine) -> None:
    datasense("db", "migrate")
    with open_instance() as instance:
        text = Exporter(catalog_engine, lambda: instance, get_settings()).text().decode()
    said = {f"datasense_{name}" for name in re.findall(r"^# TYPE datasense_(\S+) ", text, re.MULTILINE)}
    histograms = set(re.findall(r"^# TYPE (datasense_\S+) histogram", text, re.MULTILINE))
    said |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    used = {name for expression in expressions().values() for name in names_in(expression)}
    assert len(used) > 30
    assert used - said == set()


def test_promtool_accepts_the_rules_and_they_fire_when_they_should(tmp_path: Path) -> None:
    promtool = need("promtool")
    subprocess.run([promtool, "check", "rules", MONITORING / "alerts.yml"], check=True, capture_output=True)
    subprocess.run([promtool, "check", "config", MONITORING / "prometheus.yml"], check=True, capture_output=True)

    def case(series: dict[str, str], alert: str, at: str, fires: list[dict[str, str]]) -> dict[str, Any]:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [
                {"alertname": alert, "eval_time": at, "exp_alerts": [{"exp_labels": each} for each in fires]}
            ],
        }

    ended = 'datasense_runs_ended_total{state="%s",lane="scheduled",connector="kobo"}'
    late, many = 'datasense_late{what="source"}', 'datasense_catalog_rows{what="sources"}'
    heart = 'datasense_daemon_heartbeat_age_seconds{daemon="SENSOR"}'
    queue = 'datasense_queue_oldest_wait_seconds{lane="interactive"}'
    calls = 'datasense_api_calls_total{quota="kobo.account",host="h"}'
    allowed = 'datasense_quota_allowed_calls_per_second{quota="kobo.account",host="h"}'
    page, ticket = {"severity": "page"}, {"severity": "ticket"}
    tests = [
        case({heart: "10x3 200x20"}, "DatasenseDaemonSilent", "10m", [{**page, "daemon": "SENSOR"}]),
        case({heart: "10x30"}, "DatasenseDaemonSilent", "10m", []),
        case({queue: "90x20"}, "DatasensePeopleWait", "5m", [{**page, "lane": "interactive"}]),
        case({ended % "success": "0+9x120", ended % "failure": "0+1x120"}, "DatasenseManyFail", "90m", [page]),
        case({ended % "success": "0+99x120", ended % "failure": "0+1x120"}, "DatasenseManyFail", "90m", []),
        case({late: "30x60", many: "1000x60"}, "DatasenseDataLate", "30m", [page]),
        case({late: "10x60", many: "1000x60"}, "DatasenseDataLate", "30m", []),
        case({calls: "0+57x120", allowed: "1x120"}, "DatasenseQuotaUsedUp", "90m",
             [{**ticket, "quota": "kobo.account", "host": "h"}]),
        case({calls: "0+20x120", allowed: "1x120"}, "DatasenseQuotaUsedUp", "90m", []),
    ]  # fmt: skip
    plain = {"groups": [{"name": "all", "rules": [{**rule, "annotations": {}} for rule in _rules()]}]}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    document = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _rules() -> list[dict[str, Any]]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]
