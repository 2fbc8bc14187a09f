"""Syncs by Prefect: a server of its own, a deployment a source, and the runner that starts a process a run.

prefect server start; python -m baselines.prefect_flows
"""

from __future__ import annotations

from prefect import flow, serve

from baselines.plain_sync import AT_ONCE, SOURCES, load


@flow(name="sync", retries=3, retry_delay_seconds=15, log_prints=False)
def sync(source: int) -> None:
    """Load one source."""
    load(source)


def main() -> None:
    """Serve a deployment a source until stopped."""
    made = [
        sync.to_deployment(
            name=f"source-{number}", cron="* * * * *", parameters={"source": number}, concurrency_limit=1
        )
        for number in range(SOURCES)
    ]
    serve(*made, limit=AT_ONCE)


if __name__ == "__main__":
    main()
