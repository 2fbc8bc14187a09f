"""Postgres as DataSense uses it: connections, roles, leases, swaps, reading, the embedded server. No Dagster here."""
