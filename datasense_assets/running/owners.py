"""Who owns what a run touches, read from the catalog in one indexed statement."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from datasense_assets.running.tags import Owner, Selected
from datasense_assets.settings import get_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

_OWNER = """
SELECT o.tier, s.connector, s.config, s.max_minutes
FROM datasense.organizations o
LEFT JOIN datasense.sources s ON s.org_id = o.id AND replace(s.slug, '-', '_') = :source
WHERE replace(o.slug, '-', '_') = :org
"""


@lru_cache(maxsize=1)
def catalog_engine() -> Engine:
    """One engine a process for catalog look-ups made from inside Dagster's own processes."""
    from datasense_assets.warehouse.database import database_url, engine

    return engine(database_url(get_settings()))


def owner_of(what: Selected) -> Owner:
    """Of the one organisation and the one source of a selection; defaults where there are several."""
    from sqlalchemy import text

    if len(what.orgs) != 1:
        return Owner()
    source = next(iter(what.sources))[1] if len(what.sources) == 1 else ""
    with catalog_engine().connect() as connection:
        row = connection.execute(text(_OWNER), {"org": next(iter(what.orgs)), "source": source}).one_or_none()
    return Owner.of(row.tier, row.connector, row.config or {}, row.max_minutes) if row else Owner()
