"""The run launcher that dagster.yaml names: warm workers where there is a Redis for them, else a process a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from datasense_assets.running.warm.launcher import WarmRunLauncher


class HomeRunLauncher(dg.DefaultRunLauncher):
    """Chooses by DATASENSE_REDIS_URL, so that one dagster.yaml serves a laptop and a row of machines."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """No field: everything comes from the environment."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> dg.DefaultRunLauncher | WarmRunLauncher:  # type: ignore[override]
        """`WarmRunLauncher` where a Redis is set, else Dagster's own, which starts a process a run."""
        del config_value
        if get_settings().redis_url is None:
            return dg.DefaultRunLauncher(inst_data=inst_data)
        from datasense_assets.running.warm.launcher import WarmRunLauncher

        return WarmRunLauncher(inst_data=inst_data)
