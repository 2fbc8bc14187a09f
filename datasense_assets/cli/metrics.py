"""`datasense metrics`: the platform's numbers for Prometheus, and its health for probes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.errors import WorldFailed
from datasense_assets.cli.output import print_json, print_text, say

if TYPE_CHECKING:
    import dagster as dg

PORT = 9464


def metrics(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: any free port.")] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; 0.0.0.0 for other machines.")
    ] = "127.0.0.1",
    once: Annotated[
        bool, typer.Option("--once", help="Print the metrics, ended runs of the last hour counted, and leave.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Print what /health/ready says and leave: exit code 2 where it is not.")
    ] = False,
) -> None:
    """Serve /metrics for Prometheus, and /health/live and /health/ready for probes. One a platform is enough."""
    from datasense_assets.operations.health import readiness
    from datasense_assets.operations.metrics import Exporter
    from datasense_assets.operations.metrics.exporter import LOOK_BACK
    from datasense_assets.operations.serving import make_server
    from datasense_assets.running.owners import catalog_engine
    from datasense_assets.settings import get_settings

    settings = get_settings()
    if ready:
        health = readiness(catalog_engine, open_lasting_instance, settings)
        print_json(health.document())
        if not health.ready:
            raise typer.Exit(2)
        return
    now = datetime.now(UTC)
    exporter = Exporter(catalog_engine, open_lasting_instance, settings, since=now - LOOK_BACK if once else now)
    if once:
        print_text(exporter.text().decode())
        return
    try:
        server = make_server(
            host, port, exporter.text, lambda: readiness(catalog_engine, open_lasting_instance, settings)
        )
    except OSError as error:
        raise WorldFailed(
            f"{host}:{port} cannot be listened at: {error.strerror}.", advice="Choose another --port or --host."
        ) from None
    if settings.log_lines is not None:
        from datasense_assets.running.logs import set_up_logging

        set_up_logging()
    with server:
        say(f"http://{host}:{server.server_port}/metrics, /health/live and /health/ready; Ctrl-C stops.")
        server.serve_forever()


@lru_cache(maxsize=1)
def open_lasting_instance() -> dg.DagsterInstance:
    """The Dagster instance, opened at the first need and kept; a database that is away is asked again the next time."""
    from datasense_assets.running.instance import open_instance

    return open_instance()
