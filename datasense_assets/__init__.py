"""DataSense assets: a Dagster code location in which rows of a catalog are the asset graph."""
