"""What the asset graph costs to build: the whole of it at growing sizes, and a run worker's own part of the largest.

    python benchmarks/graph_load.py [--sizes 10 500 5000] [--checks 3] [--policies 5000]

With `--checks`, every table and recipe has that many checks. `--policies`: up to so many sources
bear a freshness policy.

Each figure is CPU seconds of a fresh process, imports not counted, median of three; the ratios say how cost grows.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

_MEASURE = """
import sys, time
from datetime import date
import dagster as dg
from datasense_assets.assets.graph import build_definitions
from datasense_assets.catalog.models import Organization, RecipeRow, Snapshot, Source, SourceTable
from datasense_assets.settings import Settings

sources, part, checks = int(sys.argv[1]), sys.argv[2] == "part", int(sys.argv[3])
per_org = 5
promises = [{"check": "not_null", "column": f"question_{n}"} for n in range(checks)]

def organization(number):
    ids = range(number * per_org, (number + 1) * per_org)
    made = tuple(
        Source(id=i + 1, slug=f"forms-{i}", connector="kobo", created_on=date(2026, 1, 1),
               tables=(SourceTable(id=i + 1, slug="visits", resource=f"a{i}", checks=promises),))
        for i in ids
    )
    recipes = tuple(
        RecipeRow(id=i + 1, name=f"monthly_{i}",
                  spec={"inputs": {"visits": f"source:forms_{i}.visits"}, "checks": promises})
        for i in ids
    )
    return Organization(id=number + 1, slug=f"org-{number}", name="Org", sources=made, recipes=recipes)

snapshot = Snapshot(revision=1, organizations=tuple(organization(n) for n in range(sources // per_org)))
if part:
    first = snapshot.organizations[0]
    first = first.model_copy(update={"sources": first.sources[:1], "recipes": ()})
    snapshot = Snapshot(revision=1, organizations=(first,))
settings = Settings(freshness_policies=int(sys.argv[4]))
start = time.process_time()
build_definitions(snapshot, settings, scoped=part).get_repository_def().load_all_definitions()
print(time.process_time() - start)
"""


def cost(sources: int, what: str, checks: int, policies: int) -> float:
    """Median CPU seconds of building the graph (`what` is `whole` or `part`) for that many sources and recipes."""
    times = []
    for _ in range(3):
        command = [sys.executable, "-c", _MEASURE, str(sources), what, str(checks), str(policies)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(float(done.stdout))
    return statistics.median(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 500, 5000])
    parser.add_argument("--checks", type=int, default=0)
    parser.add_argument("--policies", type=int, default=1000)
    given = parser.parse_args()
    sizes = given.sizes
    whole = {size: cost(size, "whole", given.checks, given.policies) for size in sizes}
    part = cost(sizes[-1], "part", given.checks, given.policies)
    print("| sources + as many recipes | CPU s | CPU ms a source |\n|---|---|---|")
    for size, seconds in whole.items():
        print(f"| {size} | {seconds:.2f} | {1000 * seconds / size:.2f} |")
    print(f"| one run's part of {sizes[-1]} | {part:.3f} | whole / part = {whole[sizes[-1]] / part:.0f} |")


if __name__ == "__main__":
    main()
