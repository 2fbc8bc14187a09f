"""What runs have cost, as `datasense status --costs` shows it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from datasense_assets.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from datasense_assets.catalog.state import Cost

_MEGABYTE = 1024 * 1024


def show_costs(connection: Connection, org: str | None, days: int, *, as_json: bool) -> None:
    """Print the costs of the last `days`: of each source and recipe of an organisation, else of each organisation."""
    from datasense_assets.catalog.state import read_costs

    since = datetime.now(UTC) - timedelta(days=days)
    rows = read_costs(connection, since=since, org=org, by_org=org is None)
    total = _total(rows)
    if as_json:
        print_json({"since": since, "rows": [asdict(row) for row in rows], "total": total})
        return
    if not rows:
        say(f"Nothing has run in the last {days} days.")
        return
    print_table(
        (
            "what",
            "runs",
            "failed",
            "CPU s",
            "CPU s a run",
            "s",
            "peak MB",
            "rows read",
            "rows written",
            "MB read",
            "API calls",
            "queued s",
            "throttled s",
        ),
        [_line(row) for row in rows],
    )
    say(f"{total['runs']} runs in the last {days} days took {total['cpu_seconds']:.1f} CPU seconds of workers.")


def _line(row: Cost) -> tuple[Any, ...]:
    path = (row.org, *(["recipes"] if row.kind == "recipe" else []), *([row.name] if row.name else []))
    return (
        "/".join(path),
        row.runs,
        row.failures,
        round(row.cpu_seconds, 2),
        round(row.cpu_seconds / max(row.runs, 1), 3),
        round(row.wall_seconds, 1),
        round(row.peak_memory_bytes / _MEGABYTE),
        row.rows_read,
        row.rows_written,
        round(row.bytes_read / _MEGABYTE, 1),
        row.api_calls,
        round(row.queued_seconds, 1),
        round(row.throttled_seconds, 1),
    )


def _total(rows: list[Cost]) -> dict[str, Any]:
    """The sum over all lines; the highest of the peaks."""
    numbers = [{k: v for k, v in asdict(row).items() if k not in ("org", "kind", "name")} for row in rows]
    names = numbers[0] if numbers else ("runs", "failures", "cpu_seconds")
    return {
        name: (max if name == "peak_memory_bytes" else sum)(each[name] for each in numbers) if numbers else 0
        for name in names
    }
