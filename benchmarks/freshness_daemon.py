"""What Dagster's daemon spends on freshness policies: one look at each source's first table, every 30 seconds.

    python benchmarks/freshness_daemon.py [--sources 1000 5000] [--looks 5]

The graph of a catalog in a code server of its own, every source with a policy and loaded once, and the daemon's own
loop in this process. CPU seconds of a look in the daemon and, apart, in Postgres; the first look writes each state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.freshness import FreshnessDaemon
from sensor_tick import platform, server_cpu

BIN = Path(sys.executable).parent


@contextmanager
def code_server() -> Iterator[int]:
    """The location as it is served, its graph being the environment's catalog; the port."""
    from datasense_assets.running.topology import _listens, free_port

    port = free_port()
    words = [str(BIN / "dagster"), "api", "grpc", "-m", "datasense_assets.definitions", "-h", "127.0.0.1"]
    process = subprocess.Popen([*words, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 180
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the code server did not start")
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def measure(url: str, sources: int, looks: int) -> None:
    """Print a line of the table for the first look and one for those after it."""
    from datasense_assets.running.instance import open_instance

    with open_instance() as instance, code_server() as port:
        target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="datasense")
        with WorkspaceProcessContext(instance, target) as context:
            nodes = list(context.create_request_context().asset_graph.asset_nodes)
            promised = [node.key for node in nodes if node.freshness_policy_or_from_metadata]
            for key in promised:
                instance.report_runless_asset_event(dg.AssetMaterialization(key))
            daemon = FreshnessDaemon()
            taken = []
            for _ in range(1 + looks):
                at, cpu, there = time.perf_counter(), time.process_time(), server_cpu(url)
                list(daemon.run_iteration(context))
                taken.append((time.process_time() - cpu, server_cpu(url) - there, time.perf_counter() - at))
    later = [statistics.median(column) for column in zip(*taken[1:], strict=True)]
    for what, (here, there, wall) in (("first look", taken[0]), ("each look after it", tuple(later))):
        print(f"| {sources:,} | {len(promised):,} | {what} | {here:.2f} | {there:.2f} | {wall:.1f} |", flush=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--looks", type=int, default=5)
    given = parser.parse_args()
    from measuring import server_url

    server = server_url()
    print("| sources | policies | | daemon, CPU s | Postgres, CPU s | wall s |\n|---|---|---|---|---|---|")
    for sources in given.sources:
        os.environ["DATASENSE_FRESHNESS_POLICIES"] = str(sources)
        with platform(server, sources) as (url, _):
            measure(url, sources, given.looks)


if __name__ == "__main__":
    main()
