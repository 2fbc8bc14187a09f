"""From a source's row to an opened connector: credentials are resolved in the process that reads and stay there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasense_assets.catalog.credentials import read_credentials, resolve
from datasense_assets.catalog.state import read_quotas, record_quotas
from datasense_assets.connectors import NetworkPolicy, host_of, open_connector, quotas_of
from datasense_assets.ingest.budget import SharedBudget
from datasense_assets.warehouse.quotas import quota_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine

    from datasense_assets.catalog.models import Organization, Source
    from datasense_assets.connectors.base import Connector, Quota
    from datasense_assets.settings import Settings


def network_policy(settings: Settings) -> NetworkPolicy:
    """What sources may be read from in this process, and for how long their servers may be silent."""
    return NetworkPolicy(
        allow_private_addresses=settings.allow_private_addresses,
        timeout=settings.http_timeout,
        files_root=settings.files_root,
        private_folder=settings.home,
        scratch=settings.scratch_path,
        longest_wait=settings.longest_wait_seconds,
    )


def open_source(
    connection: Connection,
    org: Organization,
    source: Source,
    settings: Settings,
    *,
    hurried: bool = False,
) -> Connector:
    """The connector of a source, opened with its resolved credentials; nothing is read yet. Close it when done.

    Each of its calls is counted against the quotas that all processes on this catalog share.

    Args:
        connection: to the catalog, where the references to the credentials are; its transaction is over afterwards.
        org: the organisation that owns the source.
        source: the source as the catalog has it.
        settings: of this process.
        hurried: whether somebody waits: a server that does not answer is given up after some seconds.

    Raises:
        SecretMissing: a credential's variable or file is not there; the message names it, never the value.
        BadConfig: config or credentials cannot work, all problems in one message.

    """
    del org  # a source's id is enough today; the wall between organisations is the catalog's
    references = read_credentials(connection, source.id)
    bound_by = read_quotas(connection, source.id)
    # Behind a pooler a transaction holds one of few connections, and what follows needs another: runs that each held
    # one and waited for one more would wait for each other.
    connection.rollback()
    secrets = {name: resolve(reference, settings).get_secret_value() for name, reference in references.items()}
    settings.scratch_path.mkdir(parents=True, exist_ok=True)
    allowed = quotas_of(source.connector, source.config, secrets)
    _remember_quotas(connection.engine, source, allowed, bound_by)
    budget = SharedBudget(connection.engine, allowed, longest_wait=settings.longest_wait_seconds)
    policy = network_policy(settings)
    policy = policy.hurried if hurried else policy
    return open_connector(source.connector, source.config, secrets, policy, budget=budget)


def _remember_quotas(catalog: Engine, source: Source, allowed: Iterable[Quota], before: frozenset[str]) -> None:
    """Write down by which quotas the source is bound, so that it is not asked for while one of them is closed."""
    host = host_of(source.connector, source.config)
    keys = {quota_key(quota.name, quota.host or host, quota.shared_by) for quota in allowed}
    if keys == before:
        return
    with catalog.begin() as connection:
        record_quotas(connection, source.id, keys)
