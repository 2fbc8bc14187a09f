"""Log lines: one JSON object each, with organisation, source and run, and no secret in any."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import dagster as dg
import pytest

from datasense_assets.running import logs, whose
from datasense_assets.running.instance import open_instance
from datasense_assets.settings import get_settings
from datasense_assets_tests.operations.conftest import CommandLine

PASSWORD = "hunter-two-and-a-half"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def test_every_line_of_a_run_is_json_and_says_whose_it_is(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    done = datasense.process("sync", datasense.org, "--local", DATASENSE_LOG_FORMAT="json")
    assert done.code == 0, done.words
    text = (datasense.folder / "home" / "logs" / "runs.log").read_text()
    said = lines(text)
    ((run,),) = datasense.rows("SELECT run_id FROM runs")
    org = datasense.org.replace("-", "_")
    assert len(said) > 10
    # before it there is the building of its graph, and warnings of libraries are of this process and not of the run
    of_run = [line for line in said if line["logger"] not in ("datasense.graph", "py.warnings")]
    whose = {(line.get("run"), line.get("org"), line.get("source"), line.get("connector")) for line in of_run}
    assert whose == {(run, org, "places", "csv")}
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)
    assert {"RUN_START", "STEP_SUCCESS", "RUN_SUCCESS"} <= {line.get("what") for line in said}
    assert any("3 rows loaded" in line["message"] and line["step"] for line in of_run)


def test_a_failure_is_one_line_with_its_error(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    (datasense.folder / "towns.csv").unlink()
    datasense.process("sync", datasense.org, "--local", DATASENSE_LOG_FORMAT="json")
    said = lines((datasense.folder / "home" / "logs" / "runs.log").read_text())
    failed = [line for line in said if line.get("what") == "STEP_FAILURE"]
    assert failed
    assert "towns.csv" in failed[0]["error"]


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", f"postgresql://u:{PASSWORD}@db.example.org/d")
    monkeypatch.setenv("DATASENSE_SECRET_KEY", "a-key-that-is-none,another-key")
    get_settings.cache_clear()
    yield logs.line_formatter("json")
    get_settings.cache_clear()


def said_by(form: logging.Formatter, message: str, *values: Any, **more: Any) -> dict[str, Any]:
    more.setdefault("exc_info", None)
    record = logging.getLogger("datasense.test").makeRecord("datasense.test", 30, "f", 1, message, values, **more)
    return dict(json.loads(form.format(record)))


SECRETS = [
    (f"cannot connect to postgresql://u:{PASSWORD}@db.example.org/d", PASSWORD),
    ("GET https://kf.example.org/data.csv?token=abcdef0123&page=2", "abcdef0123"),
    ("headers {'Authorization': 'Token abcdef0123'}", "abcdef0123"),
    ('{"api_key": "abcdef0123", "rows": 3}', "abcdef0123"),
    ("Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"),
    ("stored gAAAAABl" + "x" * 80, "x" * 80),
    ("mailto://me:letmein12@mail.example.org", "letmein12"),
    ("the key is a-key-that-is-none", "a-key-that-is-none"),
    (f"password of the server: {PASSWORD}", PASSWORD),
]


@pytest.mark.parametrize(("message", "secret"), SECRETS)
def test_no_secret_stays_in_a_line(form: logging.Formatter, message: str, secret: str) -> None:
    line = said_by(form, "%s", message)
    assert secret not in json.dumps(line)
    assert "***" in line["message"]


def test_what_is_no_secret_stays(form: logging.Formatter) -> None:
    for words in ("240 rows of clean-water/forms read", "tokenized 3 columns", "https://kf.example.org/api/v2/assets"):
        assert said_by(form, words)["message"] == words


def test_a_traceback_is_masked_too(form: logging.Formatter) -> None:
    try:
        raise ValueError(f"postgresql://u:{PASSWORD}@db/d")
    except ValueError:
        line = said_by(form, "it failed", exc_info=sys.exc_info())
    assert "Traceback" in line["exception"]
    assert PASSWORD not in json.dumps(line)


def test_a_process_that_runs_one_after_another_says_of_each_line_which_it_was(form: logging.Formatter) -> None:
    for org in ("one", "two"):
        run = dg.DagsterRun(job_name="j", tags={"datasense/org": org, "datasense/source": "forms"})
        with logs.about_run(run):
            line = said_by(form, "reading")
        assert (line["org"], line["source"], line["run"]) == (org, "forms", run.run_id)
    assert "org" not in said_by(form, "idle")
    named = said_by(form, "Launching run 0b7cf3a1-5a57-4f0c-8c1e-1e9a55d0a001 now")
    assert named["run"] == "0b7cf3a1-5a57-4f0c-8c1e-1e9a55d0a001"


def test_what_the_daemon_says_of_a_run_by_its_id_alone_is_found_with_the_runs_own_lines(
    datasense: CommandLine, form: logging.Formatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASENSE_DATABASE_URL", datasense.database_url)
    get_settings.cache_clear()
    with open_instance() as instance:
        # made elsewhere, as by a click in the webserver
        tags = {"datasense/org": "one", "datasense/source": "forms", "datasense/lane": "interactive"}
        click = instance.create_run_for_job(_job, tags=tags)
        instance.run_coordinator  # noqa: B018 - the daemon's queue opens it before anything else
        monkeypatch.setattr(whose, "_silent_until", 0.0)
        asked: list[str] = []
        real = instance.get_run_by_id
        monkeypatch.setattr(instance, "get_run_by_id", lambda run_id: asked.append(run_id) or real(run_id))
        for words in (
            "Retrieved a queued run, submitting run {} for execution",
            "Checking run {}",
            "Detected run worker status FAILED: gone. Marking run {} as failed.",
            "Freed 1 slots for run {} with status FAILURE",
        ):
            line = said_by(form, words.format(click.run_id))
            about = {name: line.get(name) for name in ("run", "org", "source", "lane")}
            assert about == {"run": click.run_id, "org": "one", "source": "forms", "lane": "interactive"}, words
        assert asked == [click.run_id], "once is enough"

        def away(run_id: str) -> None:
            asked.append(run_id)
            raise ConnectionError

        monkeypatch.setattr(instance, "get_run_by_id", away)
        other = "0b7cf3a1-5a57-4f0c-8c1e-1e9a55d0a002"
        assert [said_by(form, f"Checking run {other}")["run"] for _ in range(3)] == [other] * 3
        assert len(asked) == 2, "while the database is away no line waits for it again"


@dg.op
def _nothing() -> None: ...


@dg.job
def _job() -> None:
    _nothing()


def test_lines_for_people_say_the_same(form: logging.Formatter) -> None:
    del form
    run = dg.DagsterRun(job_name="j", tags={"datasense/org": "one"})
    record = logging.getLogger("datasense.test").makeRecord("datasense.test", 30, "f", 1, f"pw {PASSWORD}", (), None)
    with logs.about_run(run):
        said = logs.line_formatter("text").format(record)
    assert run.run_id in said
    assert "one" in said
    assert PASSWORD not in said
