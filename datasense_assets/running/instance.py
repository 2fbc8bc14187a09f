"""The Dagster instance that the command line shares with `dagster dev`."""

from __future__ import annotations

import dagster as dg
import yaml

from datasense_assets.settings import PROJECT_ROOT, get_settings, prefer_batched_events


def open_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME where that is set, else one with the settings of the project's dagster.yaml.

    Both keep runs and events in the same Postgres, so whatever one does the other shows.
    """
    prefer_batched_events()
    settings = get_settings()
    if settings.dagster_home is not None:
        return dg.DagsterInstance.get()
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    overrides = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    return dg.DagsterInstance.local_temp(tempdir=str(folder), overrides=overrides)
