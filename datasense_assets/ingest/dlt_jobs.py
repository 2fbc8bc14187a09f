"""dlt's jobs as a load needs them: rows copied as they are typed, merges that a guard can stop, and rows left alone
that are equal to what is there. What depends on dlt's own classes is here and in `dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from dlt.common.destination.client import FollowupJobRequest, LoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.destination.utils import get_merge_changed_cond, get_merge_compare_columns
from dlt.common.schema.typing import TTableSchema
from dlt.destinations import postgres
from dlt.destinations.impl.postgres.postgres import PostgresClient, PostgresParquetCopyJob
from dlt.destinations.sql_jobs import SqlMergeFollowupJob

from datasense_assets.ingest.copying import CopyJob, Rows

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


class _LoadClient(PostgresClient):
    """dlt's client of one load: copies stream its rows, merges begin with its guard, in their own transaction."""

    guard: ClassVar[Guard]
    rows: ClassVar[Mapping[str, Rows]]
    merge_job: ClassVar[type[SqlMergeFollowupJob]] = _MergeJob

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
        members = {"guard": staticmethod(guard), "rows": rows, "merge_job": merge_job}
        self.our_client = type("Client", (_LoadClient,), members)
