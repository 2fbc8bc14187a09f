"""Changing the key of the secrets in the catalog: each is encrypted anew with the newest key, a few rows at a time.

A secret opens with any of the keys that are set, so that everything runs on meanwhile, and whoever is killed leaves
each secret whole: under the old key, or under the new one. The next time takes the rest.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from datasense_assets.catalog.credentials import opens, secret_keys
from datasense_assets.settings import Settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet
    from sqlalchemy import Engine

_BATCH = 100
_SAME = "SET LOCAL datasense.same_secret = 'yes'"


@dataclass(frozen=True)
class _Place:
    """Where secrets are: how rows after an id are read and locked, and how a row is written. `secrets` is JSON."""

    what: str
    read: str
    write: str


_PLACES = (
    _Place(
        "credential",
        "SELECT c.id, o.slug || '/' || s.slug || ' ' || c.name AS name, c.reference AS secrets "
        "FROM datasense.credentials c JOIN datasense.sources s ON s.id = c.source_id "
        "JOIN datasense.organizations o ON o.id = c.org_id "
        "WHERE c.id > :after AND c.reference ? 'encrypted' ORDER BY c.id LIMIT :limit FOR UPDATE OF c",
        "UPDATE datasense.credentials SET reference = CAST(:secrets AS jsonb) WHERE id = :id",
    ),
    _Place(
        "warehouse",
        "SELECT id, slug AS name, warehouse AS secrets FROM datasense.organizations "
        "WHERE id > :after AND warehouse ? 'encrypted' ORDER BY id LIMIT :limit FOR UPDATE",
        "UPDATE datasense.organizations SET warehouse = CAST(:secrets AS jsonb) WHERE id = :id",
    ),
    _Place(
        "contacts",
        "SELECT id, slug AS name, contacts AS secrets FROM datasense.organizations "
        "WHERE id > :after AND contacts::text LIKE '%\"encrypted\"%' ORDER BY id LIMIT :limit FOR UPDATE",
        "UPDATE datasense.organizations SET contacts = CAST(:secrets AS jsonb) WHERE id = :id",
    ),
    _Place(
        "role",
        "SELECT r.org_id AS id, o.slug AS name, to_jsonb(r.password_encrypted) AS secrets FROM datasense.org_roles r "
        "JOIN datasense.organizations o ON o.id = r.org_id WHERE r.org_id > :after ORDER BY r.org_id LIMIT :limit "
        "FOR UPDATE OF r",
        "UPDATE datasense.org_roles SET password_encrypted = CAST(:secrets AS jsonb) #>> '{}' WHERE org_id = :id",
    ),
)


@dataclass(frozen=True)
class Rotation:
    """How many secrets were (or with a dry run would be) encrypted anew, were under the newest key already, and the
    names of those that no key opens: they are left as they are.
    """

    rotated: dict[str, int]
    current: int
    lost: tuple[str, ...]


@dataclass(frozen=True)
class KeyUse:
    """How many secrets open with the newest key, only with an older one, and with none that is here."""

    newest: int
    older: int
    lost: tuple[str, ...]


def new_key() -> str:
    """A new Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


def key_use(connection: Connection, settings: Settings) -> KeyUse:
    """Look at every secret in the catalog; nothing is changed, and no row stays locked."""
    keys = secret_keys(settings)
    newest = older = 0
    lost = []
    for place in _PLACES:
        for row in connection.execute(text(_unlocked(place)), {"after": 0, "limit": None}).mappings():
            for token in _tokens(row["secrets"]):
                if opens(token, keys[:1]):
                    newest += 1
                elif opens(token, keys):
                    older += 1
                else:
                    lost.append(f"{place.what} of {row['name']}")
    return KeyUse(newest, older, tuple(lost))


def rotate(
    catalog: Engine, settings: Settings, *, dry_run: bool = False, told: Callable[[str, int], None] | None = None
) -> Rotation:
    """Encrypt every secret in the catalog with the newest key; `told` hears of each batch.

    Raises:
        SecretMissing: no valid key is set.
    """
    keys = secret_keys(settings)
    newest = _fernet(keys)
    rotated: Counter[str] = Counter()
    current, lost = 0, []
    for place in _PLACES:
        for connection, rows in _batches(catalog, place, dry_run=dry_run):
            for row in rows:
                tokens = _tokens(row["secrets"])
                stale = [token for token in tokens if not opens(token, keys[:1])]
                gone = [token for token in stale if not opens(token, keys)]
                current += len(tokens) - len(stale)
                lost += [f"{place.what} of {row['name']}"] * len(gone)
                again = {token: newest.rotate(token.encode()).decode() for token in stale if token not in gone}
                rotated[place.what] += len(again)
                if again and not dry_run:
                    secrets = json.dumps(_replaced(row["secrets"], again))
                    connection.execute(text(place.write), {"id": row["id"], "secrets": secrets})
            if told is not None:
                told(place.what, rotated[place.what])
    return Rotation(dict(rotated), current, tuple(lost))


def _batches(catalog: Engine, place: _Place, *, dry_run: bool) -> Iterator[tuple[Connection, Sequence[Any]]]:
    """Rows by ids, each batch in a transaction of its own that ends when the next one is asked for."""
    after = 0
    while True:
        with catalog.begin() as connection:
            connection.execute(text(_SAME))
            query = _unlocked(place) if dry_run else place.read
            rows = connection.execute(text(query), {"after": after, "limit": _BATCH}).mappings().all()
            if not rows:
                return
            yield connection, rows
            after = rows[-1]["id"]


def _unlocked(place: _Place) -> str:
    return place.read.partition(" FOR UPDATE")[0]


def _tokens(secrets: Any) -> list[str]:
    """Tokens in a reference, a list of references, or a bare token."""
    if isinstance(secrets, str):
        return [secrets]
    references = secrets if isinstance(secrets, list) else [secrets]
    return [each["encrypted"] for each in references if isinstance(each, dict) and each.get("encrypted")]


def _replaced(secrets: Any, again: dict[str, str]) -> Any:
    if isinstance(secrets, str):
        return again[secrets]
    if isinstance(secrets, list):
        return [_replaced(each, again) for each in secrets]
    if isinstance(secrets, dict) and secrets.get("encrypted") in again:
        return {**secrets, "encrypted": again[secrets["encrypted"]]}
    return secrets


def _fernet(keys: Sequence[str]) -> MultiFernet:
    from datasense_assets.catalog.credentials import fernet

    return fernet(keys)


def write_key_file(path: Path, keys: Sequence[str]) -> None:
    """Put these keys, newest first, in the place of the key file, at once and readable by its owner alone."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(",".join(keys))
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        known = path.stat()
        if os.geteuid() == 0:
            os.chown(made, known.st_uid, known.st_gid)
    made.replace(path)
