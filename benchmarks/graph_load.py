"""What the asset graph costs to build: the whole of it at growing sizes, and a run worker's own part of the largest.

    python benchmarks/graph_load.py [--sizes 10 500 5000] [--checks 0 3] [--policies 5000] [--picture FILE.svg]

With `--checks`, every table and recipe has that many checks. `--policies`: up to so many sources bear a freshness
policy. The snapshot is what webserver and daemon read of the location and hold.

Each figure is CPU seconds of a fresh process, imports not counted, median of three; the ratios say how cost grows.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

_MEASURE = """
import contextlib, sys, time
from datetime import date
import dagster as dg
from datasense_assets.assets.graph import _long_lived, build_definitions
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
with _long_lived() if not part else contextlib.nullcontext():
    made = build_definitions(snapshot, settings, scoped=part)
repository = made.get_repository_def()
repository.load_all_definitions()
took = time.process_time() - start
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value
print(took, len(serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))))
"""


def cost(sources: int, what: str, checks: int, policies: int, times_of: int = 3) -> tuple[float, float]:
    """Median CPU seconds of building the graph (`what` is `whole` or `part`), and MB of its snapshot."""
    times = []
    for _ in range(times_of):
        command = [sys.executable, "-c", _MEASURE, str(sources), what, str(checks), str(policies)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, size = done.stdout.split()
        times.append(float(seconds))
    return statistics.median(times), int(size) / 1e6


def picture(lines: dict[str, list[tuple[int, float]]]) -> str:
    """An SVG of CPU seconds over sources, a line for each name."""
    width, height, left, bottom = 640, 320, 56, 40
    most_x = max(x for line in lines.values() for x, _ in line)
    most_y = max(y for line in lines.values() for _, y in line) * 1.1

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / most_x * (width - left - 150), height - bottom - y / most_y * (height - bottom - 20)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12"'
        ' font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for step in range(6):
        (x, low), (_, y) = at(most_x * step / 5, 0), at(0, most_y * step / 5)
        out.append(f'<text x="{x:.0f}" y="{low + 16:.0f}" text-anchor="middle">{most_x * step // 5:,}</text>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{most_y * step / 5:.1f}</text>')
        out.append(f'<line x1="{left}" x2="{width - 150}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
    for colour, (name, line) in zip(("#1b6ca8", "#c8553d", "#588157"), lines.items(), strict=False):
        points = [at(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{points[-1][0] + 8:.0f}" y="{points[-1][1] + 4:.0f}" fill="{colour}">{name}</text>')
    out.append(f'<text x="{left}" y="14">CPU seconds to load</text>')
    out.append(f'<text x="{width - 150}" y="{height - 6}" text-anchor="end">sources, and as many recipes</text></svg>')
    return "\n".join(out)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 500, 5000])
    parser.add_argument("--checks", type=int, nargs="+", default=[0])
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    print("| sources + as many recipes | checks each | CPU s | CPU ms a source | snapshot, MB |\n|---|---|---|---|---|")
    lines: dict[str, list[tuple[int, float]]] = {}
    for checks in given.checks:
        line = lines.setdefault(f"{checks} checks each" if checks else "no checks", [])
        for size in given.sizes:
            seconds, megabytes = cost(size, "whole", checks, given.policies, given.times)
            line.append((size, seconds))
            ms = 1000 * seconds / size
            print(f"| {size:,} | {checks} | {seconds:.2f} | {ms:.2f} | {megabytes:.1f} |", flush=True)
    part, _ = cost(given.sizes[-1], "part", given.checks[0], given.policies)
    print(f"| one run's part of {given.sizes[-1]:,} | {given.checks[0]} | {part:.3f} | | |")
    if given.picture is not None:
        given.picture.write_text(picture(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
