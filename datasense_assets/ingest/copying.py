"""How the rows of a load reach the warehouse: a few by COPY over dlt's own connection, many by ADBC.

ADBC reads the types and columns of every table of the database whenever it connects: 30 ms in an empty one, and the
more tables there are the longer, on both sides. Rows by the ten thousand are worth that, a small sync is not.
"""

from __future__ import annotations

import io

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from dlt.destinations.impl.postgres.postgres import PostgresParquetCopyJob

FEW_ROWS = 10_000
# Before PostgreSQL 18 such a line ends the rows, also within quotes.
_END = b"\\."


class CopyJob(PostgresParquetCopyJob):
    """dlt's job for a Parquet file, which goes by ADBC only where it holds many rows."""

    def run(self) -> None:
        """Copy the file into its table."""
        rows = few_rows(self._file_path)
        if rows is None:
            super().run()
            return
        client = self._job_client.sql_client
        columns = ", ".join(client.escape_column_name(name) for name in rows[0])
        table = client.make_qualified_table_name(self.load_table_name)
        # the names are dlt's, quoted by dlt
        statement = f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')"
        with client.begin_transaction(), client.native_connection.cursor() as cursor:
            cursor.copy_expert(statement, io.BytesIO(rows[1]))


def few_rows(path: str) -> tuple[list[str], bytes] | None:
    """Column names and rows of a small Parquet file, as CSV that quotes all but nulls; None for a large one."""
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > FEW_ROWS:
            return None
        table = file.read()
    written = io.BytesIO()
    pa_csv.write_csv(table, written, pa_csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    rows = written.getvalue()
    if _END in rows:
        return None
    return table.column_names, rows
