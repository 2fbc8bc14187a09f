"""Changing the key of the secrets: counted first, killed in the middle, gone on with, and nothing lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet, MultiFernet

from datasense_assets.settings import get_settings
from datasense_assets_tests.operations.conftest import CommandLine
from datasense_assets_tests.platform.running import until

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
MANY = 450


def use_keys(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    monkeypatch.setenv("DATASENSE_SECRET_KEY", ",".join(keys))
    datasense.environment["DATASENSE_SECRET_KEY"] = ",".join(keys)
    get_settings.cache_clear()


def token(value: str, key: str = OLD) -> str:
    return Fernet(key).encrypt(value.encode()).decode()


def fill(datasense: CommandLine) -> None:
    """An organisation with a role, and secrets in each place that there is for them."""
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    with psycopg.connect(datasense.database_url, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO datasense.credentials (source_id, name, reference) "
            "SELECT id, %s, jsonb_build_object('encrypted', %s::text, 'expires', '2030-01-31') FROM datasense.sources",
            [(f"token_{n}", token(f"secret {n}")) for n in range(MANY)],
        )
        connection.execute(
            "UPDATE datasense.organizations SET warehouse = NULL, contacts = jsonb_build_array("
            "jsonb_build_object('encrypted', %s::text), jsonb_build_object('env', 'CONTACT'))",
            (token("mailto://one"),),
        )
        connection.execute(
            "INSERT INTO datasense.organizations (slug, name, warehouse) "
            "VALUES (%s, 'Own', jsonb_build_object('encrypted', %s::text))",
            (f"{datasense.org}-own", token("postgresql://own")),
        )


def secrets(datasense: CommandLine, *keys: str) -> list[str]:
    """Everything that is encrypted, opened with these keys."""
    box = MultiFernet([Fernet(key) for key in keys])
    rows = datasense.rows(
        "SELECT reference ->> 'encrypted' FROM datasense.credentials UNION ALL "
        "SELECT contacts #>> '{0,encrypted}' FROM datasense.organizations WHERE contacts <> '[]' UNION ALL "
        "SELECT warehouse ->> 'encrypted' FROM datasense.organizations WHERE warehouse IS NOT NULL"
    )
    return sorted(box.decrypt(value.encode()).decode() for (value,) in rows)


def test_a_rotation_that_is_killed_is_gone_on_with(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    use_keys(datasense, monkeypatch, OLD)
    fill(datasense)
    before = secrets(datasense, OLD)
    assert "holds one key" in datasense("keys", "rotate", code=1).words
    use_keys(datasense, monkeypatch, NEW, OLD)
    dry = datasense("keys", "rotate", "--dry-run", "--json").document
    wanted = {"credential": MANY, "contacts": 1, "warehouse": 1, "role": 1}
    assert dry["rotated"] == wanted
    assert secrets(datasense, OLD) == before
    # an open breaker stays open: what is encrypted anew is no new credential
    datasense.rows(
        "INSERT INTO datasense.pauses (org_id, source_id, paused_by) "
        "SELECT org_id, id, 'breaker' FROM datasense.sources"
    )

    with psycopg.connect(datasense.database_url) as holding:
        middle = (
            "SELECT FROM datasense.credentials WHERE id = "
            "(SELECT id FROM datasense.credentials ORDER BY id OFFSET 250 LIMIT 1) FOR UPDATE"
        )
        holding.execute(middle)
        process = subprocess.Popen(
            [sys.executable, "-m", "datasense_assets.cli.main", "keys", "rotate"],
            env={**os.environ, **datasense.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until("the first rows are under the new key", lambda: counted(datasense)["newest"] == 200, seconds=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert counted(datasense) == {"keys": 2, "newest": 200, "older": MANY + 3 - 200, "lost": []}
    assert secrets(datasense, NEW, OLD) == before
    assert "kept by an older key" in datasense("keys", "forget", code=1).words
    done = datasense("keys", "rotate", "--json").document
    assert (sum(done["rotated"].values()), done["current"]) == (MANY + 3 - 200, 200)
    assert secrets(datasense, NEW) == before
    assert datasense.rows(
        "SELECT count(*) FROM datasense.credentials WHERE reference ->> 'expires' = '2030-01-31'"
    ) == [(MANY,)]
    assert datasense.rows("SELECT contacts #>> '{1,env}' FROM datasense.organizations WHERE contacts <> '[]'") == [
        ("CONTACT",)
    ]
    assert datasense.rows("SELECT count(*) FROM datasense.pauses WHERE paused_by = 'breaker'") == [(1,)]
    assert "set DATASENSE_SECRET_KEY to the first one alone" in datasense("keys", "forget").words

    use_keys(datasense, monkeypatch, NEW)
    assert counted(datasense) == {"keys": 1, "newest": MANY + 3, "older": 0, "lost": []}
    # a new secret of the source is one, and closes it
    datasense.rows("UPDATE datasense.credentials SET reference = '{\"env\": \"X\"}' WHERE name = 'token_0'")
    assert datasense.rows("SELECT count(*) FROM datasense.pauses") == [(0,)]
    password = datasense.rows("SELECT password_encrypted FROM datasense.org_roles")[0][0]
    assert Fernet(NEW).decrypt(password.encode())
    datasense.rows("DELETE FROM datasense.credentials")
    datasense("sync", datasense.org, "--local")


def counted(datasense: CommandLine) -> dict[str, Any]:
    return dict(datasense("keys", "status", "--json").document)


def test_a_secret_that_no_key_opens_stops_no_other_and_is_named(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_keys(datasense, monkeypatch, NEW, OLD)
    datasense("apply", datasense.manifest())
    for name, key in (("good", OLD), ("bad", Fernet.generate_key().decode())):
        datasense.rows(
            "INSERT INTO datasense.credentials (source_id, name, reference) "
            "SELECT id, %s, jsonb_build_object('encrypted', %s::text) FROM datasense.sources",
            name,
            token("x", key),
        )
    result = datasense("keys", "rotate", "--json", code=1)
    assert result.document["lost"] == [f"credential of {datasense.org}/places bad"]
    assert result.document["rotated"]["credential"] == 1


def test_a_key_file_gets_a_new_key_and_forgets_the_old_one(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    path = datasense.folder / "home" / "secret.key"
    old = path.read_text()
    assert "A new key would be made" in datasense("keys", "rotate", "--dry-run").words
    assert path.read_text() == old
    datasense("keys", "rotate")
    assert path.read_text().split(",")[1] == old
    assert path.stat().st_mode & 0o777 == 0o600
    datasense("keys", "forget")
    (key,) = path.read_text().split(",")
    assert key != old
    assert Fernet(key).decrypt(datasense.rows("SELECT password_encrypted FROM datasense.org_roles")[0][0].encode())
    assert len(Fernet(datasense("keys", "new").out.strip())._signing_key) == 16
