"""`datasense status`: how fresh everything is; what is late, failing, paused or queued, why, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.catalog.freshness import duration_text
from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.costs import show_costs
from datasense_assets.cli.output import JsonFlag, ago, print_json, print_table, say

if TYPE_CHECKING:
    from datasense_assets.catalog.status import StatusRow


def status(
    org: Annotated[str | None, typer.Argument(metavar="[ORG]", help="Only this organisation.")] = None,
    failing: Annotated[
        bool, typer.Option("--failing", help="Only what fails now, the oldest first, with what to do.")
    ] = False,
    costs: Annotated[
        bool,
        typer.Option("--costs", help="What runs have cost instead: an organisation a line, or each of ORG's sources."),
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=400, help="With --costs: of how many days.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """Show how everything stands: fresh, late, failing, breaking checks, paused, queued; why, and what to do."""
    from datasense_assets.catalog.status import failing_rows, organization_status

    with open_catalog() as catalog, catalog.connect() as connection:
        slug = read_organization(connection, org).slug if org is not None else None
        if costs:
            show_costs(connection, slug, days, as_json=as_json)
            return
        rows = organization_status(connection, slug)
    if failing:
        rows = failing_rows(rows)
    counts = Counter(row.state.value for row in rows)
    if as_json:
        print_json({"counts": dict(counts), "rows": [_plain(row) for row in rows]})
        return
    if failing and not rows:
        say("Nothing fails.")
        return
    if not rows:
        say("There is nothing to watch yet; `datasense apply FILE` adds sources.")
        return
    _show(rows)
    say(", ".join(f"{count} {state}" for state, count in counts.most_common()))


def _plain(row: StatusRow) -> dict[str, object]:
    promise = row.fresh_within
    return {**asdict(row), "fresh_within": None if promise is None else duration_text(promise)}


def _show(rows: Sequence[StatusRow]) -> None:
    print_table(
        ("what", "state", "rows", "fresh as of", "promised", "next", "why, and what to do"),
        [
            (
                row.path,
                f"{row.state.value}{', running' if row.running else ''}",
                row.row_count,
                ago(row.fresh_as_of) if row.fresh_as_of else "",
                duration_text(row.fresh_within) if row.fresh_within else "",
                _next(row.next_due_at),
                " ".join(filter(None, (row.why, row.what_to_do, row.warning)))
                + _rejected(row)
                + _changed(row)
                + _noted(row),
            )
            for row in rows
        ],
    )


def _next(due: datetime | None) -> str:
    if due is None:
        return ""
    return ago(due) if due > datetime.now(UTC) else "due"


def _rejected(row: StatusRow) -> str:
    if not row.rejected_rows:
        return ""
    return f" {row.rejected_rows} rows of the last load could not be read; they are in the table's __rejected table."


def _changed(row: StatusRow) -> str:
    shown = row.schema_changes[-3:]
    more = len(row.schema_changes) - len(shown)
    if not shown:
        return ""
    said = "; ".join(shown) + (f"; and {more} more" if more else "")
    return f" Changed in the last seven days: {said}."


def _noted(row: StatusRow) -> str:
    shown = row.column_notes[:3]
    more = len(row.column_notes) - len(shown)
    said = "".join(f" Column {note.rstrip('.')}." for note in shown)
    return said + (f" And {more} more columns have notes (--json shows all)." if more else "")
