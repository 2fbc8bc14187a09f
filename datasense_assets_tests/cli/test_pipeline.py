"""A pipeline's commands as examples/ci has them: each runs on a scratch catalog, and its exit code says what came."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.platform.running import ROOT, Platform

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(300)]

WORKFLOW = ROOT / "examples" / "ci" / "github-actions.yml"


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    return found


def steps(job: str) -> list[dict[str, Any]]:
    """Those that run a command, installing apart."""
    return [step for step in jobs()[job]["steps"] if "run" in step and step["name"] != "Install"]


@pytest.fixture(scope="module")
def platform(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A scratch catalog, which the steps leave behind for what fails after them."""
    home = tmp_path_factory.mktemp("pipeline")
    with fresh_database(server_url, "pipeline") as url:
        variables = {name: value for name, value in jobs()["check"]["env"].items() if "${{" not in value}
        yield Platform(home=home, database_url=url, variables={**variables, "CLEAN_WATER_KOBO_TOKEN": "of-nobody"})


def run(platform: Platform, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """As the runner does: by bash, which ends at the first command that fails."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=ROOT,
        env={**platform.environment, **more},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_every_step_of_the_example_works_on_a_scratch_catalog(platform: Platform) -> None:
    for step in steps("check"):
        done = run(platform, step["run"])
        assert done.returncode == 0, (step["name"], done.stdout[-3000:], done.stderr[-3000:])
    assert "gazetteer" in json.dumps(json.loads((platform.home / "status.json").read_text(encoding="utf-8")))
    assert platform.rows("SELECT count(*) > 10 FROM org_clean_water.gazetteer__districts") == [(True,)]
    # a second time there is no difference, which is what the other two jobs say after a merge
    for job, said in (("difference", "clean-water: 13 stay as they are."), ("apply", "clean-water: 13 unchanged.")):
        (step,) = steps(job)
        done = run(platform, step["run"])
        assert done.returncode == 0, done.stderr[-3000:]
        assert said in done.stderr


def test_a_partition_that_there_is_not_fails_the_step_and_says_so(platform: Platform) -> None:
    materialize = steps("check")[-1]["run"].splitlines()[0].partition("--partition")[0]
    done = run(platform, f"{materialize} --partition 2026-01-01")
    assert done.returncode == 1
    assert "partition key `2026-01-01`" in done.stdout + done.stderr


def test_a_location_that_does_not_load_fails_the_step(platform: Platform) -> None:
    done = run(platform, "dagster definitions validate", DATASENSE_SHARD="4/4")
    assert done.returncode == 1
    assert "write i/n with i from 0 to n-1" in done.stdout + done.stderr


def test_wrong_files_are_exit_code_1_with_every_problem_and_a_world_that_failed_is_2(
    platform: Platform, tmp_path: Path
) -> None:
    manifest = tmp_path / "wrong.yaml"
    wrong = {
        "version": 1,
        "organization": {"slug": "Wrong!", "name": "x"},
        "sources": [{"slug": "a", "connector": "none"}],
    }
    manifest.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    checked = run(platform, f"datasense check {manifest}")
    assert checked.returncode == 1
    assert "Wrong!" in checked.stderr
    assert "none" in checked.stderr
    refused = run(platform, f"datasense apply --dry-run {manifest}")
    assert refused.returncode == 1
    away = run(
        platform, "datasense apply --dry-run $MANIFESTS", DATASENSE_DATABASE_URL="postgresql://x@127.0.0.1:9/none"
    )
    assert away.returncode == 2


def test_the_example_pins_what_it_runs_on_and_prints_no_secret() -> None:
    for name, job in jobs().items():
        assert job["runs-on"] == "ubuntu-24.04", name
        assert job["permissions"] == {"contents": "read"}, name
        for step in job["steps"]:
            assert "secrets." not in step.get("run", ""), name
            assert "@v" in step.get("uses", "@v"), name
    assert sys.version_info[:2] >= (3, 11)
