"""A stored table as an expression: its rows without those that their source has deleted."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from datasense_assets.recipes.tableref import TableRef

DELETED_AT = "_ds_deleted_at"


def stored_rows(ref: TableRef) -> ir.Table:
    """The table's rows. One that its source has deleted is kept to be seen, and must not be counted."""
    table: ir.Table = ibis.table(ref.columns, name=ref.table, database=ref.schema)
    return table.filter(table[DELETED_AT].isnull()) if DELETED_AT in ref.columns else table
