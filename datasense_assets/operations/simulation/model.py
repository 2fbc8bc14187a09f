"""What is simulated: organisations and their sources, costs of a sync, machines, and limits. Plain values.

The costs are measured ones (docs/performance.md); a platform that has run a while has its own (`costs_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasense_assets.catalog.state import Cost

# Of all sources: every sixth each quarter of an hour, a third hourly, the others daily. By seconds between two syncs.
SCHEDULES: tuple[tuple[float, float], ...] = ((1 / 6, 900.0), (1 / 3, 3600.0), (1 / 2, 86400.0))
# A source is due so long after its slot at most, and no longer than a tenth of its interval (DATASENSE_JITTER_MINUTES).
MOST_JITTER = 600.0


@dataclass(frozen=True)
class SyncCosts:
    """One sync, in seconds: CPU of the worker, of Postgres, and of daemon and code server; `api_seconds` is waiting for
    the source's answers, during which no CPU is used, `api_spread` the share of it by which one differs from the other
    at most; `api_calls` are counted by quotas. The defaults were measured (docs/performance.md).
    """

    worker_cpu: float = 0.37
    database_cpu: float = 0.15
    daemon_cpu: float = 0.19
    api_seconds: float = 2.0
    api_calls: float = 3.0
    api_spread: float = 0.5


@dataclass(frozen=True)
class Machines:
    """Where it runs: worker machines of `cores` with `slots` syncs at once each; Postgres and the daemon on their own.

    With `shared` everything is on the first worker machine, as on one server.
    """

    workers: int = 1
    cores: int = 2
    slots: int = 8
    database_cores: int = 2
    shared: bool = True


@dataclass(frozen=True)
class Quota:
    """Calls a minute that one key may make: all that share a service account, a project, a token on a server."""

    name: str
    calls_a_minute: float
    orgs_a_key: int
    share_of_sources: float


@dataclass(frozen=True)
class Limits:
    """What the queue allows; `at_once` None: as many as there are slots. Of the due sensor its interval, the runs that
    it asks for a tick, and how many may wait.
    """

    at_once: int | None = None
    an_org: int = 3
    a_host: int | None = 3
    sensor_seconds: float = 10.0
    asked_a_tick: int = 50
    most_waiting: int = 100
    dequeue_seconds: float = 2.0
    # runs a minute that one daemon hands to workers, measured 300 to 390 and 870 with eight threads
    dequeued_a_minute: float = 390.0


# One Google Cloud project for the whole platform, one service account an organisation; a KoboToolbox token each. Of a
# quota 87 % can be used (docs/decisions/quotas.md).
QUOTAS = (
    Quota("Google Sheets, reads of the one project", 300 * 0.87, 0, 0.2),
    Quota("Google Sheets, reads of a service account", 60 * 0.87, 1, 0.2),
    Quota("KoboToolbox, calls of a token", 240 * 0.87, 1, 0.5),
)


@dataclass(frozen=True)
class Scenario:
    """One platform to play. `syncs_a_minute`: so many, evenly; None: what schedules and jitter give, from the top of an
    hour on. `together`: all of a minute at its beginning, as cron schedules have them. In time is what begins within
    `late_seconds` of its slot.
    """

    organizations: int = 1000
    sources_an_org: int = 5
    syncs_a_minute: float | None = None
    minutes: float = 60.0
    costs: SyncCosts = field(default_factory=SyncCosts)
    machines: Machines = field(default_factory=Machines)
    limits: Limits = field(default_factory=Limits)
    quotas: Sequence[Quota] = QUOTAS
    orgs_a_host: int = 1
    late_seconds: float = 300.0
    together: bool = False
    seed: int = 1

    @property
    def sources(self) -> int:
        """All sources."""
        return self.organizations * self.sources_an_org

    @property
    def rate(self) -> float:
        """Syncs a minute, on average."""
        if self.syncs_a_minute is not None:
            return self.syncs_a_minute
        return sum(share * self.sources * 60 / every for share, every in SCHEDULES)

    @property
    def peak_rate(self) -> float:
        """Syncs a minute that have to begin from the top of the hour on for none to be too late."""
        if self.syncs_a_minute is not None:
            return self.syncs_a_minute
        spreads = [(share, min(every, MOST_JITTER)) for share, every in SCHEDULES if every <= 3600]
        return max(
            sum(share for share, spread in spreads if spread <= until) * self.sources * 60 / (until + self.late_seconds)
            for _, until in spreads
        )


def costs_of(rows: Sequence[Cost], given: SyncCosts) -> SyncCosts | None:
    """What a sync of this platform costs its workers, from what its runs have cost; None where no source has run.

    What the catalog does not know (Postgres, the daemon) is as in `given`.
    """
    sources = [row for row in rows if row.kind == "source" and row.runs]
    runs = sum(row.runs for row in sources)
    if not runs:
        return None
    cpu = sum(row.cpu_seconds for row in sources) / runs
    wall = sum(row.wall_seconds for row in sources) / runs
    throttled = sum(row.throttled_seconds for row in sources) / runs
    return SyncCosts(
        worker_cpu=cpu,
        database_cpu=given.database_cpu,
        daemon_cpu=given.daemon_cpu,
        api_seconds=max(0.0, wall - cpu - given.database_cpu - throttled),
        api_calls=sum(row.api_calls for row in sources) / runs,
        api_spread=given.api_spread,
    )
