"""What importing the location costs beside importing Dagster, which nobody can do without.

    python benchmarks/import_time.py [--times 12]

CPU seconds of fresh interpreters that take turns, from their start to the end of the import; the median of the ratios
is what to trust.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys


def cost(module: str) -> float:
    """CPU seconds of a process until it has imported the module."""
    script = f"import time, {module}; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=12)
    pairs = [(cost("dagster"), cost("datasense_assets.definitions")) for _ in range(parser.parse_args().times)]
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(our / their for their, our in pairs)
    print(f"import dagster {theirs:.2f} CPU s, import datasense_assets.definitions {ours:.2f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
