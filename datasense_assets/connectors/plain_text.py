"""Text without what Postgres cannot hold: NUL, and halves of characters that JSON lets through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_NUL_IN_JSON = re.compile(r"(\\\\)|\\u0000")


class Cleaner:
    """Cleans text, and counts what it changed, so that the load can say so."""

    def __init__(self) -> None:
        """Nothing was changed yet."""
        self.changed = 0

    def __call__(self, text: str) -> str:
        """The text without NUL, and with `?` for half a character."""
        clean = text.replace("\0", "") if "\0" in text else text
        if not clean.isascii():
            clean = clean.encode("utf-8", "replace").decode()
        self.changed += clean != text
        return clean

    def json(self, text: str) -> str:
        """The same of JSON, where NUL is an escape; a backslash may also be one of the text's own."""
        if "\\u0000" not in text:
            return self(text)
        clean = _NUL_IN_JSON.sub(lambda found: found[1] or "", text)
        changed = self.changed + (clean != text)
        clean = self(clean)
        self.changed = changed
        return clean

    def texts(self, column: pa.Array) -> pa.Array:
        """The same of a column of text, which is looked at only where it has a NUL."""
        import pyarrow as pa

        data = column.buffers()[2]
        if data is None or b"\0" not in data.to_pybytes():
            return column
        return pa.array([None if text is None else self(text) for text in column.to_pylist()], pa.string())

    def notes(self, where: str = "") -> list[str]:
        """A sentence for the load's report, where anything was changed; `where` names the file."""
        if not self.changed:
            return []
        values = "1 value" if self.changed == 1 else f"{self.changed:,} values"
        said = f"{values} held what PostgreSQL cannot hold: NUL, which was left out, or half a character, which is ?."
        return [f"{where}: {said}" if where else said]
