"""What came of a run, as a result table and as `--json`; the same whether it ran here or through the queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datasense_assets.cli.errors import DONE, WORLD_FAILED
from datasense_assets.cli.output import print_json, print_table, say

Status = Literal["done", "failed", "asked"]


@dataclass(frozen=True)
class WrittenTable:
    """A table that a run wrote: its asset, its name in the warehouse, rows in it now and rows that this run wrote.

    `notes`: sentences about what was read, such as why a column stays text.
    """

    asset: str
    table: str
    rows: int | None
    rows_loaded: int | None
    rows_rejected: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One run, or the request for one: `name` is what was asked for, `failures` are whole sentences."""

    name: str
    status: Status
    run_id: str | None = None
    request_id: int | None = None
    tables: tuple[WrittenTable, ...] = ()
    failures: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The outcome as `--json` prints it."""
        return {
            "name": self.name,
            "status": self.status,
            "run_id": self.run_id,
            "request_id": self.request_id,
            "tables": [vars(table) for table in self.tables],
            "failures": list(self.failures),
        }


def written_tables(materialized: Mapping[tuple[str, ...], Mapping[str, Any]]) -> tuple[WrittenTable, ...]:
    """Tables from the metadata of materializations, by asset key path."""
    return tuple(
        WrittenTable(
            asset="/".join(path),
            table=str(said.get("dagster/table_name", "")),
            rows=said.get("dagster/row_count"),
            rows_loaded=said.get("rows_loaded"),
            rows_rejected=said.get("rows_rejected"),
            notes=tuple(line.removeprefix("- ") for line in str(said.get("notes") or "").splitlines()),
        )
        for path, said in sorted(materialized.items())
    )


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """2 where any run failed."""
    return WORLD_FAILED if any(outcome.status == "failed" for outcome in outcomes) else DONE


def print_outcomes(outcomes: Sequence[Outcome], *, as_json: bool, **extra: Any) -> None:
    """The result table on stdout and failures on stderr; or everything as the one document, with `extra` beside."""
    for outcome in outcomes:
        for failure in outcome.failures:
            say(f"{outcome.name}: {failure}", style="red")
        for table in outcome.tables:
            for note in table.notes:
                say(f"{table.asset}: {note}")
    if as_json:
        print_json({**extra, "runs": [outcome.document() for outcome in outcomes]})
        return
    rows: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        # What a run that failed has written is in place all the same.
        state = "done" if outcome.status == "failed" else outcome.status
        rows += [(t.asset, state, t.table, t.rows, t.rows_loaded, t.rows_rejected) for t in outcome.tables]
        if not outcome.tables:
            rows.append((outcome.name, outcome.status, "", None, None, None))
        elif outcome.status == "failed":
            rows.append((outcome.name, "failed in part", "", None, None, None))
    print_table(("asset", "", "table", "rows", "rows loaded", "rejected"), rows)
