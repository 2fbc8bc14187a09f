"""What a process imports that loads the location, and one that serves a due source; each in a fresh interpreter.

Whatever is not on these lists costs every code server, every run worker and every look of the daemon. A name is added
here with a reason, and not because a test is red.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from datasense_assets_tests.assets.conftest import Yard
from datasense_assets_tests.assets.test_costs import wells

# Beside what `import dagster` brings: settings are read from the environment, the home folder is the user's.
AT_LOAD = {"dotenv", "platformdirs", "pydantic", "pydantic_settings"}
# Reading the catalog, and reckoning the next slot in the organisation's time zone.
AT_A_TICK = AT_LOAD | {"cronsim", "greenlet", "psycopg", "psycopg_binary", "sqlalchemy", "typing_extensions", "yaml"}
# Rooms of ours that only a load or a build enters.
NEVER = ("cli", "ingest", "recipes.language", "recipes.formula", "recipes.compiling", "connectors.http", "operations")

_LOAD = """
import dagster
before = set(sys.modules)
import datasense_assets.definitions
"""
_BUILD = """
from datasense_assets.assets.graph import build_definitions
from datasense_assets.settings import get_settings
from datasense_assets_tests.assets.test_graph import CHECKED
build_definitions(CHECKED, get_settings()).get_repository_def().load_all_definitions()
"""
# The instance of a daemon or code server brings Dagster's own storage with it.
_TICK = """
import dagster
instance = dagster.DagsterInstance.ephemeral()
before = set(sys.modules)
import datasense_assets.definitions
repository = datasense_assets.definitions.definitions().get_repository_def()
with dagster.build_sensor_context(instance=instance, repository_def=repository) as context:
    for name in ("due_sources", "stale_recipes"):
        said = repository.get_sensor_def(name).evaluate_tick(context)
        assert len(said.run_requests) == (name == "due_sources"), said
"""


def imported(program: str) -> set[str]:
    """Modules that a program imports beyond those of Dagster; the tests' own are not counted."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{program}\nprint(json.dumps(sorted(set(sys.modules) - before)))"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    """Installed packages among them: neither ours nor Python's own."""
    names = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    return {n for n in names if not n.startswith(("datasense", "dagster", "_")) and n not in ("pytest", "examples")}


def ours(modules: set[str]) -> list[str]:
    """Rooms of ours that were entered and should not have been."""
    return sorted(
        name for name in modules if name.removeprefix("datasense_assets.").startswith(NEVER) and "tests" not in name
    )


def test_importing_the_location_brings_settings_and_nothing_else() -> None:
    found = imported(_LOAD)
    assert packages(found) <= AT_LOAD
    assert ours(found) == []
    assert not any(name.startswith("datasense_assets.warehouse") for name in found)


def test_building_a_graph_with_sources_recipes_and_checks_brings_no_more() -> None:
    program = f"{_LOAD}{_BUILD}"
    seen = imported(f"import pytest, yaml, psycopg, sqlalchemy\n{program}")
    assert packages(seen) - {"_pytest"} <= AT_LOAD
    assert ours(seen) == []


def test_a_due_tick_reads_the_catalog_and_opens_no_source(yard: Yard, tmp_path: Path) -> None:
    yard.apply(wells(yard))
    assert yard.run("clean_water/wells").success
    yard.execute("UPDATE datasense.source_status SET next_due_at = now() - interval '1 minute', replan = false")
    found = imported(_TICK)
    assert packages(found) <= AT_A_TICK
    assert ours(found) == []
