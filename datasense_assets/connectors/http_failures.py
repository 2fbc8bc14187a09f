"""What goes wrong with a request, as a `SourceError` that chains nothing of the HTTP library and shows no secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpcore
import httpx

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.answers import failure_of
from datasense_assets.connectors.errors import BadConfig, BadData, Unavailable
from datasense_assets.connectors.network import Overdue

NOT_MODIFIED = 304
ERROR_BODY_BYTES = 64 * 1024
_AGAIN = "It is tried again later."


class TookTooLongToAnswer(Unavailable):
    """Not tried again at once: it has cost enough time."""


def raise_for_status(response: httpx.Response, url: str, secrets: Sequence[str]) -> None:
    """Do nothing for an answer that can be read, or that says `not modified` to whoever asked.

    Raises:
        SourceError: the answer is a failure; `secrets` that it repeats are taken out.

    """
    conditional = "if-none-match" in response.request.headers or "if-modified-since" in response.request.headers
    packed = response.headers.get("content-encoding", "").strip().lower()
    readable = packed in ("", "identity", "gzip", "deflate")
    if response.status_code == NOT_MODIFIED and conditional:
        return
    if response.status_code == 200:
        if readable:
            return
        # a packing inside a packing makes gigabytes of a few bytes before they can be counted
        raise BadData(
            f"{shown(url)} sent a packing that was not asked for ({packed[:40]}).",
            advice="Ask the server's owner, or give another address.",
        )
    body = b""
    for chunk in response.iter_bytes() if readable else ():
        body += chunk
        if len(body) > ERROR_BODY_BYTES:
            break
    text = body[:ERROR_BODY_BYTES].decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    raise failure_of(response.status_code, response.headers, text, shown(url))


@contextmanager
def network_failures(url: str) -> Iterator[None]:
    """Turn what httpcore and httpx raise into `Unavailable` or `BadConfig`, without a chain that holds the request."""
    where = shown(url)
    try:
        yield
    except Overdue:
        raise TookTooLongToAnswer(f"{where} took too long to answer in full.", advice=_AGAIN) from None
    except (httpcore.TimeoutException, httpx.TimeoutException):
        raise Unavailable(f"{where} was silent for too long.", advice=_AGAIN) from None
    except (httpcore.ConnectError, httpx.ConnectError) as error:
        if "certificate" in str(error).lower():
            message = f"The TLS certificate of {where} cannot be trusted."
            advice = "Ask the server's owner to renew it; check the server's name."
        else:
            message, advice = f"{where} cannot be reached.", "Check the address; it is tried again later."
        raise Unavailable(message, advice=advice) from None
    except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise BadConfig(f"{where} cannot be asked for.", advice="Check the address.") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError, httpx.DecodingError):
        raise Unavailable(f"The connection to {where} broke off.", advice=_AGAIN) from None
