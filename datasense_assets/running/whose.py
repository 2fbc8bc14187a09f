"""Whose a run is, for log lines that name nothing but its id.

Kept in memory as runs pass through this process, and asked of Dagster once for one that has not: the daemon starts and
watches runs that were asked for in the webserver.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from datasense_assets.running import tags as t

if TYPE_CHECKING:
    import dagster as dg

_FIELDS = {"org": t.ORG, "source": t.SOURCE, "recipe": t.RECIPE, "lane": t.LANE, "connector": t.CONNECTOR}
_MOST_KEPT = 10_000
# A database that is away must not hold up every line that is written meanwhile.
_ASK_AGAIN_SECONDS = 30.0

_known: OrderedDict[str, Mapping[str, str]] = OrderedDict()
_lock = threading.Lock()
_asking = threading.local()
_where: weakref.ReferenceType[dg.DagsterInstance] | None = None
_silent_until = float("-inf")


def of_run(run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Fields of a line about the run, `run` among them; what its tags do not say is what is known of it."""
    fields = _said_by(tags)
    if fields:
        _keep(run_id, fields)
    return {"run": run_id, **(fields or whose(run_id))}


def whose(run_id: str) -> Mapping[str, str]:
    """Organisation, source or recipe, lane and connector of a run; empty where nobody knows."""
    with _lock:
        found = _known.get(run_id)
    return found if found is not None else _ask(run_id)


def ask_in(instance: dg.DagsterInstance) -> None:
    """From now on look up runs in this instance."""
    global _where
    _where = weakref.ref(instance)


def _said_by(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[tag] for name, tag in _FIELDS.items() if tag in tags}


def _keep(run_id: str, fields: Mapping[str, str]) -> None:
    with _lock:
        _known[run_id] = fields
        _known.move_to_end(run_id)
        while len(_known) > _MOST_KEPT:
            _known.popitem(last=False)


def _ask(run_id: str) -> Mapping[str, str]:
    global _silent_until
    instance = _where() if _where is not None else None
    # what is logged while asking is not asked about
    if instance is None or getattr(_asking, "now", False) or monotonic() < _silent_until:
        return {}
    _asking.now = True
    try:
        run = instance.get_run_by_id(run_id)
    except Exception:  # noqa: BLE001 - a line is written whatever is away, and says what it can
        _silent_until = monotonic() + _ASK_AGAIN_SECONDS
        return {}
    finally:
        _asking.now = False
    fields = _said_by(run.tags) if run is not None else {}
    # only one that has not been queued yet gets its tags still
    if fields or run is None or run.status.value != "NOT_STARTED":
        _keep(run_id, fields)
    return fields
