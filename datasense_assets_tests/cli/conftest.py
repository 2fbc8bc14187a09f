"""A command line on a database and a home of its own, with CSV files, a stand-in server and a manifest to apply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.testing
import yaml
from psycopg import sql
from typer.main import get_command
from typer.testing import CliRunner

from datasense_assets.cli.main import app
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings

# The commands are the same each time, and making all of them takes as long as what one of them does.
typer.testing._get_command = cache(get_command)

TOWNS = "code,town,people\n1,Ajmer,542000\n2,Alwar,322000\n3,Sikar,n/a\n"


@dataclass
class Result:
    """How a command ended: exit code, stdout (results), stderr (words)."""

    code: int
    out: str
    words: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs commands as a user would, in this process or in one of its own."""

    folder: Path
    database_url: str
    org: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: object, code: int | None = 0) -> Result:
        """Run a command here; fails when its exit code is another than `code` (None: any will do)."""
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        result = Result(done.exit_code, done.stdout, done.stderr)
        assert "Traceback" not in result.words, result.words
        if code is not None:
            assert result.code == code, f"{words} ended with {result.code}\n{result.out}\n{result.words}"
        return result

    def process(self, *words: object, **variables: str) -> Result:
        """Run a command in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "datasense_assets.cli.main", *map(str, words)],
            env={**os.environ, **self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def write(self, name: str, content: Any) -> Path:
        """A file in the test's folder; what is not text is written as YAML."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    def manifest(self, **changes: Any) -> Path:
        """A manifest of one CSV source with the towns, changed at its top level; its path."""
        towns = self.folder / "towns.csv"
        if not towns.exists():
            towns.write_text(TOWNS, encoding="utf-8")
        base = {
            "version": 1,
            "organization": {"slug": self.org, "name": "Test Trust"},
            "sources": [
                {
                    "slug": "places",
                    "connector": "csv",
                    "config": {"url": str(towns), "key": ["code"]},
                    "schedule": "manual",
                }
            ],
        }
        return self.write("manifest.yaml", {**base, **changes})

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def datasense(platform_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line; the organisation's roles are dropped afterwards."""
    suffix = uuid.uuid4().hex[:6]
    environment = {"DATASENSE_HOME": str(tmp_path / "home"), "DATASENSE_DATABASE_URL": platform_url}
    for name in ("DATASENSE_ALLOW_PRIVATE_ADDRESSES", "DATASENSE_SHARD", "DATASENSE_SECRET_KEY", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _forget()
    yield CommandLine(tmp_path, platform_url, f"org-{suffix}", environment)
    _forget()
    with psycopg.connect(platform_url, autocommit=True) as connection:
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", (f"%{suffix}%",)).fetchall()
        for (role,) in roles:
            for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(role)))


def _forget() -> None:
    get_settings.cache_clear()
    catalog_engine.cache_clear()
