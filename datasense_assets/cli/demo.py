"""`datasense demo`: an example organisation from nothing to finished tables, on data that comes with the project."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import typer

from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.apply import apply_manifests, prepare_and_discover, read_manifests, show_plan
from datasense_assets.cli.errors import InputWrong, WorldFailed
from datasense_assets.cli.here import instance_for_runs
from datasense_assets.cli.outcomes import Outcome, exit_code
from datasense_assets.cli.output import JsonFlag, ago, print_json, print_table, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from datasense_assets.catalog.manifest import Manifest
    from datasense_assets.catalog.models import Organization
    from datasense_assets.catalog.status import StatusRow

_ADDRESS_IN_FILE = "http://127.0.0.1:8765"
_SHOWN_RECIPE = "monthly_visits"
_START_SECONDS = 30
_PAUSED_BECAUSE = "The demo's stand-in server has ended; `datasense demo` starts it and loads again."


@dataclass(frozen=True)
class _StandIn:
    """The running stand-in server: its address, and the token of the demo's organisation."""

    url: str
    token: str


def demo(as_json: JsonFlag = False) -> None:
    """Load an example organisation and show its tables: from nothing, in about a minute, with no setting needed.

    Its KoboToolbox server and its submissions are simulated; districts and towns are public data. Can be run again.
    """
    from datasense_assets.settings import PROJECT_ROOT, set_environment

    started = monotonic()
    examples = PROJECT_ROOT / "examples"
    if not (examples / "clean-water.yaml").is_file():
        raise InputWrong(
            f"The demo's data is not in {examples}.", advice="Run it in a checkout of the project, as `make demo` does."
        )
    with _stand_in(examples) as server:
        set_environment({"DATASENSE_ALLOW_PRIVATE_ADDRESSES": "true", "CLEAN_WATER_KOBO_TOKEN": server.token})
        with progress("Starting the database"), open_catalog() as catalog:
            pass
        with open_catalog() as catalog:
            org, outcomes = _run_all(catalog, examples, server)
            rows = _loaded(catalog, org)
            sample = _sample(catalog, org)
    _tell(org, rows, sample, monotonic() - started, as_json=as_json, outcomes=outcomes)
    raise typer.Exit(exit_code(outcomes))


@contextlib.contextmanager
def _stand_in(examples: Path) -> Iterator[_StandIn]:
    """The stand-in KoboToolbox server as a process of its own, which ends with the block."""
    say("Starting a stand-in KoboToolbox server with invented submissions (this part is simulated).")
    # The usual port first, so that a second demo changes nothing in the catalog; any free one where it is taken.
    process, line = _start(examples, [])
    if not line:
        process, line = _start(examples, ["--port", "0"])
    if not line:
        raise WorldFailed(
            "The demo's stand-in server does not start.", advice="Run it by hand: examples/kobo_stand_in.py."
        )
    try:
        described = json.loads(line)
        token = next(a["token"] for a in described["accounts"] if a["organization"] == "clean-water")
        yield _StandIn(described["url"], token)
    finally:
        process.terminate()
        process.wait()


def _start(examples: Path, arguments: Sequence[str]) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, str(examples / "kobo_stand_in.py"), "--files", str(examples / "data"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    limit = threading.Timer(_START_SECONDS, process.kill)
    limit.start()
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
    finally:
        limit.cancel()
    if not line:
        process.wait()
    return process, line


def _run_all(catalog: Engine, examples: Path, server: _StandIn) -> tuple[Organization, list[Outcome]]:
    from datasense_assets.catalog.state import pause, resume
    from datasense_assets.cli.recipes import build_here
    from datasense_assets.cli.syncing import Wish, sync_here

    path = examples / "clean-water.yaml"
    manifest = _as_it_runs(read_manifests([path])[0][1], examples, server)
    plans = apply_manifests(catalog, [(path, manifest)], dry_run=False)
    for plan in plans.values():
        show_plan(plan, dry_run=False)
    prepare_and_discover(catalog, plans)
    slug = manifest.organization.slug
    with catalog.begin() as connection:
        org = read_organization(connection, slug)
        simulated = [source for source in org.sources if _is_simulated(source.config, server)]
        for source in simulated:
            resume(connection, org.id, source.id)
    with instance_for_runs() as instance:
        outcomes = sync_here(catalog, instance, org, [Wish(source) for source in org.sources])
        built = build_here(instance, org, list(org.recipes), f"{slug}/recipes")
    with catalog.begin() as connection:
        for source in simulated:
            pause(connection, org.id, source.id, reason=_PAUSED_BECAUSE, by="demo")
    for outcome in (*outcomes, built):
        for failure in outcome.failures:
            say(f"{outcome.name}: {failure}", style="red")
    return org, [*outcomes, built]


def _is_simulated(config: dict[str, Any], server: _StandIn) -> bool:
    return any(isinstance(value, str) and value.startswith(server.url) for value in config.values())


def _as_it_runs(manifest: Manifest, examples: Path, server: _StandIn) -> Manifest:
    """The manifest with the stand-in's real address, and with files found from any folder."""

    def placed(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.startswith("examples/"):
            return str(examples.parent / value)
        return value.replace(_ADDRESS_IN_FILE, server.url)

    sources = tuple(
        source.model_copy(update={"config": {name: placed(value) for name, value in source.config.items()}})
        for source in manifest.sources
    )
    return manifest.model_copy(update={"sources": sources})


def _loaded(catalog: Engine, org: Organization) -> list[tuple[StatusRow, str]]:
    """How each table and recipe stands, with its name in the warehouse."""
    from datasense_assets.catalog.models import identifier, org_schema, table_name
    from datasense_assets.catalog.status import organization_status

    with catalog.connect() as connection:
        rows = organization_status(connection, org.slug)
    found = []
    for row in rows:
        _, middle, *rest = row.path.split("/")
        last = rest[0] if rest else ""
        own = identifier(last) if row.kind == "recipe" else table_name(middle, last)
        found.append((row, f"{org_schema(org.slug)}.{own}"))
    return found


def _sample(catalog: Engine, org: Organization) -> list[dict[str, Any]]:
    """The first ten rows of a recipe's table, read as the organisation."""
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.organizations import prepare_organization
    from datasense_assets.warehouse.reading import fetch_rows, table_exists

    target = prepare_organization(catalog, get_settings(), org)
    with target.connect() as warehouse:
        if not table_exists(warehouse, target.schema, _SHOWN_RECIPE):
            return []
        return fetch_rows(warehouse, target.schema, _SHOWN_RECIPE, 10)


def _tell(
    org: Organization,
    rows: Sequence[tuple[StatusRow, str]],
    sample: Sequence[dict[str, Any]],
    seconds: float,
    *,
    as_json: bool,
    outcomes: Sequence[Outcome],
) -> None:
    if as_json:
        print_json(
            {
                "organization": org.slug,
                "seconds": round(seconds, 1),
                "tables": [{**asdict(row), "table": name} for row, name in rows],
                "sample": {"table": _SHOWN_RECIPE, "rows": sample},
                "runs": [outcome.document() for outcome in outcomes],
            }
        )
        return
    print_table(
        ("what", "rows", "fresh as of", "where to look"),
        [(row.path, row.row_count, ago(row.fresh_as_of), name) for row, name in rows],
        title=f"{org.name}, loaded in {seconds:.0f} s",
    )
    if sample:
        print_table(
            list(sample[0]), [list(row.values()) for row in sample], title=f"Ten rows of the recipe {_SHOWN_RECIPE}"
        )
    schema = rows[0][1].partition(".")[0] if rows else ""
    say(f'Look inside:   psql "$(datasense db url)" -c "TABLE {schema}.{_SHOWN_RECIPE}"')
    say(f"Ask the CLI:   datasense status {org.slug}; datasense preview {org.slug}/{_SHOWN_RECIPE} --sql")
    say("In Dagster:    dagster dev, then open http://localhost:3000")
    say(
        "Simulated: the KoboToolbox server and its submissions, and the web server of the towns; both have ended, so"
        " their sources are paused. Districts and towns are real (GeoNames, CC BY 4.0).",
        style="yellow",
    )
