"""How large a pod a run gets on Kubernetes: by the rows of the source that it loads.

The sizes are configuration of the run coordinator (`pods`, see helm-values.yaml), so that whoever runs a cluster says
them beside its other limits; a run bears the one that fits as Dagster's own tag. Without sizes no run bears any, and
the run launcher's own resources hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from datasense_assets.running.tags import Selected

POD_CONFIG = "dagster-k8s/config"

CONFIG_FIELD = dg.Field(
    [{"above_rows": int, "config": dict}],
    is_required=False,
    description="Pods of runs by the size of their source: the largest `above_rows` that its tables exceed counts, and "
    "`config` is what the run's tag `dagster-k8s/config` then holds. A source that was never loaded gets the largest.",
)

# Not known: of at least one table, which is still to be read whole.
_ROWS = """
SELECT bool_and(state.row_count IS NOT NULL) AS known, coalesce(sum(state.row_count), 0) AS row_count
FROM datasense.organizations o
JOIN datasense.sources s ON s.org_id = o.id AND replace(s.slug, '-', '_') = :source
JOIN datasense.source_tables t ON t.source_id = s.id
LEFT JOIN datasense.table_status state ON state.table_id = t.id
WHERE replace(o.slug, '-', '_') = :org
"""


def rows_of(what: Selected) -> int | None:
    """Rows of the one source that a run loads, when it was loaded last; None where it has a table that never was.

    What is no load of one source counts as 0: a recipe is the database's work, not the pod's.
    """
    if len(what.sources) != 1 or what.recipes:
        return 0
    from sqlalchemy import text

    from datasense_assets.running.owners import catalog_engine

    org, source = next(iter(what.sources))
    with catalog_engine().connect() as connection:
        row = connection.execute(text(_ROWS), {"org": org, "source": source}).one()
    return int(row.row_count) if row.known else None


def pod_tags(sizes: Sequence[Mapping[str, Any]], rows: int | None) -> dict[str, str]:
    """The tag of the largest size that so many rows exceed; none where none does."""
    fitting = [size for size in sizes if rows is None or rows > size["above_rows"]]
    if not fitting:
        return {}
    largest = max(fitting, key=lambda size: int(size["above_rows"]))
    return {POD_CONFIG: json.dumps(largest["config"], sort_keys=True)}
