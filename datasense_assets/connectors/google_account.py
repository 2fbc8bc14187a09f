"""A Google service account: its JSON key read, a token fetched with it, and Google's refusals in plain words.

The token is asked for through our own HTTP client, not google-auth's, so that a `token_uri` in a user's key can lead
no further into the network than a source's address may. google-auth reads the key and signs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from google.auth import crypt, jwt

from datasense_assets.connectors.addresses import server_of, shown
from datasense_assets.connectors.authorization import header_value
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, ReadStats
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    OutOfQuota,
    ResourceGone,
    Throttled,
)
from datasense_assets.connectors.http import HttpClient

SCOPE = "https://www.googleapis.com/auth/spreadsheets.readonly"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  an address
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
QUOTA_SECONDS = 60.0  # Google counts reads by the minute and says no time to wait
_LIFETIME = 3600
_MARGIN = 120
_NEW_KEY = "Download a new JSON key of the service account and give the whole file."


@dataclass(frozen=True)
class ServiceAccount:
    """The parts of a key that are used; `signer` holds the private one and shows it to nobody."""

    email: str
    token_uri: str
    signer: Any

    @staticmethod
    def owner(text: str) -> tuple[str, str]:
        """The account's address and its project, as Google counts them; raises CredentialRefused as `from_key`."""
        key = _read_key(text)
        return key["client_email"], str(key.get("project_id") or key["client_email"].partition("@")[2])

    @classmethod
    def from_key(cls, text: str) -> ServiceAccount:
        """Read the JSON key.

        Raises:
            CredentialRefused: it is no service account's key; nothing of it is quoted.

        """
        key = _read_key(text)
        try:
            signer = crypt.RSASigner.from_service_account_info(key)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError):
            raise CredentialRefused("The private key in `service_account` is damaged.", advice=_NEW_KEY) from None
        return cls(key["client_email"], str(key.get("token_uri") or TOKEN_URI), signer)

    def assertion(self, scope: str = SCOPE) -> str:
        """A signed claim to that scope, good for an hour."""
        now = int(time.time())
        claims = {"iss": self.email, "aud": self.token_uri, "scope": scope, "iat": now, "exp": now + _LIFETIME}
        signed: bytes = jwt.encode(self.signer, claims)  # type: ignore[no-untyped-call]
        return signed.decode()


def _read_key(text: str) -> dict[str, Any]:
    try:
        key = json.loads(text)
    except ValueError:
        raise CredentialRefused("`service_account` is not JSON.", advice=_NEW_KEY) from None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise CredentialRefused("`service_account` is JSON, but no service account's key.", advice=_NEW_KEY)
    missing = [name for name in ("client_email", "private_key") if not isinstance(key.get(name), str)]
    if missing:
        raise CredentialRefused(f"`service_account` has no {' and no '.join(missing)}.", advice=_NEW_KEY)
    return key


def fetch_token(
    account: ServiceAccount, scope: str, policy: NetworkPolicy, stats: ReadStats, budget: CallBudget | None
) -> tuple[str, float]:
    """An access token for the scope and the seconds it lasts; raise SourceError."""
    where = shown(account.token_uri)
    assertion = account.assertion(scope)
    client = HttpClient(policy, stats, budget=budget)
    try:
        answer = client.post_form(account.token_uri, {"grant_type": GRANT, "assertion": assertion}, secret=assertion)
    except (BadConfig, CredentialRefused, AccessForbidden) as error:
        if not error.message.startswith(f"{where} refused") and not isinstance(error, AccessForbidden):
            raise
        raise CredentialRefused(
            f"Google refused the key of {account.email}. {error.message}",
            advice="Check that the key was not deleted and that this machine's clock is right; "
            "if needed, make a new key.",
        ) from None
    finally:
        client.close()
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str):
        raise BadData(f"{where} gave no token.", advice="Check `token_uri` in the service account's key.")
    lasts = answer.get("expires_in")
    return token, float(lasts) if isinstance(lasts, int | float) else float(_LIFETIME)


class GoogleApi:
    """GETs of one spreadsheet as a service account; a token is fetched when first needed and before it runs out."""

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
        self.account = account
        self._url = f"{root}/v4/spreadsheets/{spreadsheet}"
        self._name = f"The spreadsheet {spreadsheet}"
        self._policy, self._stats, self._budget = policy, stats, budget
        self._client: HttpClient | None = None
        self._until = 0.0

    def get(self, path: str, params: Sequence[tuple[str, str]]) -> Any:
        """The JSON object at the spreadsheet's address followed by `path`; raise SourceError in plain words."""
        client = self._authorized()
        with self._plain_words():
            answer = client.get_json(f"{self._url}{path}?{urlencode(params)}")
        if not isinstance(answer, dict):
            raise BadData(f"{shown(self._url)} answered with no object.", advice="Check `api_base_url`.")
        return answer

    def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _authorized(self) -> HttpClient:
        if self._client is None or time.monotonic() >= self._until:
            self.close()
            token, seconds = fetch_token(self.account, SCOPE, self._policy, self._stats, self._budget)
            self._until = time.monotonic() + max(0.0, seconds - _MARGIN)
            self._client = HttpClient(
                self._policy, self._stats, authorization=header_value("Bearer", token), budget=self._budget
            )
        return self._client

    @contextmanager
    def _plain_words(self) -> Iterator[None]:
        email = self.account.email
        share = f"Share the spreadsheet with {email} (Viewer is enough)."
        try:
            yield
        except OutOfQuota:
            raise
        except Throttled as error:
            if error.retry_after is None and self._budget is not None:
                self._budget.block(server_of(self._url), QUOTA_SECONDS)
            raise Throttled(
                "Google's quota of reads a minute is used up.",
                advice="It is tried again later.",
                retry_after=QUOTA_SECONDS if error.retry_after is None else error.retry_after,
            ) from None
        except AccessForbidden as error:
            if "has not been used" in error.message or "disabled" in error.message:
                raise AccessForbidden(
                    f"The Google Sheets API is not enabled in the project of {email}.",
                    advice="Enable it in the Google Cloud console (APIs & Services), then wait a few minutes.",
                ) from None
            raise AccessForbidden(f"{self._name} may not be read by {email}.", advice=share) from None
        except ResourceGone:
            raise ResourceGone(
                f"{self._name} is not there, or was deleted.",
                advice="Copy its address again into `spreadsheet`. " + share,
            ) from None
        except BadConfig as error:
            if "Unable to parse range" in error.message:
                raise ResourceGone(
                    f"{self._name} has lost a tab or range while it was read.", advice="Sync again."
                ) from None
            if "not supported for this document" in error.message:
                raise BadConfig(
                    f"{self._name} is an Excel file kept in Drive, not a Google Sheet.",
                    advice="Open it and choose File, Save as Google Sheets; give the new address.",
                ) from None
            raise
        except CredentialRefused:
            raise CredentialRefused(
                f"Google refused the token of {email}.", advice="Check that its key was not deleted or disabled."
            ) from None
