"""What a server says of a file's version, and what is to be believed of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

SETTLED_SECONDS = 60.0


@dataclass(frozen=True)
class FileVersion:
    """What the server said of a file: enough to tell later that it has not changed. Bytes as received."""

    etag: str | None
    last_modified: str | None
    content_type: str
    date: str | None = None

    @property
    def settled_modified(self) -> str | None:
        """The time of the last change where it is a minute old: within that second the file may change once more."""
        if self.last_modified is None:
            return None
        try:
            changed = parsedate_to_datetime(self.last_modified).timestamp()
            now = parsedate_to_datetime(self.date).timestamp() if self.date else time.time()
        except ValueError:
            return None
        return self.last_modified if now - changed >= SETTLED_SECONDS else None

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the file only if it is another than this."""
        if self.etag:
            return {"if-none-match": self.etag}
        return {"if-modified-since": self.last_modified} if self.last_modified else {}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> FileVersion:
        """What an answer's headers say."""
        modified, kind = headers.get("last-modified"), headers.get("content-type", "")
        return cls(headers.get("etag"), modified, kind, headers.get("date"))
