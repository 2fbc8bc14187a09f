"""`datasense housekeeping` and `datasense status --failing`, from the command line."""

from __future__ import annotations

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
