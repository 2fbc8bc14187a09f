"""What connectors of a web API have in common, so that a new one is about its API and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from datasense_assets.connectors.authorization import basic_authorization
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, ReadStats
from datasense_assets.connectors.config import ConnectorConfig
from datasense_assets.connectors.http import HttpClient


class HttpConnector:
    """A connector with one client and no cheap count; subclass it and add `check`, `discover`, `describe` and `read`.

    A subclass names its `kind`, its `Config`, whether it `has_history`, and how its credentials become a header.
    """

    kind: ClassVar[str]
    has_history: ClassVar[bool]
    Config: ClassVar[type[ConnectorConfig]]

    def __init__(
        self,
        config: Mapping[str, Any],
        credentials: Mapping[str, str],
        policy: NetworkPolicy,
        *,
        budget: CallBudget | None = None,
    ) -> None:
        """Keep the parts; nothing is read."""
        self.stats = ReadStats()
        self.policy, self.budget = policy, budget
        self.config: Any = self.Config.model_validate(dict(config))
        self.client = HttpClient(policy, self.stats, authorization=self.authorization(credentials), budget=budget)
        self.begin(credentials)

    def begin(self, credentials: Mapping[str, str]) -> None:
        """Make what a subclass keeps beside its client; nothing is read."""

    def authorization(self, credentials: Mapping[str, str]) -> str | None:
        """The value of the `Authorization` header; None sends none. Unless changed: Basic, by name and password."""
        return basic_authorization(credentials)

    def fingerprint(self, resource: str, previous: str | None) -> str | None:  # noqa: ARG002
        """None: nothing tells cheaply whether anything has changed."""
        return None

    def count(self, resource: str) -> int | None:  # noqa: ARG002
        """None: counting is reading."""
        return None

    def row_ids(self, resource: str) -> Iterator[list[str]]:
        """Nothing: only asked for where `count` is a number."""
        del resource
        return iter(())

    def close(self) -> None:
        """Close connections."""
        self.client.close()
