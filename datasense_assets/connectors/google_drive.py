"""When a spreadsheet was changed last, as Drive says it: one call that may save reading all of it.

Drive is another API than Sheets, with a scope of its own. Where it is not enabled, or the key may not ask it, nothing
has failed: the spreadsheet is simply read.
"""

from __future__ import annotations

import re
import time
from urllib.parse import quote

from datasense_assets.connectors.authorization import header_value
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, ReadStats
from datasense_assets.connectors.errors import SourceError
from datasense_assets.connectors.google_account import ServiceAccount, fetch_token
from datasense_assets.connectors.http import HttpClient

SCOPE = "https://www.googleapis.com/auth/drive.metadata.readonly"
BELIEVED_SECONDS = 86_400.0
"""How long an unchanged time is believed: a formula may bring other values (IMPORTRANGE, TODAY) without any change."""
_SAID = re.compile(r"drive (\S+) (\d+)")


def drive_root(sheets_root: str) -> str:
    """Where Drive is: at Google beside Sheets, in a stand-in at the same address."""
    return "https://www.googleapis.com" if sheets_root == "https://sheets.googleapis.com" else sheets_root


class DriveFile:
    """The spreadsheet as a file of Drive; `root` is Drive's address."""

    def __init__(
        self,
        account: ServiceAccount,
        root: str,
        spreadsheet: str,
        policy: NetworkPolicy,
        stats: ReadStats,
        budget: CallBudget | None,
    ) -> None:
        """Keep the parts; nothing is connected."""
        self._account, self._policy, self._stats, self._budget = account, policy, stats, budget
        self._url = f"{root}/drive/v3/files/{quote(spreadsheet, safe='')}"
        self._asked = False
        self._modified: str | None = None

    def fingerprint(self, previous: str | None) -> str | None:
        """The time of the last change and of this question; `previous` itself where that time is still the same.

        None where Drive does not tell.
        """
        modified = self._modified_time()
        if modified is None:
            return None
        now = int(time.time())
        said = _SAID.fullmatch(previous or "")
        if said is not None and said[1] == modified and now - int(said[2]) < BELIEVED_SECONDS:
            return previous
        return f"drive {modified} {now}"

    def _modified_time(self) -> str | None:
        if not self._asked:
            self._asked = True
            try:
                self._modified = self._ask()
            except SourceError:
                self._modified = None  # what is wrong, if anything is, the Sheets API says in plain words
        return self._modified

    def _ask(self) -> str | None:
        token, _ = fetch_token(self._account, SCOPE, self._policy, self._stats, self._budget)
        authorization = header_value("Bearer", token)
        client = HttpClient(self._policy, self._stats, authorization=authorization, budget=self._budget)
        try:
            answer = client.get_json(self._url, {"fields": "modifiedTime", "supportsAllDrives": "true"})
        finally:
            client.close()
        found = answer.get("modifiedTime") if isinstance(answer, dict) else None
        return found if isinstance(found, str) and found and " " not in found else None
