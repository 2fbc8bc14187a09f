"""Secrets: references as the catalog holds them, their values as a run needs them, and the key that keeps some of them.

A value exists only as `SecretStr`, inside a run; no message names one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.catalog.models import Frozen
from datasense_assets.settings import Settings, read_environment

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet
    from sqlalchemy import Connection

_KINDS = ("env", "file", "encrypted")
_HOW = "Write {env: NAME_OF_VARIABLE} or {file: PATH}."


class SecretMissing(Exception):
    """A secret that a reference names cannot be had; the message names the variable or file, never a value."""

    def __init__(self, message: str, *, advice: str) -> None:
        """Keep what happened and what helps apart."""
        super().__init__(f"{message} {advice}")
        self.message = message
        self.advice = advice


class SecretReference(Frozen):
    """Where a secret is: exactly one of an environment variable, a file, or a Fernet token made by `encrypt`.

    `expires`: the last day on which it can be used, where somebody knows it.
    """

    env: str | None = None
    file: str | None = None
    encrypted: str | None = None
    expires: date | None = None

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, data: Any) -> Any:
        if isinstance(data, SecretReference):
            return data
        if not isinstance(data, dict):
            raise PydanticCustomError("plain_secret", "holds a secret in plain text", {"fix": _HOW})
        given = [kind for kind in _KINDS if data.get(kind) is not None]
        if set(data) - {*_KINDS, "expires"} or len(given) != 1:
            raise PydanticCustomError("secret_kind", "must name one secret, by env, file or encrypted", {"fix": _HOW})
        value = data[given[0]]
        if not isinstance(value, str) or not value.strip():
            raise PydanticCustomError("secret_empty", "names no secret: the text is missing", {"fix": _HOW})
        return data

    def stored(self) -> dict[str, str]:
        """The reference as it stands in the catalog and in a manifest."""
        reference = {kind: value for kind in _KINDS if (value := getattr(self, kind)) is not None}
        return reference if self.expires is None else {**reference, "expires": self.expires.isoformat()}


_OWN_VARIABLES = ("DATASENSE_", "DAGSTER_")


def resolve(reference: SecretReference, settings: Settings) -> SecretStr:
    """The secret's value; line ends at the end of a file are no part of it.

    Raises:
        SecretMissing: the variable is not set, the file cannot be read or is empty, or no key opens the token.

    """
    _refuse_own(reference, settings)
    if reference.env is not None:
        value = read_environment(reference.env)
        if value is None:
            raise SecretMissing(
                f"The environment variable {reference.env} is not set.",
                advice=f"Set {reference.env} where runs are executed, then try again.",
            )
        return SecretStr(value)
    if reference.file is not None:
        return _from_file(settings.home / reference.file)
    return decrypt(reference.encrypted or "", settings)


def _refuse_own(reference: SecretReference, settings: Settings) -> None:
    """A tenant's credential is sent to a server of the tenant's choice: the platform's own secrets may not be one."""
    named = reference.env or ""
    file = None if reference.file is None else (settings.home / reference.file).resolve()
    if named.upper().startswith(_OWN_VARIABLES) or (file is not None and file in _own_files(settings)):
        raise SecretMissing(
            f"{named or reference.file} is a secret of the platform itself and no credential of a source.",
            advice="Name a variable or a file that holds the source's own credential.",
        )


def _own_files(settings: Settings) -> set[Path]:
    return {(settings.home / name).resolve() for name in ("secret.key", "postgres.json")}


def _from_file(path: Path) -> SecretStr:
    try:
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SecretMissing(
            f"The secret file {path} cannot be read: {reason}.",
            advice="Put the file where runs are executed, readable for the user that executes them.",
        ) from None
    if not value:
        raise SecretMissing(f"The secret file {path} is empty.", advice="Write the secret into it.")
    return SecretStr(value)


def encrypt(value: SecretStr | str, settings: Settings) -> str:
    """The value as a Fernet token under the newest key, fit for `{"encrypted": ...}`."""
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    return fernet(secret_keys(settings)).encrypt(plain.encode()).decode()


def decrypt(token: str, settings: Settings) -> SecretStr:
    """The value inside a token made by `encrypt`, with any of the keys.

    Raises:
        SecretMissing: no key opens it.

    """
    from cryptography.fernet import InvalidToken

    try:
        return SecretStr(fernet(secret_keys(settings)).decrypt(token.encode()).decode())
    except InvalidToken:
        raise SecretMissing(
            "A secret kept in the catalog was encrypted with a key that is not here.",
            advice="Add that key to DATASENSE_SECRET_KEY (newest first, by commas), or give the secret again.",
        ) from None


def opens(token: str, keys: Iterable[str]) -> bool:
    """Whether one of the keys opens the token."""
    from cryptography.fernet import InvalidToken

    try:
        fernet(keys).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


def secret_keys(settings: Settings) -> tuple[str, ...]:
    """Fernet keys, newest first: of DATASENSE_SECRET_KEY, else of a key file in DATASENSE_HOME, made on first need."""
    given = _keys_of_file(key_file(settings)) if settings.secret_key is None else settings.secret_key.get_secret_value()
    return tuple(key.strip() for key in given.split(",") if key.strip())


def key_file(settings: Settings) -> Path:
    """Where keys are that DATASENSE_SECRET_KEY does not hold."""
    return settings.home / "secret.key"


def _keys_of_file(path: Path) -> str:
    if not path.exists():
        from cryptography.fernet import Fernet

        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(Fernet.generate_key())
        # A link never replaces what is there: of several processes, one key wins and all use it.
        with suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    return path.read_text(encoding="ascii").strip()


def fernet(keys: Iterable[str]) -> MultiFernet:
    """What encrypts with the first of the keys and opens with any.

    Raises:
        SecretMissing: one of them is no Fernet key, or there is none.
    """
    from cryptography.fernet import Fernet, MultiFernet

    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise SecretMissing(
            "DATASENSE_SECRET_KEY holds no valid Fernet key.",
            advice="Make one with: python -c 'from cryptography.fernet import Fernet as F; print(F.generate_key())'.",
        ) from None


def read_credentials(connection: Connection, source_id: int) -> dict[str, SecretReference]:
    """The source's credentials by name, as references."""
    from sqlalchemy import select

    from datasense_assets.catalog.tables import credentials

    rows = connection.execute(
        select(credentials.c.name, credentials.c.reference)
        .where(credentials.c.source_id == source_id)
        .order_by(credentials.c.name)
    )
    return {row.name: SecretReference.model_validate(row.reference) for row in rows}


class OrganizationSecrets(Frozen):
    """References that belong to an organisation: whom to alert, and its own warehouse (None: the platform's)."""

    contacts: tuple[SecretReference, ...] = ()
    warehouse: SecretReference | None = None


def read_organization_secrets(connection: Connection, org_id: int) -> OrganizationSecrets:
    """The organisation's references."""
    from sqlalchemy import select

    from datasense_assets.catalog.tables import organizations

    row = connection.execute(
        select(organizations.c.contacts, organizations.c.warehouse).where(organizations.c.id == org_id)
    ).one()
    return OrganizationSecrets.model_validate({"contacts": row.contacts, "warehouse": row.warehouse})
