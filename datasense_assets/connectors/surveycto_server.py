"""What all connectors of a SurveyCTO server share: one request at a time, and what a refusal means."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.base import CallBudget, NetworkPolicy, Quota
from datasense_assets.connectors.errors import AccessForbidden, CredentialRefused, ResourceGone

# One request at a time a server, whoever asks; a pause that it asks for is for all of them too.
ONE_AT_A_TIME = Quota("surveycto.server", one_at_a_time=True)
_BUSY: dict[str, threading.Lock] = {}


@contextmanager
def one_at_a_time(server: str, budget: CallBudget | None) -> Iterator[None]:
    """Hold the right to ask the server: a shared budget sees to it for all processes, else this process does."""
    if budget is not None:
        yield
        return
    with _BUSY.setdefault(server, threading.Lock()):
        yield


@contextmanager
def temporary_file(policy: NetworkPolicy, name: str) -> Iterator[Path]:
    """A path for one answer, gone when it has been read."""
    if policy.scratch is not None:
        policy.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="surveycto-", dir=policy.scratch) as folder:
        yield Path(folder) / name


@contextmanager
def refusals(server: str, what: str, gone: str) -> Iterator[None]:
    """Say what a refusal means: `what` was asked for, and `gone` helps where it is not there."""
    try:
        yield
    except ResourceGone:
        raise ResourceGone(f"The {what} is not on {shown(server)}.", advice=gone) from None
    except CredentialRefused as refused:
        raise CredentialRefused(
            refused.message, advice="Check that user name and password still log in to SurveyCTO's console."
        ) from None
    except AccessForbidden as refused:
        raise AccessForbidden(
            refused.message,
            advice="In SurveyCTO, give this user a role that allows server API access and may download the data.",
        ) from None
