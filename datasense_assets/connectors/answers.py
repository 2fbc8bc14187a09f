"""What a server's answer means: which failure a status stands for, how long it asks us to wait, what a web page says.

Pure functions of status, headers and the first part of the body; nothing is fetched here.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    CredentialRefused,
    ResourceGone,
    SourceError,
    Throttled,
    Unavailable,
)

_WAIT_WORDS = re.compile(r"wait (?:for )?(\d{1,6}) seconds", re.IGNORECASE)
_HTML = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|meta|script|table)\b", re.I | re.S)
_HIDDEN = re.compile(r"<(script|style|noscript|svg)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.I | re.S)
_TAG = re.compile(r"<[^>]*>?")
WORDS = 200


def retry_after_seconds(headers: Mapping[str, str], body: str, now: datetime | None = None) -> float | None:
    """Seconds that the server asks us to wait: `Retry-After` as seconds or as a date, or words in the body.

    None where it says nothing that can be read; never negative.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    if value:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    words = _WAIT_WORDS.search(body)
    return float(words[1]) if words else None


def web_page_words(text: str) -> str | None:
    """What a web page says, in one line of at most 200 characters; None where the text is no web page."""
    if not _HTML.match(text.lstrip("\ufeff")):
        return None
    visible = _TAG.sub(" ", _HIDDEN.sub(" ", text))
    return _cut(html.unescape(visible)) or "(a page without words)"


def plain_words(body: str) -> str:
    """The words of an error body in one line: the page's, the JSON's `detail` or `message`, or the text itself."""
    page = web_page_words(body)
    if page is not None:
        return page
    try:
        value = json.loads(body)
    except ValueError:
        return _cut(body)
    while isinstance(value, dict):
        value = next((value[k] for k in ("detail", "message", "error", "errors") if value.get(k)), "")
    return _cut(value if isinstance(value, str) else json.dumps(value))


def failure_of(status: int, headers: Mapping[str, str], body: str, where: str) -> SourceError:
    """The failure that an answer other than success stands for; `where` is the address as users may see it."""
    words = plain_words(body)
    said = f" ({words})" if words else ""
    wait = retry_after_seconds(headers, body)
    if status in (429, 417, 409) or (status == 503 and wait is not None):
        asked = f" for {wait:.0f} s" if wait is not None else ""
        return Throttled(f"{where} asks to wait{asked}.", advice="It is tried again later.", retry_after=wait)
    if status >= 500 or status == 408:
        return Unavailable(
            f"{where} failed with status {status}{said}.", advice="It is tried again later.", retry_after=wait
        )
    if status in (401, 407):
        return CredentialRefused(
            f"{where} refused the credential{said}.",
            advice="Check that it is complete and was not revoked; if needed, make a new one.",
        )
    if status == 403:
        return AccessForbidden(
            f"{where} may not be read with this credential{said}.", advice="Ask its owner for the right to view it."
        )
    if status in (404, 410):
        return ResourceGone(f"{where} is not there{said}.", advice="Check the address.")
    if status == 412:
        return AccessForbidden(
            f"{where} gives this user no API access{said}.", advice="Ask the server's owner for access to the API."
        )
    return BadConfig(f"{where} refused the request with status {status}{said}.", advice="Check the source's config.")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WORDS else line[: WORDS - 1] + "…"
