"""Environment in, typed settings out: the one place where an environment variable is read.

Whatever depends on the machine (folders, the database, the secret key, the shard) is decided here; no other
module looks at `os.environ` for a DATASENSE_ variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_SHARD = re.compile(r"(\d+)/(\d+)")


class Shard(BaseModel):
    """The part of all organisations that one code location serves: `index` counts from 0, of `count`."""

    model_config = ConfigDict(frozen=True)

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `i/n`, with i from 0 to n - 1.

        Raises:
            ValueError: the text is not of that form.
        """
        match = _SHARD.fullmatch(text.strip())
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(f"DATASENSE_SHARD is {text!r}; write i/n with i from 0 to n-1, for example 0/4")
        return cls(index=int(match[1]), count=int(match[2]))


def default_home() -> Path:
    """Where state lives when DATASENSE_HOME is not set: `.datasense/` in a checkout, else the user's data folder."""
    if (PROJECT_ROOT / "workspace.yaml").is_file():
        return PROJECT_ROOT / ".datasense"
    return Path(platformdirs.user_data_dir("datasense"))


class Settings(BaseSettings):
    """Settings of one process, from `DATASENSE_*` variables; frozen, and safe to print (secrets are masked)."""

    # built when settings are first read, and not by whoever only imports
    model_config = SettingsConfigDict(
        env_prefix="DATASENSE_", frozen=True, extra="ignore", env_ignore_empty=True, defer_build=True
    )

    env: Literal["development", "production"] = "development"
    log_format: Literal["json", "text"] | None = None
    home: Path = Field(default_factory=default_home)
    database_url: SecretStr | None = None
    storage_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    secret_key: SecretStr | None = None
    allow_private_addresses: bool = False
    http_timeout: float = Field(default=60.0, gt=0)
    longest_wait_seconds: float = Field(default=60.0, ge=0)
    files_root: Path | None = None
    dagster_home: Path | None = Field(default=None, validation_alias=AliasChoices("DAGSTER_HOME", "dagster_home"))
    shard: Annotated[Shard | None, NoDecode] = None
    jitter_minutes: float = Field(default=10.0, ge=0)
    recipe_patience_minutes: float = Field(default=60.0, ge=0)
    freshness_policies: int = Field(default=1000, ge=0)
    due_interval_seconds: int = Field(default=15, ge=1)
    recipes_interval_seconds: int = Field(default=30, ge=1)
    requests_interval_seconds: int = Field(default=10, ge=1)
    reload_interval_seconds: int = Field(default=30, ge=1)
    alerts_interval_seconds: int = Field(default=60, ge=1)
    min_free_memory_mb: int = Field(default=200, ge=0)
    min_free_disk_mb: int = Field(default=500, ge=0)
    no_room_wait_seconds: float = Field(default=120.0, gt=0)
    runs_kept_days: int = Field(default=30, ge=0)
    backfill_chunk: int = Field(default=31, ge=1)
    operator_contacts: SecretStr | None = None
    ui_url: str | None = None

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("shard", mode="before")
    @classmethod
    def _shard_from_text(cls, value: Any) -> Any:
        return Shard.parse(value) if isinstance(value, str) else value

    @property
    def is_production(self) -> bool:
        """Whether people depend on this platform: what is only good enough for a laptop is refused by the doctor."""
        return self.env == "production"

    @property
    def log_lines(self) -> Literal["json", "text"] | None:
        """The form of log lines; None: Dagster's own, which is left as it is."""
        return self.log_format or ("json" if self.is_production else None)

    @property
    def snapshot_path(self) -> Path:
        """The last good snapshot of the catalog, used when the catalog's database is down."""
        name = "snapshot.json" if self.shard is None else f"snapshot-{self.shard.index}-of-{self.shard.count}.json"
        return self.home / name

    @property
    def scratch_path(self) -> Path:
        """Folder for throwaway files of running loads; safe to delete when nothing runs."""
        return self.home / "scratch"


def read_environment(name: str) -> str | None:
    """The value of an environment variable that a secret reference names; None when it is unset or empty."""
    return os.environ.get(name) or None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Settings of this process, read once; tests call `get_settings.cache_clear()` after changing the environment."""
    return Settings()


def prefer_batched_events() -> None:
    """Have Dagster write the events of a partition range in batches and not one by one, unless the user said otherwise.

    A first load marks every partition there is; one insert each costs more than the load itself.
    """
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")


def prefer_seldom_freshness() -> None:
    """Have Dagster's daemon look at every asset's freshness each five minutes, unless the user said otherwise.

    Its own half minute takes 6 % of a core at 5,000 assets, also of those that have no policy.
    """
    os.environ.setdefault("FRESHNESS_DAEMON_INTERVAL_SECONDS", "300")


def set_environment(variables: Mapping[str, str]) -> None:
    """Set variables for this process and whatever it starts, and have the settings read anew (the demo's own way)."""
    os.environ.update(variables)
    get_settings.cache_clear()


@contextmanager
def environment_kept() -> Iterator[None]:
    """Whatever the block does to the environment is undone at its end."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)
