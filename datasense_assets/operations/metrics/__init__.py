"""The platform in Prometheus' terms: read by SQL and from Dagster's storage at each scrape, bounded in labels."""

from datasense_assets.operations.metrics.exporter import Exporter

__all__ = ["Exporter"]
