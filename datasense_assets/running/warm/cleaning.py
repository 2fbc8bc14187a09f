"""A process that serves one organisation after another keeps nothing of the last one."""

from __future__ import annotations

import gc
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

# Dagster keeps the job and the repository of the last run, and has no public way to let go of them.
from dagster._core.definitions.reconstruct import ReconstructableJob  # noqa: TID251

from datasense_assets.settings import environment_kept


@contextmanager
def as_before() -> Iterator[None]:
    """Whatever a run does to environment, caches and dlt's state of this process is undone when the block ends."""
    _forget()
    try:
        with environment_kept():
            yield
    finally:
        _forget()
        gc.collect()


def _forget() -> None:
    for cached in (ReconstructableJob.get_definition, ReconstructableJob.get_repository_definition):
        cached.cache_clear()
    # the standard library keeps what it has taken apart, addresses of sources among them
    urllib.parse.urlsplit.cache_clear()  # type: ignore[attr-defined]
    _forget_pipeline()


def _forget_pipeline() -> None:
    """Dlt keeps the last pipeline as the active one: its name, credentials and folder."""
    if "dlt" not in sys.modules:
        return
    from dlt.common.configuration.container import Container
    from dlt.common.pipeline import PipelineContext

    container = Container()
    if PipelineContext in container and container[PipelineContext].is_active():
        container[PipelineContext].deactivate()
