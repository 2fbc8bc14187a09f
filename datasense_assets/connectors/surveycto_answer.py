"""A form's answer on disk, one JSON array of any size, read a submission at a time: never held in memory whole."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ijson

from datasense_assets.connectors.answers import web_page_words
from datasense_assets.connectors.errors import BadConfig, BadData
from datasense_assets.connectors.surveycto_rows import Json, completed_at

# A load remembers the rows that it read last, to know them when they come again: those must be the newest.
NEWEST_LAST = 500
_START_BYTES = 64 * 1024


def read_rows(file: Path, where: str, *, cut: bool = False) -> Iterator[Any]:
    """The array's items in their order. `cut`: the file is only the array's beginning, so its end is no error.

    Raises:
        BadConfig: it is a web page.
        BadData: it is no JSON array, or a broken one.

    """
    with file.open("rb") as opened:
        start = opened.read(_START_BYTES)
        if not start.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"["):
            raise _no_array(start, where)
        opened.seek(3 if start.startswith(b"\xef\xbb\xbf") else 0)
        try:
            yield from ijson.items(opened, "item")
        except ijson.JSONError as error:
            if not cut:
                raise BadData(
                    f"{where} answered with broken JSON ({error}).",
                    advice="Sync again; if it stays so, ask SurveyCTO's support.",
                ) from None


def ordered_keys(rows: Iterable[Any]) -> list[str]:
    """Every column that a row has, in the form's order: one that an earlier row lacks goes behind its neighbour."""
    keys: list[str] = []
    known: set[str] = set()
    for row in rows:
        if not isinstance(row, dict) or row.keys() <= known:
            continue
        at = 0
        for key in row:
            if key in known:
                at = keys.index(key) + 1
            else:
                keys.insert(at, key)
                known.add(key)
                at += 1
    return keys


def newest_last(rows: Iterable[Json]) -> Iterator[Json]:
    """The rows in their order, but the newest 500 by completion at the end, oldest first; holds no more than those."""
    held: list[tuple[str, int, Json]] = []
    for number, row in enumerate(rows):
        moment = completed_at(row)
        item = ("" if moment is None else moment.isoformat(), number, row)
        if len(held) < NEWEST_LAST:
            heapq.heappush(held, item)
        else:
            yield heapq.heappushpop(held, item)[2]
    while held:
        yield heapq.heappop(held)[2]


def _no_array(start: bytes, where: str) -> BadConfig | BadData:
    words = web_page_words(start.decode("utf-8", "replace"))
    if words is not None:
        return BadConfig(
            f"{where} answered with a web page ({words}), not with data.",
            advice="Check `server` in the source's config, for example https://example.surveycto.com.",
        )
    return BadData(f"{where} answered with something that is no JSON array.", advice="Check the server's address.")
