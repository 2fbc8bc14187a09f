"""World to tables: naming, typing, Arrow pages, windows and cursor, the dlt load, schema changes. No dagster here."""
