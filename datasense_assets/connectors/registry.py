"""Which kinds of connectors there are: the built-in ones, and those that an installed package registers.

A package names its class under the entry point group `datasense_assets.connectors`. A kind is looked up when a source
of it is met, so a package that is broken, or two that claim one name, stop the sources of that kind and nothing else;
each of them then says why.
"""

from __future__ import annotations

import difflib
import importlib
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from datasense_assets.catalog.models import Problem

GROUP = "datasense_assets.connectors"
BUILT_IN: dict[str, str] = {
    "csv": "datasense_assets.connectors.files:CsvConnector",
    "file": "datasense_assets.connectors.files:FileConnector",
    "google_sheets": "datasense_assets.connectors.google_sheets:GoogleSheetsConnector",
    "kobo": "datasense_assets.connectors.kobo:KoboConnector",
    "odk_central": "datasense_assets.connectors.odk_central:OdkCentralConnector",
    "surveycto": "datasense_assets.connectors.surveycto:SurveyctoConnector",
    "surveycto_datasets": "datasense_assets.connectors.surveycto_datasets:SurveyctoDatasetsConnector",
}
# Kinds that can read a past window; the others are snapshots of now (`Connector.has_history`). Written down for the
# built-in ones, so that the asset graph is built without importing any of them.
HISTORY_KINDS = frozenset({"kobo", "odk_central", "surveycto"})
# What a class must have to be a connector: what is asked of it before it is opened, and after.
CONTRACT = ("kind", "has_history", "Config", "check", "discover", "describe", "read", "count", "row_ids", "close")


def kinds() -> list[str]:
    """Names of all kinds, built-in and installed, those that cannot be used too."""
    return sorted({*BUILT_IN, *_installed()})


def provider(kind: str) -> str:
    """The packages that a kind comes from, with their versions; '' for a built-in one."""
    return "" if kind in BUILT_IN else " and ".join(_name(each) for each in _installed().get(kind, ()))


def ignored_claims() -> list[Problem]:
    """Installed packages that claim the name of a built-in kind, which stays what it is: it is given credentials."""
    return [
        Problem(
            path=kind,
            message=f"the connector {kind!r} is built in; what {_name(claim)} registers under that name is not used.",
            fix="Register it under another name, or uninstall the package.",
        )
        for kind, claims in sorted(_installed().items())
        if kind in BUILT_IN
        for claim in claims
    ]


def problem_with(kind: str) -> Problem | None:
    """Why no source of that kind can be read; None where it can. Built-in kinds are not imported for it."""
    if kind in BUILT_IN:
        return None
    found = _load(kind)
    return found if isinstance(found, Problem) else None


def connector_class(kind: str) -> Any:
    """The class of a kind that has no problem."""
    found = _load(kind)
    if isinstance(found, Problem):
        raise LookupError(str(found))
    return found


def has_history(kind: str) -> bool:
    """Whether sources of that kind can be asked for a past window; False for one that cannot be used."""
    if kind in BUILT_IN:
        return kind in HISTORY_KINDS
    found = _load(kind)
    return not isinstance(found, Problem) and bool(found.has_history)


@lru_cache(maxsize=1)
def _installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Registrations by kind. One that is found twice, as on a path that is searched twice, counts once."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for each in entry_points(group=GROUP):
        package = each.dist.name if each.dist is not None else ""
        found.setdefault(each.name, {}).setdefault((package, each.value), each)
    return {kind: tuple(claims.values()) for kind, claims in found.items()}


@lru_cache(maxsize=256)
def _load(kind: str) -> Any:
    """The class of a kind, or the `Problem` with it."""
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        return getattr(importlib.import_module(module), name)
    claims = _installed().get(kind, ())
    if not claims:
        near = difflib.get_close_matches(kind, kinds(), n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        fix = f"{hint}Known connectors: {', '.join(kinds())}."
        return Problem(path="connector", message=f"there is no connector {kind!r}.", fix=fix)
    if len(claims) > 1:
        message = f"the connector {kind!r} is claimed by {provider(kind)}, and nothing tells which is meant."
        return Problem(path="connector", message=message, fix="Uninstall all but one of them.")
    return _imported(kind, claims[0])


def _imported(kind: str, claim: EntryPoint) -> Any:
    from datasense_assets.connectors.config import ConnectorConfig

    whose = f"the connector {kind!r} of {_name(claim)}"
    mend = "Mend the package, or uninstall it."
    try:
        found: Any = claim.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the others must load
        reason = " ".join(str(error).split())[:200]
        message = f"{whose} cannot be imported ({type(error).__name__}: {reason})."
        return Problem(path="connector", message=message, fix=mend)
    missing = [name for name in CONTRACT if not hasattr(found, name)]
    if missing:
        message = f"{whose} is no connector: {claim.value} has no {', '.join(missing)}."
        return Problem(path="connector", message=message, fix=mend)
    if not (isinstance(found.Config, type) and issubclass(found.Config, ConnectorConfig)):
        message = f"{whose} is no connector: its Config is no ConnectorConfig."
        return Problem(path="connector", message=message, fix=mend)
    return found


def _name(claim: EntryPoint) -> str:
    return f"{claim.dist.name} {claim.dist.version}" if claim.dist is not None else claim.value
