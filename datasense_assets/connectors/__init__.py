"""Connectors: which kinds there are (`registry`), how one is opened, what its config may say.

Importing this package costs nothing; a connector's module is imported when one of its kind is opened, since the
asset graph is built without ever reading a source.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasense_assets.connectors.errors import BadConfig
from datasense_assets.connectors.registry import connector_class, has_history, kinds, problem_with

if TYPE_CHECKING:
    from datasense_assets.catalog.models import Problem
    from datasense_assets.connectors.base import CallBudget, Connector, NetworkPolicy, Quota

__all__ = [
    "NetworkPolicy",
    "Rereading",
    "has_history",
    "host_of",
    "kinds",
    "max_minutes_of",
    "open_connector",
    "problem_with",
    "quotas_of",
    "rereading",
    "validate_config",
]


def __getattr__(name: str) -> Any:
    if name != "NetworkPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datasense_assets.connectors.base import NetworkPolicy

    return NetworkPolicy


def validate_config(kind: str, config: Mapping[str, Any], credential_names: Collection[str]) -> list[Problem]:
    """All that is wrong with a source's connector kind, config and names of credentials; [] when it can be opened.

    Paths of the problems start with `connector`, `config` or `credentials`. Reads nothing but its arguments.
    """
    from datasense_assets.connectors.config import CONFIGS, check_config

    problem = problem_with(kind)
    if problem is not None:
        return [problem]
    return check_config(kind, CONFIGS.get(kind) or connector_class(kind).Config, config, credential_names)


def host_of(kind: str, config: Mapping[str, Any]) -> str:
    """The server that a source is read from, as its connector names it; '' for none, or a config that cannot work."""
    from pydantic import ValidationError

    from datasense_assets.connectors.config import CONFIGS

    if problem_with(kind) is not None:
        return ""
    model = CONFIGS.get(kind) or connector_class(kind).Config
    try:
        return str(model.model_validate(dict(config)).host)
    except ValidationError:
        return ""


def max_minutes_of(kind: str) -> int:
    """How long a load of that kind may take where the source says nothing."""
    from datasense_assets.connectors.config import CONFIGS, ConnectorConfig

    if problem_with(kind) is not None:
        return ConnectorConfig.MAX_MINUTES
    return (CONFIGS.get(kind) or connector_class(kind).Config).MAX_MINUTES


@dataclass(frozen=True)
class Rereading:
    """What of a source is read again by night: what came in during `days` (0: nothing); all of it once a week."""

    days: int = 0
    weekly: bool = False


def rereading(kind: str, config: Mapping[str, Any], full_reload: str | None = None) -> Rereading:
    """What the source's valid config says of it, or `full_reload` where that is set (`weekly` or `never`).

    Nothing for kinds that are read whole each time.
    """
    from datasense_assets.connectors.config import CONFIGS, HistoryConfig

    model = CONFIGS.get(kind)
    if model is None or not issubclass(model, HistoryConfig):
        return Rereading()
    settings = model.model_validate(dict(config))
    wanted = full_reload or settings.full_read or ("weekly" if settings.misses_edits else "never")
    return Rereading(settings.reread_days, wanted == "weekly")


def open_connector(
    kind: str,
    config: Mapping[str, Any],
    credentials: Mapping[str, str],
    policy: NetworkPolicy,
    *,
    budget: CallBudget | None = None,
) -> Connector:
    """Open a source of that kind; nothing is read yet. Close it when done.

    Args:
        kind: one of `kinds()`.
        config: the source's config, as in the manifest.
        credentials: resolved secrets by name; they reach HTTP headers only.
        policy: what may be reached, and for how long.
        budget: quota shared with other processes, asked before each call; None for no quota.

    Raises:
        BadConfig: the kind is unknown, or the config or the credentials cannot work; all problems are in the message.

    """
    opener = _checked(kind, config, credentials)
    connector: Connector = opener(config, credentials, policy, budget=budget)
    return connector


def quotas_of(kind: str, config: Mapping[str, Any], credentials: Mapping[str, str]) -> tuple[Quota, ...]:
    """What the source's calls are counted against, the narrowest first; never empty.

    A connector that says nothing of quotas has one without a limit, by which a server's own requests to wait are shared
    among all who use one account.

    Raises:
        BadConfig, CredentialRefused: as `open_connector`.

    """
    from datasense_assets.connectors.base import Quota

    opener = _checked(kind, config, credentials)
    if hasattr(opener, "quotas"):
        found: tuple[Quota, ...] = opener.quotas(config, credentials)
        return found
    names = ("username", "access_key_id", "token")
    account = next((credentials[name] for name in names if credentials.get(name)), "")
    return (Quota(f"{kind}.account", shared_by=account),)


def _checked(kind: str, config: Mapping[str, Any], credentials: Mapping[str, str]) -> Any:
    """The connector's class; raises BadConfig with all problems of config and credentials."""
    problems = validate_config(kind, config, credentials.keys())
    if problems:
        raise BadConfig(
            "; ".join(f"{p.path}: {p.message}" for p in problems),
            advice=" ".join(dict.fromkeys(p.fix for p in problems if p.fix)) or "Correct the source's config.",
        )
    return connector_class(kind)
