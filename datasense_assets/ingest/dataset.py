"""dlt as we use it: isolated settings, one throwaway folder a pipeline, Arrow in, upserts only.

All that depends on how dlt works inside is here, in `dlt_jobs` and in `copying`. Measured with dlt 1.31: a warm load of
100 rows costs 0.09 CPU s by ADBC and 0.07 by csv, one of 300,000 rows of 22 columns 1.1 and 3.5.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dlt
import pyarrow as pa
import pyarrow.parquet as pq
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.provider import ConfigProvider
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.runtime.run_context import RunContext
from dlt.common.schema import Schema
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.extract import DltResource, DltSource
from psycopg import Connection, sql

from datasense_assets.catalog.models import ColumnType as T
from datasense_assets.connectors.base import INDEX, PARENT_ID, ROW_ID
from datasense_assets.ingest.casting import ARROW_TYPES
from datasense_assets.ingest.copying import Rows
from datasense_assets.ingest.dlt_jobs import Guard, LoadDestination
from datasense_assets.warehouse.organizations import STAGING_LAYOUT, WarehouseTarget

LOADED_AT = "_ds_loaded_at"
Strategy = Literal["upsert", "mirror"]

_CONFIG: dict[str, Any] = {
    "dlthub_telemetry": False,
    "log_level": "ERROR",
    "enable_airflow_secrets": False,
    # our own cursor is the state; nothing is read back from the destination before a load
    "restore_from_destination": False,
    # of extracting, normalizing and loading alike
    "workers": 1,
    "raise_on_max_retries": 3,
}
_DLT_TYPES: dict[T, str] = {
    T.TEXT: "text",
    T.INTEGER: "bigint",
    T.NUMBER: "double",
    T.BOOLEAN: "bool",
    T.DATE: "date",
    T.DATETIME: "timestamp",
    T.TIME: "time",
    T.JSON: "json",
}
# dlt's own tables as 1.31 makes them; a test holds them against what dlt makes itself
_VERSION_COLUMNS = (
    "version bigint NOT NULL, engine_version bigint NOT NULL, inserted_at timestamp with time zone NOT NULL, "
    "schema_name varchar NOT NULL, version_hash varchar NOT NULL, schema varchar NOT NULL"
)
_LOADS_COLUMNS = (
    "load_id varchar(64) NOT NULL, schema_name varchar, status bigint NOT NULL, "
    "inserted_at timestamp with time zone NOT NULL, schema_version_hash varchar"
)
_LOADS_KEPT_DAYS = 30
_install_lock = threading.Lock()


class _Settings(ConfigProvider):
    """Settings by name alone, so that dlt asks for each once and not in every section that it could stand in: 700
    times a load, where it was 2,000.
    """

    name = "datasense"
    supports_secrets = True
    supports_sections = False

    def get_value(self, key: str, hint: type[Any], pipeline_name: str | None, *sections: str) -> tuple[Any | None, str]:
        """The setting of that name."""
        del hint, pipeline_name, sections
        return _CONFIG.get(key), key


class _IsolatedContext(RunContext):
    """Settings from this module alone: no secrets.toml, no config.toml, no environment variables."""

    def initial_providers(self) -> list[ConfigProvider]:
        return [_Settings()]


def _isolate() -> None:
    with _install_lock:
        container = Container()
        # looking at a context that is not there yet would make dlt's own, which reads the user's files
        if PluggableRunContext in container and isinstance(container[PluggableRunContext].context, _IsolatedContext):
            return
        container[PluggableRunContext] = PluggableRunContext(_IsolatedContext(run_dir="."))


def staging_schema(schema: str) -> str:
    """The schema where loads are staged; no organisation's own schema can have this name (they begin with `org_`)."""
    return STAGING_LAYOUT % schema


def lock_dataset(connection: Connection, schema: str) -> None:
    """Let no other process change how the organisation's tables look until the transaction ends; make both schemas."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"datasense.dataset.{schema}",))
    for name in (schema, staging_schema(schema)):
        # IF NOT EXISTS alone would ask for the right to create schemas even where it is there
        row = connection.execute("SELECT to_regnamespace(quote_ident(%s))::text", (name,)).fetchone()
        if row is None or row[0] is None:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))


def dlt_tables(connection: Connection, schema: str, staging: str) -> None:
    """Make dlt's own tables in both schemas where they are not; the caller holds the dataset's lock."""
    for name, in_schema, columns in (
        ("_dlt_version", schema, _VERSION_COLUMNS),
        ("_dlt_loads", schema, _LOADS_COLUMNS),
        ("_dlt_version", staging, _VERSION_COLUMNS),
    ):
        table = sql.Identifier(in_schema, name)
        connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(table, sql.SQL(columns)))


def prune_dlt_tables(connection: Connection, schema: str, staging: str | None = None) -> int:
    """Forget dlt's records of loads older than a month, which nothing reads and to which each load adds one; how many.

    `staging`: forget there, and here, also the schema versions older than that but the newest of each source.
    """
    query = sql.SQL("DELETE FROM {} WHERE inserted_at < now() - make_interval(days => {})")
    gone = connection.execute(query.format(sql.Identifier(schema, "_dlt_loads"), _LOADS_KEPT_DAYS)).rowcount
    query = sql.SQL(
        "DELETE FROM {0} v WHERE inserted_at < now() - make_interval(days => {1}) AND EXISTS (SELECT FROM {0} n "
        "WHERE n.schema_name = v.schema_name AND n.inserted_at > v.inserted_at)"
    )
    for name in (schema, staging) if staging is not None else ():
        gone += connection.execute(query.format(sql.Identifier(name, "_dlt_version"), _LOADS_KEPT_DAYS)).rowcount
    return gone


@dataclass(frozen=True)
class LoadedTable:
    """One table of a dlt source: its name, column types (the special columns apart), and how it is merged.

    `upsert`: rows are added or changed by `_ds_row_id`. `mirror`: the same, and rows that are not in the load go, in
    one transaction. A row that is equal to what is there is left alone, its `_ds_loaded_at` too. `begin` makes the
    table ready and says how many rows it gets; `rows` are asked for after, where there are any.
    """

    name: str
    special: tuple[str, ...]
    columns: Mapping[str, T]
    strategy: Strategy
    begin: Callable[[], int]
    rows: Rows


def build_load(
    name: str,
    folder: Path,
    target: WarehouseTarget,
    server_version: int,
    guard: Guard,
    schema_name: str,
    tables: Sequence[LoadedTable],
) -> tuple[dlt.Pipeline, DltSource]:
    """A pipeline of that (stable) name in a folder of its own, logged in as the organisation's role, and what it runs:
    a source of one resource a table. Names pass unchanged, and dlt adds no column of its own.

    `server_version` is the warehouse's, as libpq counts (140005 is 14.5); `guard` gives the statements at the head of a
    table's merge, and fails it by failing in the same transaction.
    """
    _isolate()
    credentials = PostgresCredentials()
    credentials.host, credentials.port, credentials.database = target.host, target.port, target.database
    credentials.username, credentials.password = target.user, target.password.get_secret_value()
    credentials.connect_timeout = 15
    credentials.query = dict(target.options)
    destination = LoadDestination(
        credentials=credentials,
        create_indexes=False,
        staging_dataset_name_layout=STAGING_LAYOUT,
        enable_dataset_name_normalization=False,
    )
    destination.serve(server_version, guard, {table.name: table.rows for table in tables})
    pipeline = dlt.pipeline(name, pipelines_dir=str(folder), destination=destination, dataset_name=target.schema)
    schema = Schema(schema_name, normalizers={"names": "direct"})
    return pipeline, DltSource(schema, "datasense", [_resource(table, folder) for table in tables])


def _resource(table: LoadedTable, folder: Path) -> DltResource:
    def staged() -> Iterator[Any]:
        rows = table.begin()
        if rows:
            folder.mkdir(parents=True, exist_ok=True)
            stands_for = folder / f"{table.name}.parquet"
            shape = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in _types(table).items()])
            pq.write_table(shape.empty_table(), stands_for)
            yield dlt.mark.with_file_import(str(stands_for), "parquet", items_count=rows)

    disposition: Any = {
        "disposition": "merge",
        "strategy": "cdc" if table.strategy == "mirror" else "upsert",
        "skip_unchanged_rows": True,
    }
    return dlt.resource(
        # not the generator itself: dlt would look for its module among all modules, 0.1 s in every new process
        itertools.chain(staged()),
        name=table.name,
        columns=_hints(table),
        file_format="parquet",
        max_table_nesting=0,
        write_disposition=disposition,
    )


def _types(table: LoadedTable) -> dict[str, T]:
    special = {ROW_ID: T.TEXT, PARENT_ID: T.TEXT, INDEX: T.INTEGER}
    return {**{name: special.get(name, T.DATETIME) for name in table.special}, **table.columns}


def _hints(table: LoadedTable) -> dict[str, Any]:
    hints = {name: _hint(name, kind) for name, kind in _types(table).items()}
    hints[ROW_ID] |= {"primary_key": True, "nullable": False}
    # marks the column as none of those whose change makes a row changed
    hints[LOADED_AT] |= {"parent_key": True}
    return hints


def _hint(name: str, kind: T) -> dict[str, Any]:
    hint: dict[str, Any] = {"name": name, "data_type": _DLT_TYPES[kind], "nullable": True}
    if kind in (T.DATETIME, T.TIME):
        hint["precision"] = 6
    return hint
