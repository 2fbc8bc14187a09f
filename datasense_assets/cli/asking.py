"""Runs through the queue: a request in the catalog, the run that the daemon makes of it, and waiting for its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datasense_assets.cli.errors import WorldFailed
from datasense_assets.cli.outcomes import Outcome, written_tables
from datasense_assets.cli.output import Progress, progress

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

# The daemon says that it is alive every 30 seconds.
_HEARTBEAT_SECONDS = 120
_POLL_SECONDS = 1.0
NO_DAEMON = "No Dagster daemon is running, so nothing serves the queue."
NO_DAEMON_ADVICE = "Start one with `dagster dev`, or run here and now with --local."


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Whether the daemon's sensors and its queue have both shown a sign of life in the last two minutes."""
    beats = instance.get_daemon_heartbeats()
    now = datetime.now(UTC).timestamp()
    return all(
        name in beats and now - float(beats[name].timestamp) < _HEARTBEAT_SECONDS
        for name in ("SENSOR", "QUEUED_RUN_COORDINATOR")
    )


def wait_for(catalog: Engine, instance: dg.DagsterInstance, asked: Sequence[Outcome]) -> list[Outcome]:
    """Wait until every request has its run and every run has ended, with progress on stderr.

    Interrupting it leaves the runs alone.

    Raises:
        WorldFailed: the daemon stopped before it had taken a request.

    """
    waiting = {outcome.request_id: outcome for outcome in asked}
    ended: dict[int | None, Outcome] = {}
    known: set[int | None] = set()
    pause = threading.Event()
    with progress(f"Waiting for {_named(asked)}") as shown:
        seen: dict[int | None, str] = {}
        while True:
            for outcome in list(waiting.values()):
                for part in _other_parts(catalog, outcome, known):
                    asked = [*asked, part]
                    waiting[part.request_id] = part
            for request_id, outcome in list(waiting.items()):
                result = _look(catalog, instance, outcome, shown, seen)
                if result is not None:
                    ended[request_id] = result
                    del waiting[request_id]
                    if len(asked) > 1:
                        shown.update(f"{len(ended)} of {len(asked)} have ended")
            if not waiting:
                return [ended[outcome.request_id] for outcome in asked]
            if not daemon_is_alive(instance):
                raise WorldFailed(
                    f"The Dagster daemon stopped while {_named(waiting.values())} waited.",
                    advice="The requests are kept: start the daemon again, and they are served.",
                )
            pause.wait(_POLL_SECONDS)


def _other_parts(catalog: Engine, asked: Outcome, known: set[int | None]) -> list[Outcome]:
    """What else has to be waited for, once a request was taken: the other runs of a long range, each found once."""
    from datasense_assets.catalog.state import parts_of, read_request

    if asked.request_id is None or asked.request_id in known:
        return []
    with catalog.connect() as connection:
        result = read_request(connection, asked.request_id)
        if result is None or not result.settled:
            return []
        known.add(asked.request_id)
        parts = parts_of(connection, asked.request_id)
    known.update(number for number, _, _ in parts)
    return [Outcome(f"{asked.name} {first}...{last}", "asked", request_id=number) for number, first, last in parts]


def _named(outcomes: Iterable[Outcome]) -> str:
    return ", ".join(outcome.name for outcome in outcomes)


def _look(
    catalog: Engine, instance: dg.DagsterInstance, asked: Outcome, shown: Progress, seen: dict[int | None, str]
) -> Outcome | None:
    """The outcome of a request that has ended, else None; tells what has changed since the last look."""
    from datasense_assets.catalog.state import read_request
    from datasense_assets.running.tries import is_tried_again, last_try

    with catalog.connect() as connection:
        result = read_request(connection, asked.request_id or 0)
    if result is None:
        return Outcome(asked.name, "failed", failures=("It was deleted from the catalog while it waited.",))
    if result.error is not None:
        return Outcome(asked.name, "failed", request_id=asked.request_id, failures=(_sentence(result.error),))
    run = instance.get_run_by_id(result.run_id) if result.run_id else None
    run = None if run is None else last_try(instance, run)
    again = run is not None and is_tried_again(instance, run)
    status = run.status.value.lower().replace("_", " ") if run is not None else "waiting for the daemon"
    if again:
        status = "its worker was lost, it is run again"
    if run is None or again or not run.is_finished:
        if seen.get(asked.request_id) != status:
            seen[asked.request_id] = status
            shown.update(f"{asked.name}: {status}")
        return None
    shown.done(f"{asked.name}: {status}", style="green" if run.is_success else "red")
    return _ended(instance, asked, run)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _ended(instance: dg.DagsterInstance, asked: Outcome, run: Any) -> Outcome:
    import dagster as dg

    materialized: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        if entry.dagster_event is not None:
            done = entry.dagster_event.step_materialization_data.materialization
            materialized[tuple(done.asset_key.path)] = {name: value.value for name, value in done.metadata.items()}
    failures = tuple(_failures(instance, run.run_id)) if not run.is_success else ()
    if not run.is_success and not failures:
        failures = (f"The run {run.run_id} ended as {run.status.value.lower()}; its log in Dagster says more.",)
    return Outcome(
        asked.name,
        "done" if run.is_success else "failed",
        run_id=run.run_id,
        request_id=asked.request_id,
        tables=written_tables(materialized),
        failures=failures,
    )


def _failures(instance: dg.DagsterInstance, run_id: str) -> Iterable[str]:
    import dagster as dg

    from datasense_assets.running.failures import step_failure_words

    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event is not None:
            yield step_failure_words(entry.dagster_event)
