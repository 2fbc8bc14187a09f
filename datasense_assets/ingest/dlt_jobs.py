"""dlt's jobs as a load needs them: rows copied as they are typed, merges that a guard can stop, and rows left alone
that are equal to what is there. What depends on dlt's own classes is here and in `dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, cast

from dlt.common.destination.client import FollowupJobRequest, LoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.destination.utils import get_merge_changed_cond, get_merge_compare_columns
from dlt.common.schema.typing import TTableSchema
from dlt.destinations import postgres
from dlt.destinations.impl.postgres.configuration import PostgresClientConfiguration
from dlt.destinations.impl.postgres.postgres import PostgresClient, PostgresParquetCopyJob
from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient
from dlt.destinations.sql_jobs import SqlMergeFollowupJob
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from datasense_assets.ingest.copying import CopyJob, Rows
from datasense_assets.warehouse.database import STILL_ALIVE_SECONDS

Guard = Callable[[str], list[str]]
"""From a table's name to SQL statements that fail where its merge must not be done."""
MERGE_SINCE = 150_000
"""The first server version (as libpq counts them) with MERGE, which dlt writes for an upsert and for a mirror."""


class _MergeJob(SqlMergeFollowupJob):
    """dlt's MERGE, where a row with a json column too is left alone when it is equal to what is there."""

    @classmethod
    def gen_changed_cond(cls, table: PreparedTableSchema, escape_id: Callable[[str], str]) -> str | None:
        columns = cast(TTableSchema, table)["columns"]
        differing = []
        for name in get_merge_compare_columns(cast(TTableSchema, table)):
            # the staged json has no comparison of its own
            as_stored = "::jsonb" if columns[name].get("data_type") == "json" else ""
            differing.append(f"(s.{escape_id(name)}{as_stored} IS DISTINCT FROM d.{escape_id(name)})")
        return " OR ".join(differing) or None


class _ConflictJob(SqlMergeFollowupJob):
    """dlt's upsert by INSERT ... ON CONFLICT: the same rows are added, changed and left alone as by its MERGE.

    The deletion of a mirror's absent rows comes from dlt as it is, before it in the same transaction.
    """

    @classmethod
    def gen_changed_cond(cls, table: PreparedTableSchema, escape_id: Callable[[str], str]) -> str | None:
        return get_merge_changed_cond(cast(TTableSchema, table), "excluded", "d", escape_id)

    @classmethod
    def gen_upsert_merge_sql(
        cls,
        root_table_name: str,
        staging_root_table_name: str,
        primary_keys: Sequence[str],
        root_table_column_names: Sequence[str],
        *_: Any,
        changed_cond: str | None = None,
        **__: Any,
    ) -> list[str]:
        columns = ", ".join(root_table_column_names)
        changes = ", ".join(f"{name} = excluded.{name}" for name in root_table_column_names)
        # dlt's identifiers, quoted by dlt: nothing here comes from outside
        return [
            f"INSERT INTO {root_table_name} AS d ({columns}) SELECT {columns} FROM {staging_root_table_name}"  # noqa: S608
            f" ON CONFLICT ({', '.join(primary_keys)}) DO UPDATE SET {changes}"
            + (f" WHERE {changed_cond}" if changed_cond else "")
        ]


class _Connections:
    """What the jobs of one load have used and may use again: dlt opens a connection for each of four."""

    def __init__(self) -> None:
        """None is open yet."""
        self._idle: list[tuple[Any, float]] = []
        self._over = False

    def take(self) -> Any | None:
        """One that was in use a moment ago, and so needs no question whether it is alive."""
        while self._idle:
            connection, since = self._idle.pop()
            if monotonic() - since < STILL_ALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def give_back(self, connection: Any) -> None:
        """Keep it for the next job, if nothing went wrong on it."""
        usable = not connection.closed and connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        if self._over or not usable:
            connection.close()
        else:
            self._idle.append((connection, monotonic()))

    def close(self) -> None:
        """Close what is open; what comes back later is closed too."""
        self._over = True
        while self._idle:
            self._idle.pop()[0].close()


class _SqlClient(Psycopg2SqlClient):
    """dlt's, with a connection that the load has open already. All names in its statements bear their schema."""

    connections: _Connections

    def open_connection(self) -> Any:
        """The one of the job before, else a new one."""
        self._conn = self.connections.take()
        return super().open_connection() if self._conn is None else self._conn

    def close_connection(self) -> None:
        """Leave it to the next job."""
        connection, self._conn = self._conn, None
        if connection is not None:
            self.connections.give_back(connection)


class _LoadClient(PostgresClient):
    """dlt's client of one load: copies stream its rows, merges begin with its guard, in their own transaction."""

    guard: ClassVar[Guard]
    rows: ClassVar[Mapping[str, Rows]]
    connections: ClassVar[_Connections]
    merge_job: ClassVar[type[SqlMergeFollowupJob]] = _MergeJob

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        made = self.sql_client
        names = (made.dataset_name, made.staging_dataset_name)
        self.sql_client = _SqlClient(*names, made.credentials, made.capabilities)
        self.sql_client.connections = type(self).connections

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """The copy of the table that the file stands for; all else is dlt's."""
        job = super().create_load_job(table, file_path, load_id, restore)
        if isinstance(job, PostgresParquetCopyJob):
            return CopyJob(file_path, type(self).rows[str(table["name"])])
        return job

    def _create_merge_followup_jobs(self, table_chain: Sequence[PreparedTableSchema]) -> list[FollowupJobRequest]:
        statements = type(self).guard(str(table_chain[0]["name"]))

        class Guarded(self.merge_job):  # type: ignore[name-defined, misc]  # the class differs by server
            @classmethod
            def _gen_table_setup_clauses(cls, *_: Any) -> list[str]:
                return statements

        return [Guarded.from_table_chain(table_chain, self.sql_client)]


class LoadDestination(postgres):
    """dlt's own destination, known to it by the same name, with the client of one load."""

    our_client: type[_LoadClient]
    _partial: PostgresClientConfiguration | None = None

    @property
    def destination_type(self) -> str:
        """As dlt's own."""
        return "dlt.destinations.postgres"

    @property
    def client_class(self) -> type[PostgresClient]:
        """The load's."""
        return self.our_client

    def serve(self, server_version: int, guard: Guard, rows: Mapping[str, Rows]) -> None:
        """Be the destination of the load with that guard and those rows by table.

        `server_version` is the warehouse's, as libpq counts (140005 is 14.5).
        """
        merge_job = _MergeJob if server_version >= MERGE_SINCE else _ConflictJob
        members = {"guard": staticmethod(guard), "rows": rows, "merge_job": merge_job, "connections": _Connections()}
        self.our_client = type("Client", (_LoadClient,), members)

    def configuration(
        self, initial_config: PostgresClientConfiguration, accept_partial: bool = False
    ) -> PostgresClientConfiguration:
        """As dlt's; the part that says what the destination can do is the same for a whole load, which asks for it
        twenty times: a tenth of dlt's time.
        """
        if not accept_partial:
            return super().configuration(initial_config)
        if self._partial is None:
            self._partial = super().configuration(initial_config, accept_partial=True)
        return self._partial

    def let_go(self) -> None:
        """Close the load's connections."""
        self.our_client.connections.close()
