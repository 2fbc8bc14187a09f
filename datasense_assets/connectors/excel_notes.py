"""What is said of a workbook's columns: cells that hold no value though they should, how many and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from datasense_assets.connectors.errors import BadData
from datasense_assets.connectors.excel_faults import Faults, Place, cell_name
from datasense_assets.connectors.google_ranges import Area, merged_notes

_PLACES_NAMED = 3
_SAVE_IT = "Open the file in Excel or LibreOffice and save it again"


def column_notes(faults: Faults, merges: Sequence[Area], first: int) -> dict[int, tuple[str, ...]]:
    """Sentences by column, of its cells from row `first` on; `merges` are merged cells that hold a value."""
    notes: dict[int, list[str]] = defaultdict(list)
    for column, places in _by_column(faults.errors, first).items():
        named = _named(f"{cell_name(place)} {faults.errors[place]}" for place in places)
        notes[column].append(f"has an error instead of a value in {_cells(places)} ({named}), loaded as empty")
    for column, places in _by_column(faults.unstored, first).items():
        notes[column].append(
            f"has a formula without its result in {_cells(places)} ({_named(map(cell_name, places))}), loaded as "
            f"empty. {_SAVE_IT}, so that it holds the results"
        )
    for column, places in _by_column(faults.uncalculated, first).items():
        notes[column].append(
            f"has a formula in {_cells(places)} ({_named(map(cell_name, places))}) that the program which wrote the "
            f"file did not calculate: they are 0 whatever their result is. {_SAVE_IT}, so that it holds the results"
        )
    for column in sorted({column for merge in merges for column in range(merge.left, merge.right)}):
        notes[column] += merged_notes(merges, column)
    return {column: tuple(said) for column, said in notes.items()}


def no_header(where: str, places: Iterable[Place]) -> BadData:
    """Of a header that is made of formulas, or stands in a sheet of nothing else."""
    named = _named(map(cell_name, places))
    return BadData(
        f"{where} has no header that can be read: the results of formulas are not stored in it ({named}).",
        advice=f"{_SAVE_IT}, so that it holds their results.",
    )


def _by_column(places: Iterable[Place], first: int) -> dict[int, list[Place]]:
    found: dict[int, list[Place]] = defaultdict(list)
    for place in sorted(places):
        if place[0] >= first:
            found[place[1]].append(place)
    return found


def _cells(places: Sequence[Place]) -> str:
    return "1 cell" if len(places) == 1 else f"{len(places):,} cells"


def _named(words: Iterable[str]) -> str:
    found = list(words)
    more = len(found) - _PLACES_NAMED
    return ", ".join(found[:_PLACES_NAMED]) + (f" and {more:,} more" if more > 0 else "")
