"""The tries of a run: what Dagster makes in the place of one whose worker was lost is the same wish, not another."""

from __future__ import annotations

import time

import dagster as dg

from datasense_assets.running import tags as t

# Dagster makes the next try within seconds; one that has not come by then cannot be made.
_PATIENCE_SECONDS = 300.0


def last_try(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """The run itself, or the last of those that were made in the place of lost ones."""
    while t.RETRIED_BY in run.tags:
        following = instance.get_run_by_id(run.tags[t.RETRIED_BY])
        if following is None:
            break
        run = following
    return run


def is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run that has ended is about to be followed by another try."""
    if run.status is not dg.DagsterRunStatus.FAILURE or run.tags.get(t.WILL_RETRY) != "true":
        return False
    record = instance.get_run_record_by_id(run.run_id)
    ended = record.end_time if record is not None and record.end_time is not None else 0.0
    return time.time() - ended < _PATIENCE_SECONDS
