"""The Dagster instance that the command line shares with `dagster dev`."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import yaml

from datasense_assets.settings import PROJECT_ROOT, get_settings, prefer_batched_events, set_environment


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


def ensure_dagster_home() -> Path:
    """DAGSTER_HOME of this process and all that it starts: as it is set, else a folder with the project's dagster.yaml.

    A process that serves for long opens its instance more than once, and finds it by that variable alone.
    """
    prefer_batched_events()
    settings = get_settings()
    if settings.dagster_home is not None:
        return settings.dagster_home
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT_ROOT / "dagster.yaml", folder / "dagster.yaml")
    set_environment({"DAGSTER_HOME": str(folder)})
    return folder
