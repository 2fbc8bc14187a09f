"""Secrets: found where the reference says, encrypted under the newest key, never in a message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr, ValidationError
from sqlalchemy import Connection, text

from datasense_assets.catalog.apply import apply_manifest
from datasense_assets.catalog.credentials import (
    SecretMissing,
    SecretReference,
    encrypt,
    read_credentials,
    read_organization_secrets,
    resolve,
)
from datasense_assets.catalog.manifest import Manifest
from datasense_assets.settings import Settings


def test_a_secret_comes_from_variable_file_or_token(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "hunter2")
    (tmp_path / "token").write_text("hunter2\n")
    token = encrypt(SecretStr("hunter2"), settings)
    assert "hunter2" not in token
    for reference in (
        SecretReference(env="A_TOKEN"),
        SecretReference(file="token"),
        SecretReference(file=str(tmp_path / "token")),
        SecretReference(encrypted=token),
    ):
        value = resolve(reference, settings)
        assert value.get_secret_value() == "hunter2"
        assert "hunter2" not in f"{value} {value!r} {reference}"


@pytest.mark.parametrize("reference", [{"env": "NOT_SET"}, {"file": "nowhere"}, {"file": "empty"}, {"file": "binary"}])
def test_what_is_missing_is_named_with_what_to_do(
    reference: dict[str, str], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SecretMissing) as caught:
        resolve(SecretReference.model_validate(reference), settings)
    assert next(iter(reference.values())) in caught.value.message
    assert caught.value.advice


def test_old_keys_still_open_and_a_lost_key_says_so(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()

    def settings(keys: str) -> Settings:
        return Settings(home=tmp_path, secret_key=SecretStr(keys))

    reference = SecretReference(encrypted=encrypt("hunter2", settings(old)))
    assert resolve(reference, settings(f"{new}, {old}")).get_secret_value() == "hunter2"
    with pytest.raises(SecretMissing, match="DATASENSE_SECRET_KEY"):
        resolve(reference, settings(new))
    with pytest.raises(SecretMissing, match="no valid Fernet key") as caught:
        encrypt("x", settings("not-a-key"))
    assert "not-a-key" not in str(caught.value)


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from datasense_assets.settings import Settings;"
        "from datasense_assets.catalog.credentials import secret_keys;"
        "print(secret_keys(Settings(home=Path(sys.argv[1]), secret_key=None))[0])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    keys = {process.communicate(timeout=60)[0] for process in running}
    assert len(keys) == 1
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.parametrize(
    "bad", ["hunter2", {}, {"env": "A", "file": "b"}, {"env": ""}, {"value": "hunter2"}, {"env": 3}]
)
def test_a_reference_is_exactly_one_place(bad: object) -> None:
    with pytest.raises(ValidationError):
        SecretReference.model_validate(bad)


def test_references_are_read_from_the_catalog(connection: Connection, manifest: Manifest) -> None:
    apply_manifest(connection, manifest)
    source = connection.execute(text("SELECT id, org_id FROM datasense.sources WHERE slug = 'health-forms'")).one()
    assert read_credentials(connection, source.id) == {"token": SecretReference(env="CLEAN_WATER_KOBO_TOKEN")}
    secrets = read_organization_secrets(connection, source.org_id)
    assert secrets.contacts == (SecretReference(env="CLEAN_WATER_ALERTS"),)
    assert secrets.warehouse is None


@pytest.mark.parametrize(
    "reference",
    [
        {"env": "DATASENSE_SECRET_KEY"},
        {"env": "datasense_database_url"},
        {"file": "secret.key"},
        {"file": "x/../postgres.json"},
    ],
)
def test_the_platforms_own_secrets_are_no_sources_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: dict[str, str]
) -> None:
    monkeypatch.setenv("DATASENSE_SECRET_KEY", "very-private")
    (tmp_path / "secret.key").write_text("very-private")
    (tmp_path / "postgres.json").write_text("very-private")
    (tmp_path / "x").mkdir()
    with pytest.raises(SecretMissing, match="of the platform itself"):
        resolve(SecretReference.model_validate(reference), Settings(home=tmp_path))
