"""Dagster's own storage and logs, placed by our settings: classes that dagster.yaml names.

They exist because `env:` in dagster.yaml has no default and cannot start the embedded server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# No public name exists for the local compute log manager; dagster.yaml can name it, Python cannot import it otherwise.
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager  # noqa: TID251
from dagster_postgres import DagsterPostgresStorage

from datasense_assets.settings import get_settings


def storage_url() -> str:
    """URL of the database for Dagster's storage: `postgresql+psycopg2://`, the driver that Dagster's NOTIFY needs.

    DATASENSE_STORAGE_URL, else the platform's own database. Behind a pooler it has to be another pool: what Dagster, or
    its migrations, set for a session stays with the connection for whoever gets it next.
    """
    from datasense_assets.warehouse.database import database_url, normalized_url

    settings = get_settings()
    if settings.storage_url is not None:
        url = normalized_url(settings.storage_url.get_secret_value(), "DATASENSE_STORAGE_URL")
    else:
        url = database_url(settings)
    return "postgresql+psycopg2://" + url.split("://", 1)[1]


class HomeStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage in the database of DATASENSE_DATABASE_URL, or in the embedded server."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: everything comes from the environment."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> HomeStorage:
        """Open the storage; starts the embedded server where it is wanted and not running."""
        del config_value
        return cls(postgres_url=storage_url(), inst_data=inst_data)


class HomeComputeLogs(LocalComputeLogManager):
    """Stdout and stderr of runs under DATASENSE_HOME."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: the folder is under DATASENSE_HOME."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> HomeComputeLogs:
        """Write below `compute_logs/` of the home folder."""
        del config_value
        return cls(base_dir=str(get_settings().home / "compute_logs"), inst_data=inst_data)
