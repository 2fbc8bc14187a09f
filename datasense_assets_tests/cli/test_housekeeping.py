"""`datasense housekeeping` and `datasense status --failing`, from the command line."""

from __future__ import annotations

import pytest

from datasense_assets.running import forgetting
from datasense_assets_tests.cli.conftest import CommandLine


def test_housekeeping_says_what_it_would_put_away_and_then_does(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    datasense("sync", datasense.org, "--local")
    datasense("apply", datasense.manifest(sources=[]))
    for words, dry in ((("--dry-run",), True), ((), False)):
        said = datasense("housekeeping", "run", *words, "--json").document
        assert said["dry_run"] is dry
        staged = [each for each in said["done"] if each["what"] == "staged tables"]
        assert [(each["where"], each["count"]) for each in staged] == [(datasense.org, 1)]
    assert "Nothing is lying about." in datasense("housekeeping", "run").words


def test_status_can_be_of_what_fails_alone(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    assert "Nothing fails." in datasense("status", "--failing").words
    datasense("sync", datasense.org, "--local")
    (datasense.folder / "towns.csv").unlink()
    datasense("sync", datasense.org, "--local", code=2)
    (row,) = datasense("status", datasense.org, "--failing", "--json").document["rows"]
    assert (row["state"], row["late"], row["fresh_within"]) == ("failing", False, None)
    assert row["since"]
    assert row["what_to_do"]


def test_status_says_what_runs_have_cost(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    assert "Nothing has run" in datasense("status", "--costs").words
    datasense("sync", datasense.org, "--local")
    said = datasense("status", datasense.org, "--costs", "--json").document
    (row,) = said["rows"]
    assert (row["kind"], row["name"], row["failures"], row["rows_written"]) == ("source", "places", 0, 3)
    assert 0 < row["cpu_seconds"] == said["total"]["cpu_seconds"]
    (org,) = datasense("status", "--costs", "--json").document["rows"]
    assert (org["org"], org["name"], org["runs"]) == (datasense.org, None, row["runs"])
    assert f"{datasense.org}/places" in datasense("status", datasense.org, "--costs").out


def put_away(datasense: CommandLine, what: str, *words: str) -> list[str] | int:
    """What housekeeping says of one thing: names where it has some, else how many."""
    said = datasense("housekeeping", "run", "--json", *words).document["done"]
    (found,) = [each for each in said if each["what"] == what]
    return found["names"] or found["count"]


def test_old_runs_are_forgotten_but_not_those_that_filled_a_partition_last(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    for _ in range(3):
        datasense("sync", datasense.org, "--local")
    datasense.rows("UPDATE runs SET create_timestamp = now() - interval '29 days'")
    assert put_away(datasense, "records of runs") == 0
    datasense.rows("UPDATE runs SET create_timestamp = now() - interval '31 days'")
    last = datasense.rows("SELECT run_id FROM runs ORDER BY id DESC LIMIT 1")
    assert put_away(datasense, "records of runs", "--dry-run") == 2
    assert datasense.rows("SELECT count(*) FROM runs") == [(3,)]
    assert put_away(datasense, "records of runs") == 2
    assert datasense.rows("SELECT run_id FROM runs") == last
    assert datasense.rows("SELECT DISTINCT run_id FROM event_logs") == last
    assert put_away(datasense, "records of runs") == 0


def test_a_night_that_is_too_short_leaves_the_youngest_and_says_so(
    datasense: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasense("apply", datasense.manifest())
    for _ in range(4):
        datasense("sync", datasense.org, "--local")
    runs = [run for (run,) in datasense.rows("SELECT run_id FROM runs ORDER BY id")]
    for run, age in zip(runs[:3], (33, 38, 35), strict=True):
        datasense.rows("UPDATE runs SET create_timestamp = now() - %s * interval '1 day' WHERE run_id = %s", age, run)
    asked = iter((0.0, 0.0, 1.0))
    # the night begins, the first run is looked at, and the second would be after its end
    monkeypatch.setattr(forgetting, "monotonic", lambda: next(asked) * 4 * 3600)
    said = {each["what"]: each for each in datasense("housekeeping", "run", "--json").document["done"]}
    assert said["records of runs"]["count"] == 1
    assert said["older runs"]["skipped"] == "2 wait for the next night, this one is over"
    assert [run for (run,) in datasense.rows("SELECT run_id FROM runs ORDER BY id")] == [runs[0], *runs[2:]]


def test_the_pools_of_connectors_follow_the_limits(datasense: CommandLine) -> None:
    datasense("apply", datasense.manifest())
    assert put_away(datasense, "limits of pools") == ["connector_csv=5"]
    limit = "INSERT INTO datasense.run_limits (scope, name, at_once) VALUES ('connector', 'csv', 7)"
    datasense.rows(limit)
    assert put_away(datasense, "limits of pools", "--dry-run") == ["connector_csv=7"]
    assert put_away(datasense, "limits of pools") == ["connector_csv=7"]
    assert put_away(datasense, "limits of pools") == 0
    assert datasense.rows("SELECT count(*) FROM concurrency_slots WHERE concurrency_key = 'connector_csv'") == [(7,)]
