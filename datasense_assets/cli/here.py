"""Runs here and now, in this process: the same graph, records and history as through the queue, no daemon needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from datasense_assets.cli.outcomes import Outcome, written_tables
from datasense_assets.cli.output import quiet

if TYPE_CHECKING:
    import dagster as dg

    from datasense_assets.running.graph_index import KeyPath

# What Dagster makes of Ctrl-C inside a step: the step's failure, so that the run is recorded as ended.
_INTERRUPTED = "DagsterExecutionInterruptedError"


@contextlib.contextmanager
def instance_for_runs() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that these runs share with `dagster dev`."""
    from datasense_assets.running.instance import open_instance

    with open_instance() as instance:
        yield instance


def run_here(
    name: str,
    keys: Sequence[KeyPath],
    *,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    partition_key: str | None = None,
) -> Outcome:
    """Materialize assets in this process; what Dagster and dlt say on the way goes to `logs/runs.log` in the home."""
    from datasense_assets.assets.graph import load_definitions
    from datasense_assets.running.local import run_locally
    from datasense_assets.settings import get_settings

    with quiet(get_settings().home / "logs" / "runs.log"):
        run = run_locally(load_definitions, keys, instance=instance, tags=tags, partition_key=partition_key)
    if any(_INTERRUPTED in failure for failure in run.failures):
        raise KeyboardInterrupt
    return Outcome(
        name,
        "done" if run.success else "failed",
        run_id=run.run_id,
        tables=written_tables(run.materialized),
        failures=run.failures if run.failures or run.success else (f"The run {run.run_id} failed.",),
    )
