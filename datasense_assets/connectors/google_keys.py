"""What a row of a spreadsheet is known by."""

from __future__ import annotations

from collections.abc import Sequence

from datasense_assets.connectors.errors import BadConfig
from datasense_assets.connectors.google_cells import SheetHeader


class SheetKeys:
    r"""Row ids: the row's number, or the key columns joined by `|` (itself and `\` escaped), each once."""

    def __init__(self, indexes: Sequence[int], names: Sequence[str]) -> None:
        """Keep the key columns' places; none for the row's number."""
        self._indexes, self._names = indexes, ", ".join(names)
        self._seen: set[str] = set()

    @classmethod
    def of(cls, key: Sequence[str], header: SheetHeader, where: str) -> SheetKeys:
        """The ids of a table with that header.

        Raises:
            BadConfig: a key column is not there.

        """
        return cls([_key_index(name, header, where) for name in key], key)

    def identify(self, row: int, texts: Sequence[str | None]) -> tuple[str | None, str]:
        """The row's id; or None and the reason why it has none."""
        if not self._indexes:
            return str(row + 1), ""
        parts = [texts[index] for index in self._indexes]
        if any(part is None for part in parts):
            return None, f"has no value in its key ({self._names})"
        whole = [part for part in parts if part is not None]
        escaped = [part.replace("\\", "\\\\").replace("|", "\\|") for part in whole]
        row_id = whole[0] if len(whole) == 1 else "|".join(escaped)
        if row_id in self._seen:
            return None, f"has the same key ({self._names}) as an earlier row"
        self._seen.add(row_id)
        return row_id, ""


def _key_index(name: str, header: SheetHeader, where: str) -> int:
    if name in header.keys:
        return header.keys.index(name)
    if name in header.labels:
        return header.labels.index(name)
    raise BadConfig(
        f"{where} has no column {name!r} to use as a key.", advice=f"Its columns are: {', '.join(header.keys)}."
    )
