"""How the rows of a load reach the warehouse: a few by COPY over dlt's own connection, many by ADBC, as they are typed.

ADBC reads the types and columns of every table of the database whenever it connects: 30 ms in an empty one, and the
more tables there are the longer, on both sides. Rows by the ten thousand are worth that, a small sync is not. Written
to Parquet by dlt and read back, the same rows cost a fifth more CPU, and the memory of a whole file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.csv as pa_csv
from adbc_driver_manager import StatementOptions as Options
from dlt.destinations.impl.postgres.postgres import PostgresParquetCopyJob

Rows = Callable[[], Iterator[pa.Table]]
"""The rows of a table, typed, in batches with one schema; begun anew at each call, at least one batch."""
FEW_ROWS = 10_000
# Before PostgreSQL 18 such a line ends the rows, also within quotes.
_END = b"\\."


class CopyJob(PostgresParquetCopyJob):
    """dlt's job for a Parquet file, which here only says whose turn it is: the rows come from `rows`."""

    def __init__(self, file_path: str, rows: Rows) -> None:
        """Keep the parts; `rows` is called when the job runs."""
        super().__init__(file_path)
        self._rows = rows

    def run(self) -> None:
        """Copy all rows into the table in one transaction."""
        tables = self._rows()
        first: list[pa.Table] = []
        while sum(table.num_rows for table in first) <= FEW_ROWS:
            following = next(tables, None)
            if following is None:
                few = as_csv(pa.concat_tables(first))
                if few is not None:
                    return self._copy(first[0].column_names, few)
                break
            first.append(following)
        return self._stream(chain(first, tables), first[0].schema)

    def _copy(self, names: Iterable[str], rows: bytes) -> None:
        client = self._job_client.sql_client
        columns = ", ".join(client.escape_column_name(name) for name in names)
        table = client.make_qualified_table_name(self.load_table_name)
        # the names are dlt's, quoted by dlt
        statement = f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')"
        with client.begin_transaction(), client.native_connection.cursor() as cursor:
            cursor.copy_expert(statement, io.BytesIO(rows))

    def _stream(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        reader = pa.RecordBatchReader.from_batches(schema, (batch for table in tables for batch in table.to_batches()))
        # `cursor.adbc_ingest` is the same, but takes SIGINT for itself, so that a run that is cancelled would go on
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(
                **{
                    Options.INGEST_TARGET_TABLE.value: self.load_table_name,
                    Options.INGEST_TARGET_DB_SCHEMA.value: self._job_client.sql_client.dataset_name,
                    Options.INGEST_MODE.value: "adbc.ingest.mode.append",
                }
            )
            cursor.adbc_statement.bind_stream(reader)
            cursor.adbc_statement.execute_update()
            connection.commit()


def as_csv(table: pa.Table) -> bytes | None:
    """The rows as CSV that quotes all but nulls; None where no old server would read them to their end."""
    written = io.BytesIO()
    pa_csv.write_csv(table, written, pa_csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    rows = written.getvalue()
    return None if _END in rows else rows
