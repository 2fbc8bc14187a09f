"""Which columns of SurveyCTO's wide format are a repeat group's, told by their names and their order alone.

The wide format spreads a repeat over the submission's own columns: `members_count`, then `name_1`, `age_1`, `name_2`,
`age_2`. It does not say so, and an ordinary question may be called `crop_1`. This is the whole rule:

1. A column `<repeat>_count` opens a repeat; it stays where it stands, as an ordinary column.
2. The columns right after it that end in `_<number>` are the repeat's, as long as their numbers run 1, 2, 3 ... without
   a gap (`visit_2019` is no such series). The first column that is not ends the repeat.
3. Inside a repeat the same holds with one number more: `tests_count_1` opens a repeat within `members`, whose columns
   are `score_1_1`, `score_1_2` (the outer number first).
4. A `<repeat>_count` that no such column follows is an ordinary number.

Values are never asked: a rule that looked at them could answer one way in one load and another way in the next.
The price is that a numbered question right behind a repeat goes with it. It is named in `plain_columns` of the
source's config then. Nothing is lost either way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Path = tuple[str, ...]
Indexes = tuple[int, ...]

COUNT = "_count"
DEEPEST = 5
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Place:
    """Where a wide column's value goes: the table, its column, and the row's numbers (from 1, the outermost first)."""

    path: Path
    column: str
    indexes: Indexes


@dataclass(frozen=True)
class Layout:
    """Every wide column's place. `columns`: by table, the top one first, parents before children, in the form's order.
    `most`: the highest row number that a repeat has columns for.
    """

    places: Mapping[str, Place]
    columns: Mapping[Path, tuple[str, ...]]
    most: Mapping[Path, int]


def find_layout(keys: Iterable[str], plain: Collection[str] = ()) -> Layout:
    """Tell the repeats of a form from its wide columns, given in the order in which the server sends them.

    `plain` are names without number (`crop` for `crop_1`, `crop_2`) that belong to no repeat.
    """
    keys = list(keys)
    series = _series(keys)
    homes: dict[tuple[int, str], Path] = {}
    places: dict[str, Place] = {}
    opened: Path = ()
    for key in keys:
        place = _known(key, homes) or _joining(key, opened, series, plain)
        if place is None:
            place = Place((), key, ())
        else:
            homes[len(place.path), place.column] = place.path
        places[key] = place
        is_count = place.column.endswith(COUNT) and place.column != COUNT
        opened = (*place.path, place.column.removesuffix(COUNT)) if is_count else place.path
    columns: dict[Path, dict[str, None]] = {(): {}}
    most: dict[Path, int] = {}
    for place in places.values():
        columns.setdefault(place.path, {})[place.column] = None
        if place.indexes:
            most[place.path] = max(most.get(place.path, 0), place.indexes[-1])
    ordered = sorted(columns, key=len)  # a stable sort: the form's order within a depth
    return Layout(places, {path: tuple(columns[path]) for path in ordered}, most)


def _known(key: str, homes: Mapping[tuple[int, str], Path]) -> Place | None:
    """The place of a column whose series has been met before, wherever it stands."""
    for depth in range(DEEPEST, 0, -1):
        parts = _split(key, depth)
        if parts is not None and (depth, parts[0]) in homes:
            return Place(homes[depth, parts[0]], *parts)
    return None


def _joining(
    key: str, opened: Path, series: Mapping[tuple[int, str], Mapping[Indexes, set[int]]], plain: Collection[str]
) -> Place | None:
    """The place of a series that begins here, in the deepest open repeat that has numbers enough; None: in none."""
    for depth in range(min(len(opened), DEEPEST), 0, -1):
        parts = _split(key, depth)
        if parts is None or parts[0] in plain:
            continue
        if all(numbers == set(range(1, len(numbers) + 1)) for numbers in series[depth, parts[0]].values()):
            return Place(opened[:depth], *parts)
    return None


def _series(keys: Iterable[str]) -> dict[tuple[int, str], dict[Indexes, set[int]]]:
    """By depth and name without numbers: the last numbers there are, under each combination of outer ones."""
    found: dict[tuple[int, str], dict[Indexes, set[int]]] = {}
    for key in keys:
        for depth in range(1, DEEPEST + 1):
            parts = _split(key, depth)
            if parts is None:
                break
            base, indexes = parts
            found.setdefault((depth, base), {}).setdefault(indexes[:-1], set()).add(indexes[-1])
    return found


def _split(key: str, depth: int) -> tuple[str, Indexes] | None:
    """`score_1_2` at depth 2 is `score` and (1, 2); None where the name does not end in that many numbers."""
    base, *numbers = key.rsplit("_", depth)
    if not base or len(numbers) != depth:
        return None
    for number in numbers:
        if not (number.isascii() and number.isdigit()) or number.startswith("0") or len(number) > _MOST_DIGITS:
            return None
    return base, tuple(int(number) for number in numbers)
