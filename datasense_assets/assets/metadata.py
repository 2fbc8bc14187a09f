"""What a materialization says: row counts, cursors, schema, cost and a preview, as the contract names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from datasense_assets.catalog.models import ColumnType, SourceColumn

if TYPE_CHECKING:
    from datasense_assets.catalog.state import SchemaChange
    from datasense_assets.ingest.report import TableReport

_POSTGRES_TYPES = {
    ColumnType.TEXT: "text",
    ColumnType.INTEGER: "bigint",
    ColumnType.NUMBER: "double precision",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.DATE: "date",
    ColumnType.DATETIME: "timestamp with time zone",
    ColumnType.TIME: "time",
    ColumnType.JSON: "jsonb",
}


def column_schema(columns: Iterable[SourceColumn]) -> dg.TableSchema:
    """Columns with Postgres types; the description is the header or question as its author wrote it."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=column.name, type=_POSTGRES_TYPES[column.type], description=_described(column))
            for column in columns
        ]
    )


def _described(column: SourceColumn) -> str:
    """The label, then the labels of other languages."""
    others = [text for text in column.labels.values() if text and text != column.label]
    return " · ".join(dict.fromkeys([column.label, *others]))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a Markdown table; cells are cut at 60 characters and cannot break the table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    text = text if len(text) <= 60 else text[:59] + "…"
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def load_metadata(report: TableReport) -> dict[str, Any]:
    """Metadata of one loaded table. Corrects what dagster-dlt says: it leaves the row count out when no row was loaded
    and takes the schema's name for the dataset in `dagster/table_name`.
    """
    said: dict[str, Any] = {
        "dagster/row_count": report.row_count,
        "dagster/table_name": f"{report.schema}.{report.warehouse_table}",
        "dagster/column_schema": column_schema(report.columns),
        "rows_loaded": report.rows_loaded,
        "rows_read": report.rows_read,
        "rows_unchanged": report.rows_unchanged,
        "rows_repeated": report.rows_repeated,
        "rows_padded": report.rows_padded,
        "rows_rejected": report.rows_rejected,
        "rows_deleted": report.rows_deleted,
        "bytes": report.bytes,
        "api_calls": report.api_calls,
        "throttled_seconds": round(report.throttled_seconds, 3),
        "cursor_before": report.cursor_before or "none",
        "cursor_after": report.cursor_after or "none",
        "data_version": report.data_version,
        "schema_changes": dg.MetadataValue.json([_change(change) for change in report.schema_changes]),
    }
    if report.notes:
        said["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in map(_one_line, report.notes)))
    if report.preview:
        columns = list(report.preview[0])
        rows = [[row[column] for column in columns] for row in report.preview]
        said["preview"] = dg.MetadataValue.md(markdown_table(columns, rows))
    return said


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _change(change: SchemaChange) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "column": change.column_name,
        "old_type": change.old_type,
        "new_type": change.new_type,
        "old_label": change.old_label,
        "new_label": change.new_label,
        "breaks": [each.recipe for each in change.affects if each.effect == "breaks"],
        "used_by": [each.recipe for each in change.affects if each.effect == "uses"],
        "said": str(change),
    }
