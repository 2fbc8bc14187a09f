"""What all processes of a platform take while nothing is due, by part, in percent of one core.

    python benchmarks/idle.py [--sources 5000] [--minutes 5] [--settle 180] [--json FILE]

`datasense up` as it is, with sources that are all on `manual`. What comes first is not counted: the loading, and the
first look at every asset's freshness, which writes an event for each.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from whole_platform import platform, require_redis, wait_until


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--settle", type=float, default=180)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_redis()
    with platform() as running:
        running.fill(options.sources, "same")
        running.serve(lanes={"scheduled": 2})
        begun = time.monotonic()
        wait_until("it has settled", lambda: time.monotonic() > begun + options.settle, seconds=options.settle + 60)
        before, started = running.cpu(), time.monotonic()
        ends = started + options.minutes * 60
        wait_until("the time is over", lambda: time.monotonic() > ends, seconds=options.minutes * 60 + 60, every=5)
        after, took = running.cpu(), time.monotonic() - started
        memory = running.memory()
    shares = {name: 100 * (after[name] - before[name]) / took for name in after}
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{name:12} {share:5.2f} % of a core, {memory[name]:.0f} MB")
    print(
        f"{'all':12} {sum(shares.values()):5.2f} % of a core, {sum(memory.values()):.0f} MB, {options.sources} sources"
    )
    if options.json:
        options.json.write_text(json.dumps({"sources": options.sources, "percent": shares, "memory_mb": memory}))


if __name__ == "__main__":
    main()
