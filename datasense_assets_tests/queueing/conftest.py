"""A real daemon, queue and webserver over a catalog of many sources, whose runs are held by the test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from datasense_assets.catalog.state import RunLimit, set_run_limit
from datasense_assets.running.owners import catalog_engine
from datasense_assets.settings import get_settings
from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.platform.running import ROOT, Graphql, Platform, until
from datasense_assets_tests.queueing.launcher import end_run

WAITING, GOING = ("QUEUED",), ("STARTING", "STARTED")


def kobo_source(slug: str, host: str, **more: Any) -> dict[str, Any]:
    """A source that no test reads: only its run is of interest."""
    return {
        "slug": slug,
        "connector": "kobo",
        "config": {"base_url": f"https://{host}"},
        "credentials": {"token": {"env": "QUEUE_TEST_TOKEN"}},
        "tables": [{"slug": "visits", "resource": "aForm"}],
        "schedule": "manual",
        "partitions": {"start": "2026-01-01"},
        **more,
    }


def org(slug: str, *sources: dict[str, Any]) -> dict[str, Any]:
    return {"organization": {"slug": slug, "name": slug}, "sources": list(sources)}


def command(*words: str) -> None:
    """A command line, in this process: a process of its own takes longer than all it does."""
    from datasense_assets.cli.main import app

    assert app(list(words), standalone_mode=False) == 0, words


@dataclass
class Queue:
    """The running platform, and its instance as this process sees it."""

    platform: Platform
    ui: Graphql
    instance: dg.DagsterInstance

    def runs(self, statuses: Iterable[str], **tags: str) -> list[dg.DagsterRun]:
        wanted = [dg.DagsterRunStatus(status) for status in statuses]
        return list(self.instance.get_runs(dg.RunsFilter(statuses=wanted, tags=tags)))

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        return run.status.value if run is not None else "GONE"

    def goes_on(self, run_id: str, *, seconds: float = 60.0) -> None:
        until(f"run {run_id} has started", lambda: self.status(run_id) in GOING, seconds=seconds)

    def end(self, run_id: str, *, success: bool = True) -> None:
        """End a run; one that is only being started would start after its end, and hold its place for ever."""
        until(f"run {run_id} has started", lambda: self.status(run_id) == "STARTED")
        end_run(self.instance, run_id, success=success)

    def looks_at_all(self) -> None:
        """Returns when the daemon has looked at everything that waited before: what still waits is held back.

        Two runs that come after all others, one after the other: the look that starts the second has seen the first
        one's look through.
        """
        for _ in range(2):
            run_id = self.ui.click("last/of_all/visits", partition="2026-01-02", tags={"datasense/lane": "backfill"})
            self.goes_on(run_id)
            self.end(run_id)

    def clear(self) -> None:
        """Nothing is due, queued or goes on when this returns, and the limits are those of dagster.yaml."""
        self.platform.execute("DELETE FROM datasense.run_limits")
        self.platform.execute("UPDATE datasense.source_status SET next_due_at = NULL")
        # a look that went on meanwhile may still make runs; one that began after it has seen that nothing is due
        self.platform.is_looked_at()

        def is_quiet() -> bool:
            waiting, going = self.runs(WAITING), self.runs(GOING)
            for run in waiting:
                self.instance.report_run_canceled(run)
            for run in going:
                if run.status is dg.DagsterRunStatus.STARTED:
                    self.end(run.run_id)
            return not waiting and not going

        until("the queue is empty", is_quiet)

    def limits(self, *words: str) -> None:
        command("limits", *words)

    def set_limits(self, limits: Mapping[tuple[str, str], int]) -> None:
        """By (scope, name): as `datasense limits set` leaves it, without opening an instance each time."""
        with catalog_engine().begin() as connection:
            for (scope, name), at_once in limits.items():
                set_run_limit(connection, RunLimit(scope, name, at_once), by="test")  # type: ignore[arg-type]

    def make_due(self, *slugs: str) -> None:
        self.platform.execute(
            "UPDATE datasense.source_status SET next_due_at = now() WHERE source_id IN "
            "(SELECT id FROM datasense.sources WHERE slug = ANY (%s))",
            list(slugs),
        )


@contextmanager
def running_queue(
    database_url: str,
    home: Path,
    manifests: Iterable[dict[str, Any]],
    **variables: str,
) -> Iterator[Queue]:
    """`dagster dev` over organisations given as manifests, with the settings of dagster.yaml but for the launcher."""
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    config["run_launcher"] = {
        "module": "datasense_assets_tests.queueing.launcher",
        "class": "HeldRuns",
        "config": {},
    }
    # a held run has no worker whose health could be looked at
    config["run_monitoring"]["enabled"] = False
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    platform = Platform(
        home=home,
        database_url=database_url,
        variables={
            "DAGSTER_HOME": str(home),
            "QUEUE_TEST_TOKEN": "token",
            "DATASENSE_DUE_INTERVAL_SECONDS": "1",
            "DATASENSE_RECIPES_INTERVAL_SECONDS": "1",
            "DATASENSE_REQUESTS_INTERVAL_SECONDS": "1",
            "DATASENSE_BACKFILL_CHUNK": "2",
            **variables,
        },
    )
    files = []
    for number, manifest in enumerate(manifests):
        path = home / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"version": 1, **manifest}), encoding="utf-8")
        files.append(str(path))
    platform.datasense("apply", "--no-discover", *files)
    # in some hours each source's night would come, with a run that no test asked for
    platform.execute(
        "INSERT INTO datasense.rereads (source_id, due_at) SELECT id, now() + interval '2 days' FROM datasense.sources"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATASENSE_HOME", "DATASENSE_DATABASE_URL", "DAGSTER_HOME"):
            patch.setenv(name, platform.environment[name])
        get_settings.cache_clear()
        catalog_engine.cache_clear()
        with platform.dagster_dev(), dg.DagsterInstance.from_config(str(home)) as instance:
            yield Queue(platform, Graphql(platform), instance)
        catalog_engine.cache_clear()
    get_settings.cache_clear()


@pytest.fixture(scope="package")
def queue(server_url: str, platform_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    """One platform for all tests of the queue."""
    from datasense_assets_tests.queueing import test_isolation, test_limits

    last = org("last", kobo_source("of-all", "last.example"))
    manifests = [*test_limits.manifests(), *test_isolation.manifests(), last]
    with (
        fresh_database(server_url, "queue", template=platform_template) as url,
        running_queue(url, tmp_path_factory.mktemp("home"), manifests) as found,
    ):
        yield found
