"""`datasense doctor`: what holds is said to hold, and each thing that cannot is refused with its sum."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from cryptography.fernet import Fernet
from psycopg import sql

from datasense_assets.operations.doctor import Finding, programs, server
from datasense_assets.operations.doctor.demand import runs_a_day
from datasense_assets.operations.doctor.indexes import CATALOG_INDEXES
from datasense_assets.settings import get_settings
from datasense_assets_tests.operations.conftest import CommandLine, need
from datasense_assets_tests.places import free_port

ROOT = Path(__file__).resolve().parents[2]


class Said:
    """What `datasense doctor --json` found, by name."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.holds = document["holds"]
        self.findings = document["findings"]

    def __call__(self, name: str, level: str) -> dict[str, Any]:
        found = [each for each in self.findings if each["name"] == name and each["level"] == level]
        assert len(found) == 1, (name, level, [f for f in self.findings if f["name"] == name])
        return dict(found[0])

    def levels(self, *names: str) -> set[str]:
        return {each["level"] for each in self.findings if each["name"] in names}


def ask(datasense: CommandLine, code: int) -> Said:
    return Said(datasense("doctor", "--json", code=code).document)


def test_a_new_platform_holds(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    result = datasense("doctor", "--all")
    said = ask(datasense, 0)
    assert said.holds
    assert {each["name"] for each in said.findings} >= {
        "versions", "environment", "secret_key", "server", "migrations", "clock", "rights", "indexes", "secrets",
        "dagster", "connections", "lanes", "places", "quotas", "shards", "disk", "memory",
    }  # fmt: skip
    assert said.levels("versions", "indexes", "rights", "lanes", "connections", "migrations") == {"fine"}
    assert "8 in all - 5 scheduled - 1 backfill = 2 for people and recipes" in result.out


def test_each_limit_that_cannot_hold_is_refused_with_the_sum(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    # held still, as for an upgrade, it may be started all the same
    datasense("limits", "set", "total", 0)
    assert "datasense limits unset total" in ask(datasense, 0)("lanes", "note")["fix"]
    datasense("limits", "set", "total", 2000)
    datasense("limits", "set", "lane", "scheduled", 2000)
    said = ask(datasense, 1)
    assert not said.holds
    connections = said("connections", "wrong")
    assert "2000 runs x 4 + webserver 10 + daemon 12 + code server 8" in connections["sums"][0]
    assert "datasense limits set total" in connections["fix"]
    assert "2000 in all - 2000 scheduled - 1 backfill = -1" in said("lanes", "wrong")["sums"][0]
    assert "2000 runs x 330 MB" in said("memory", "wrong")["sums"][0]


def test_schedules_that_no_lane_or_quota_can_serve_are_refused(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense.rows("UPDATE datasense.sources SET schedule = '\"15min\"'")
    datasense.rows(
        "INSERT INTO datasense.run_costs (org_id, kind, name, run_id, succeeded, wall_seconds, api_calls) "
        "SELECT org_id, 'source', slug, 'r', true, 5400, 4000 FROM datasense.sources"
    )
    datasense.rows(
        "INSERT INTO datasense.quota_state (key, name, host, allowed_calls, allowed_seconds) "
        "VALUES ('k', 'kobo.account', 'kobo.example.org', 240, 60)"
    )
    datasense.rows("INSERT INTO datasense.source_quotas (source_id, key) SELECT id, 'k' FROM datasense.sources")
    said = ask(datasense, 1)
    assert (
        "96 runs a day x 5400.0 s / 86,400 s = 6.00 places, of 5 (1 of 1 sources measured)"
        in said("places", "wrong")["sums"]
    )
    quota = said("quotas", "wrong")
    assert "kobo.account at kobo.example.org" in quota["said"]
    assert quota["sums"] == ["16,000 calls an hour of 12,528 (240 in 60 s, 87 % usable)"]


def test_a_missing_index_a_leak_and_a_foreign_key_are_found(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    schema = "org_" + datasense.org.replace("-", "_")
    datasense.rows("DROP INDEX datasense.source_status_due")
    datasense.rows(f"GRANT USAGE ON SCHEMA {schema} TO PUBLIC")
    datasense.rows(
        "UPDATE datasense.org_roles SET password_encrypted = %s", Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    )
    said = ask(datasense, 1)
    assert "lacks source_status_due" in said("indexes", "wrong")["said"]
    assert f"everybody may look into {schema}" in said("rights", "wrong")["said"]
    assert f"{datasense.org} role" in said("secrets", "wrong")["said"]


def test_production_refuses_what_is_only_good_for_a_laptop(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("db", "migrate")
    monkeypatch.setenv("DATASENSE_ENV", "production")
    monkeypatch.setenv("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "true")
    get_settings.cache_clear()
    said = ask(datasense, 1)
    wrong = [each["said"] for each in said.findings if each["level"] == "wrong"]
    for words in ("ALLOW_PRIVATE_ADDRESSES", "FILES_ROOT", "secret.key", "fsync"):
        assert any(words in each for each in wrong), (words, wrong)
    monkeypatch.setenv("DATASENSE_SECRET_KEY", "nonsense")
    get_settings.cache_clear()
    assert "no valid Fernet key" in ask(datasense, 1)("secret_key", "wrong")["said"]


def test_an_older_catalog_is_found_and_a_shard_counts_its_own_sources(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("db", "migrate")
    datasense.rows("UPDATE datasense.alembic_version SET version_num = '0001'")
    assert "version 0001" in ask(datasense, 1)("migrations", "wrong")["said"]
    monkeypatch.setenv("DATASENSE_SHARD", "0/4")
    get_settings.cache_clear()
    assert "shard 0/4 holds 0 sources" in ask(datasense, 1)("shards", "fine")["said"]


def test_a_database_without_a_catalog_is_told_so_and_nothing_more(
    datasense: CommandLine, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", empty_database_url)
    get_settings.cache_clear()
    said = ask(datasense, 1)
    assert "datasense db migrate" in said("migrations", "wrong")["fix"]
    assert {each["level"] for each in said.findings if each["name"] != "migrations"} <= {"fine", "note"}


def test_an_instance_that_is_not_ours_is_refused(
    datasense: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("db", "migrate")
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    for name in ("run_coordinator", "run_retries"):
        del config[name]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    get_settings.cache_clear()
    said = ask(datasense, 1)("dagster", "wrong")["said"]
    assert "run_coordinator is not" in said
    assert "run_retries is off" in said


def test_a_process_is_started_only_where_all_holds(datasense: CommandLine) -> None:
    datasense("db", "migrate")
    words = (sys.executable, "-c", "print('it runs')")
    assert datasense.process("doctor", "--", *words).out.splitlines()[-1] == "it runs"
    datasense("limits", "set", "total", 5000)
    refused = datasense.process("doctor", "--", *words, DATASENSE_LOG_FORMAT="json")
    assert refused.code == 1
    assert "it runs" not in refused.out
    said = [json.loads(line) for line in refused.words.splitlines() if line.startswith("{")]
    errors = [line["message"] for line in said if (line["logger"], line["level"]) == ("datasense.doctor", "error")]
    assert any("5000 runs x 4" in message for message in errors)


def test_what_tenants_ask_for_and_a_full_disk_keep_no_process_down(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("apply", datasense.manifest())
    datasense.rows("UPDATE datasense.sources SET schedule = '\"15min\"'")
    datasense.rows(
        "INSERT INTO datasense.run_costs (org_id, kind, name, run_id, succeeded, wall_seconds, api_calls) "
        "SELECT org_id, 'source', slug, 'r', true, 5400, 4000 FROM datasense.sources"
    )
    monkeypatch.setenv("DATASENSE_MIN_FREE_DISK_MB", str(10**9))
    get_settings.cache_clear()
    became: list[list[str]] = []
    monkeypatch.setattr("datasense_assets.cli.doctor._become", became.append)
    asked = datasense("doctor", code=1).out
    assert "WRONG places: " in asked
    assert "WRONG disk: " in asked
    started = datasense("doctor", "--", "dagster-daemon", "run").out
    assert "WRONG places: " in started
    assert became == [["dagster-daemon", "run"]]
    datasense("limits", "set", "total", 5000)
    datasense("doctor", "--", "dagster-daemon", "run", code=1)
    assert len(became) == 1


def test_a_limit_that_connections_cannot_hold_is_said_when_it_is_set(datasense: CommandLine) -> None:
    datasense("db", "migrate")
    assert "connections" not in datasense("limits", "set", "total", 9).words
    said = datasense("limits", "set", "total", 900).words
    assert "900 runs x 4" in said


def test_the_code_server_of_a_production_says_at_its_start_what_does_not_hold(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from datasense_assets.definitions import definitions

    datasense("db", "migrate")
    definitions()
    assert "doctor" not in caplog.text
    monkeypatch.setenv("DATASENSE_ENV", "production")
    get_settings.cache_clear()
    definitions()
    errors = [
        each.getMessage() for each in caplog.records if each.name == "datasense.doctor" and each.levelname == "ERROR"
    ]
    assert any(each.startswith("environment: DATASENSE_FILES_ROOT is not set") for each in errors)


def test_a_database_that_is_away_cannot_be_looked_at(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:1/nothing")
    get_settings.cache_clear()
    result = datasense("doctor", code=2)
    assert "It could not be looked at: The database nothing at 127.0.0.1:1" in result.out
    assert "secret-word" not in result.out + result.words


def test_versions_beyond_the_ranges_say_what_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = programs.version
    monkeypatch.setattr(
        programs, "version", lambda name: {"sqlalchemy": "2.1.0", "sqlglot": "30.19.0"}.get(name) or real(name)
    )
    (found,) = programs.look_at_versions()
    assert found.level == "wrong"
    assert "sqlalchemy 2.1.0 is not <2.1,>=2.0: 2.1 reads postgresql:// as psycopg 3" in found.said
    assert "DROP TABLE without a name" in found.said


def test_how_often_a_schedule_comes_round() -> None:
    wanted = {"15min": 96, "hourly": 24, "daily": 1, "manual": 0, "weekly": 1 / 7}
    assert {name: runs_a_day(name) for name in wanted} == pytest.approx(wanted)
    assert runs_a_day({"cron": "*/5 8-17 * * 1-5"}) == pytest.approx(120 * 5 / 7)
    assert runs_a_day({"cron": "nonsense"}) == 0


def test_the_indexes_that_are_asked_for_are_those_of_a_catalog(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'datasense'").fetchall()
    assert {name for (name,) in rows} >= CATALOG_INDEXES


@pytest.fixture
def pooler_url(database_url: str, tmp_path: Path) -> Any:
    """PgBouncer before the test's database, with settings that no load survives."""
    import os

    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pgbouncer is not installed here, and CI must have it")
        pytest.skip("pgbouncer is not installed")
    parts = urlsplit(database_url)
    port = free_port()
    users = tmp_path / "users.txt"
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        f"max_client_conn = 20\nstats_users = {parts.username}\nignore_startup_parameters = extra_float_digits\n"
    )
    command = [program, str(tmp_path / "pgbouncer.ini")]
    if os.geteuid() == 0:
        for path in (tmp_path, users, tmp_path / "pgbouncer.ini"):
            path.chmod(0o755)
        shutil.chown(users, "postgres")
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    for folder in tmp_path.parents:
        if folder.owner() == "root" and "pytest-" in str(folder) and os.geteuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o055)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}", process
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_a_pooler_that_refuses_loads_is_found(
    datasense: CommandLine, pooler_url: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets_tests.platform.running import until

    url, process = pooler_url
    monkeypatch.setenv("DATASENSE_DATABASE_URL", url)
    get_settings.cache_clear()

    def found() -> list[Finding]:
        assert process.poll() is None, process.stderr.read()
        return [*server.look_at_pooler(get_settings(), 8)]

    findings = until("PgBouncer shows its settings", found, seconds=30)
    said = {each.said: each for each in findings}
    assert "ignore_startup_parameters lacks options: every load is refused." in said
    few = said["PgBouncer takes fewer clients than may come."]
    assert few.level == "wrong"
    assert few.sums == ("8 runs x 4 + webserver 10 + daemon 12 + code server 8 + metrics and commands 4 = 66, of 20",)


def test_a_stranger_to_the_database_may_not_make_roles(datasense: CommandLine, server_url: str) -> None:
    datasense("db", "migrate")
    name = f"weak_{datasense.org.replace('-', '_')}"
    with psycopg.connect(datasense.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA datasense TO {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA datasense TO {}").format(sql.Identifier(name)))
    from sqlalchemy import create_engine, text

    engine = create_engine(datasense.database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.connect() as as_owner:
            as_owner.execute(text(f"SET ROLE {name}"))
            findings = [*server.look_at_rights(as_owner)]
            as_owner.rollback()
    finally:
        engine.dispose()
    assert any(f"{name} lacks CREATEROLE and CREATE" in each.said and each.level == "wrong" for each in findings)


def test_the_whole_platform_does_not_start_on_what_cannot_hold(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_ENV", "production")
    # put back at the end: `up` sets them for what it starts
    monkeypatch.setenv("DAGSTER_HOME", str(datasense.folder / "dagster"))
    (datasense.folder / "dagster").mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", datasense.folder / "dagster" / "dagster.yaml")
    monkeypatch.setenv("DATASENSE_REDIS_URL", "")
    get_settings.cache_clear()
    result = datasense("up", "--cold", "--port", free_port(), code=None)
    assert result.code == 1, result.words
    assert "What is set cannot hold." in result.words
    assert "DATASENSE_FILES_ROOT is not set" in result.words


def test_redis_that_may_drop_runs_and_lanes_without_a_worker_are_found(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasense_assets.running.warm.broker import announce_slots, connect
    from datasense_assets_tests.platform.running import until

    datasense("db", "migrate")
    program, port = need("redis-server"), free_port()
    command = [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--maxmemory-policy", "allkeys-lru"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    monkeypatch.setenv("DATASENSE_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    get_settings.cache_clear()
    try:
        client = connect(f"redis://127.0.0.1:{port}/0")
        until("Redis answers", lambda: answers(client), seconds=20)
        announce_slots(client, "w1", {"scheduled": 5, "interactive": 2})
        stays(client)
        said = ask(datasense, 1)
        assert "maxmemory-policy of Redis is allkeys-lru" in said("redis", "wrong")["said"]
        slots = said("slots", "note")
        assert "No warm worker takes transform, backfill" in slots["said"]
        assert "scheduled: 5 slots, 5 runs" in slots["sums"][0]
        client.config_set("maxmemory-policy", "noeviction")
        announce_slots(client, "w2", {"transform": 9, "backfill": 1})
        stays(client)
        said = ask(datasense, 0)
        assert said.levels("redis") == {"fine"}
        assert "and no more than 8 runs" in said("slots", "note")["said"]
    finally:
        process.terminate()
        process.wait(timeout=20)


def stays(client: Any) -> None:
    """What a worker announces it announces again every few seconds; here none does."""
    for key in client.keys("datasense:slots:*"):
        client.persist(key)


def answers(client: Any) -> bool:
    from redis import RedisError

    try:
        return bool(client.ping())
    except RedisError:
        return False
