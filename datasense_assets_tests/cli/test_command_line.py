from __future__ import annotations

import json

import pytest

from datasense_assets_tests.cli.conftest import CommandLine

COMMANDS = [
    "demo",
    "apply",
    "export",
    "delete",
    "list",
    "discover",
    "test",
    "sync",
    "build",
    "preview",
    "check",
    "status",
    "pause",
    "resume",
    "db",
]
HEAVY = ("dagster", "dlt", "ibis", "pyarrow")


def imported(datasense: CommandLine, *words: str) -> set[str]:
    """The heavy modules that a command has imported when it ends."""
    code = (
        "import sys, json\n"
        "from datasense_assets.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        f"finally:\n    print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)\n"
    )
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **datasense.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


def test_every_command_is_there_with_help(datasense: CommandLine) -> None:
    listed = datasense("--help").out
    for command in COMMANDS:
        assert f" {command} " in listed
        assert "Usage:" in datasense(command, "--help").out


def test_help_list_and_status_import_nothing_heavy(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(), "--no-discover")
    assert imported(datasense, "--help") == set()
    assert imported(datasense, "list", "sources", "--json") == set()
    assert imported(datasense, "status") == set()
    assert imported(datasense, "export", datasense.org) == set()


def test_apply_does_not_import_dagster(datasense: CommandLine) -> None:
    assert "dagster" not in imported(datasense, "apply", str(datasense.manifest()))


@pytest.mark.parametrize(
    "words", [["sing"], ["list", "--colour"], ["apply"], ["list", "fish"], ["preview", "x", "--step", "-1"]]
)
def test_a_wrong_command_line_exits_1_and_points_to_help(datasense: CommandLine, words: list[str]) -> None:
    result = datasense(*words, code=1)
    assert "--help" in result.words
    assert result.out == ""


def test_nothing_asked_shows_the_help(datasense: CommandLine) -> None:
    assert "Usage:" in datasense(code=0).out


def test_a_wrong_variable_is_named(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASENSE_SHARD", "9/2")
    result = datasense("list", code=1)
    assert "DATASENSE_SHARD" in result.words


def test_a_database_that_is_down_exits_2_without_the_password(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", "postgresql://someone:sesame@127.0.0.1:1/db")
    result = datasense("list", "--json", code=2)
    assert "127.0.0.1:1" in result.words
    assert "sesame" not in result.words + result.out
    assert result.document["exit_code"] == 2
    assert result.document["error"]["advice"]


def test_a_failure_is_one_json_document_on_stdout_and_words_on_stderr(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest(), "--no-discover")
    result = datasense("sync", f"{datasense.org}/place", "--json", code=1)
    assert result.document["error"]["message"] == f"There is no source 'place' in {datasense.org}."
    assert "Did you mean places?" in result.words


def test_an_unknown_organisation_is_refused_with_what_there_is(datasense: CommandLine) -> None:
    result = datasense("status", "nobody", code=1)
    assert "datasense apply" in result.words
    datasense("apply", datasense.manifest(), "--no-discover")
    assert datasense.org in datasense("status", "nobody", code=1).words


def test_a_defect_is_said_to_be_one(datasense: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasense_assets.cli.listing._rows", lambda *_: 1 / 0)
    result = datasense.process("list")  # the other process is whole
    assert result.code == 0
    from typer.testing import CliRunner

    from datasense_assets.cli.main import app

    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 2
    assert "ZeroDivisionError" in done.stderr
    assert "defect" in done.stderr
