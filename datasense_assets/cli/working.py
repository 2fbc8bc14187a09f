"""`datasense worker` executes runs in processes that are there already; `datasense up` runs the whole platform."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.errors import InputWrong, WorldFailed
from datasense_assets.cli.output import JsonFlag, print_json, print_table, say, warn

if TYPE_CHECKING:
    from datasense_assets.running.topology import Topology
    from datasense_assets.settings import Settings

_WORDS = {"sync": "scheduled"}
# As many at once as dagster.yaml lets run: 8 in all, 5 of them scheduled, one a backfill.
# of sockaddr_un, less its last byte
_LONGEST_SOCKET = 107
_SLOTS = {"scheduled": 5, "interactive": 2, "transform": 2, "backfill": 1}


def worker(
    lanes: Annotated[
        list[str],
        typer.Option(
            "--lane",
            metavar="LANE[=SLOTS]",
            help="interactive, transform, scheduled (or sync), backfill; can be given more than once.",
            show_default=False,
        ),
    ],
    slots: Annotated[int, typer.Option(min=1, max=500, help="Runs at once of each lane that names no number.")] = 4,
    name: Annotated[
        str | None, typer.Option("-n", "--name", help="Of the worker; no two may share one.", show_default="made up")
    ] = None,
    recycle_after: Annotated[
        int, typer.Option(min=1, help="Runs after which a process is replaced by a new one.")
    ] = 200,
    max_memory_mb: Annotated[
        int, typer.Option(min=250, help="A process that is larger after a run is replaced by a new one.")
    ] = 600,
    hard_limit_hours: Annotated[
        float, typer.Option(min=0.1, help="A process is killed that is busy with one run for so long.")
    ] = 6.0,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Execute runs until told to stop, in processes that imported everything once: `worker --lane sync --slots 8`.

    SIGTERM or Ctrl-C takes no new runs and ends when those that go on have ended; SIGQUIT ends at once, and runs that
    are lost are run again elsewhere.
    """
    from datasense_assets.running.instance import ensure_dagster_home
    from datasense_assets.running.warm.broker import require_redis
    from datasense_assets.running.warm.worker import WorkerPlan, default_name, serve
    from datasense_assets.settings import get_settings

    taken = lanes_and_slots(lanes, slots)
    if log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise InputWrong(f"There is no log level {log_level!r}.", advice="Use DEBUG, INFO, WARNING or ERROR.")
    require_redis(get_settings())
    ensure_dagster_home()
    tell_of_lower_limits(taken)
    plan = WorkerPlan(
        slots=taken,
        name=name or default_name(taken),
        recycle_after=recycle_after,
        max_memory_mb=max_memory_mb,
        hard_limit_hours=hard_limit_hours,
    )
    say(f"{plan.name}: {', '.join(f'{count} {lane}' for lane, count in taken.items())} at once.")
    raise typer.Exit(serve(plan, log_level=log_level.upper()))


def lanes_and_slots(words: list[str], slots: int) -> dict[str, int]:
    """`scheduled`, `sync=8`: slots by lane, in the order given.

    Raises:
        InputWrong: there is no such lane, one comes twice, or the number is none.
    """
    from datasense_assets.running.tags import Lane

    known = [lane.value for lane in Lane]
    taken: dict[str, int] = {}
    for word in words:
        lane, given, number = word.partition("=")
        lane = _WORDS.get(lane, lane)
        if lane not in known:
            near = difflib.get_close_matches(lane, [*known, *_WORDS], n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(known)}."
            raise InputWrong(f"There is no lane {lane!r}.", advice=hint)
        if lane in taken:
            raise InputWrong(f"The lane {lane} is given twice.", advice="Give each lane once, as LANE=SLOTS.")
        if given and not (number.isdecimal() and 1 <= int(number) <= 500):
            raise InputWrong(f"{number!r} is no number of runs.", advice="Write LANE=SLOTS with 1 to 500 slots.")
        taken[lane] = int(number) if given else slots
    return taken


def tell_of_lower_limits(slots: dict[str, int]) -> None:
    """Warn where the queue will never give the workers as many runs as they have slots for."""
    from datasense_assets.catalog.state import read_run_limits
    from datasense_assets.cli.address import open_catalog
    from datasense_assets.cli.here import instance_for_runs
    from datasense_assets.running import limits as lim
    from datasense_assets.running.coordinator import TaggingRunCoordinator

    with open_catalog() as catalog, instance_for_runs() as instance:
        coordinator = instance.run_coordinator
        if not isinstance(coordinator, TaggingRunCoordinator):
            return
        with catalog.connect() as connection:
            held = lim.with_set(coordinator.default_limits, read_run_limits(connection))
    for lane, count in slots.items():
        limit = held.of("lane", lane)
        if limit is not None and limit < count:
            warn(
                f"The lane {lane} may have {limit} runs at once, and this worker has {count} slots: raise the limit"
                f" with `datasense limits set lane {lane} {count}`."
            )
    if 0 <= held.total < sum(slots.values()):
        total = sum(slots.values())
        warn(
            f"All lanes together may have {held.total} runs at once, and this worker has {total} slots: raise the limit"
            f" with `datasense limits set total {total}`."
        )


def up(
    lanes: Annotated[
        list[str] | None,
        typer.Option("--lane", metavar="LANE=SLOTS", help="Warm workers' runs at once, by lane.", show_default="all"),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="No warm workers and no Redis: a process is started for each run.")
    ] = False,
    separate: Annotated[bool, typer.Option("--separate", help="A worker a lane, each with its own memory.")] = False,
    host: Annotated[str, typer.Option("-h", "--host", help="Where the web UI listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("-p", "--port", min=1, max=65535, help="Port of the web UI.")] = 3000,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that runs have to end when all is stopped; the rest is run again.")
    ] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be started, and start nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the whole platform on this machine: code server, warm workers, webserver and daemon, until told to stop.

    Ctrl-C or SIGTERM stops all of it in order; what dies is started again. Redis is the one of DATASENSE_REDIS_URL,
    else one of its own, where redis-server is installed.
    """
    from datasense_assets.running.instance import ensure_dagster_home
    from datasense_assets.running.processes import PartFailed, ProcessTree
    from datasense_assets.running.topology import is_free
    from datasense_assets.settings import get_settings, prefer_seldom_freshness, set_environment

    if cold and lanes:
        raise InputWrong("--cold starts no workers, so that --lane means nothing.", advice="Leave one of them out.")
    slots = {} if cold else lanes_and_slots(lanes, 4) if lanes else dict(_SLOTS)
    topology = _topology(get_settings(), slots, separate=separate, host=host, port=port, grace=grace)
    if dry_run:
        _show_plan(topology, as_json=as_json)
        return
    if not is_free(host, port):
        raise WorldFailed(f"Something listens on {host}:{port} already.", advice="Stop it, or choose another --port.")
    if topology.redis_socket is not None:
        set_environment({"DATASENSE_REDIS_URL": f"unix://{topology.redis_socket}"})
    if cold:
        set_environment({"DATASENSE_REDIS_URL": ""})
    ensure_dagster_home()
    prefer_seldom_freshness()
    topology.write()
    _prepare_database()
    _refuse_what_cannot_hold(get_settings())
    logs = topology.folder / "logs"

    def ready() -> None:
        say(f"Up: {topology.url}   logs: {logs}   stop: Ctrl-C")
        if as_json:
            print_json(topology.document())

    say(f"Starting {', '.join(part.name for part in topology.parts())}.")
    try:
        ProcessTree(topology.parts(), logs, say).run(ready)
    except PartFailed as failure:
        raise WorldFailed(failure.message, advice=failure.advice) from None
    say("Stopped.")


def _topology(
    settings: Settings, slots: dict[str, int], *, separate: bool, host: str, port: int, grace: float
) -> Topology:
    """The plan, with a Redis of its own where none is given.

    Raises:
        RedisUnavailable: the given one does not answer.
        InputWrong: none is given, and there is no redis-server to start.
    """
    from datasense_assets.running.topology import Topology, free_port
    from datasense_assets.running.warm.broker import require_redis

    folder = settings.home / "up"
    socket: Path | None = None
    program: str | None = None
    if slots and settings.redis_url is not None:
        require_redis(settings)
    elif slots:
        program = shutil.which("redis-server")
        if program is None:
            raise InputWrong(
                "Warm workers get their runs over Redis; DATASENSE_REDIS_URL is not set, and no redis-server is here.",
                advice="Set it, or `apt-get install redis-server`, or run without warm workers: --cold.",
            )
        socket = folder / "redis.sock"
        if len(str(socket)) > _LONGEST_SOCKET:
            raise InputWrong(
                f"{socket} is too long for the address of a socket.", advice="Set DATASENSE_HOME to a shorter path."
            )
    return Topology(
        folder=folder,
        host=host,
        port=port,
        code_port=free_port(),
        slots=slots,
        separate=separate,
        grace=grace,
        redis_socket=socket,
        redis_program=program,
    )


def _prepare_database() -> None:
    """Start the embedded server where it is the one, and make the catalog and Dagster's tables: once, not in a race."""
    from datasense_assets.cli.address import open_catalog
    from datasense_assets.cli.here import instance_for_runs

    with open_catalog(), instance_for_runs():
        return


def _refuse_what_cannot_hold(settings: Settings) -> None:
    """In production: nothing is started where the doctor says that it cannot hold.

    Raises:
        InputWrong: with each thing and its sum.
    """
    if not settings.is_production:
        return
    from datasense_assets.catalog.models import Problem
    from datasense_assets.cli.here import instance_for_runs
    from datasense_assets.operations.doctor import Level, against_starting, examine
    from datasense_assets.running.owners import catalog_engine

    with instance_for_runs() as instance:
        said = against_starting(examine(catalog_engine, lambda: instance, settings))
    found = [each for each in said if each.level is Level.WRONG]
    if found:
        problems = [Problem(path=each.name, message=" ".join((each.said, *each.sums)), fix=each.fix) for each in found]
        raise InputWrong("What is set cannot hold.", advice="See `datasense doctor`.", problems=problems)


def _show_plan(topology: Topology, *, as_json: bool) -> None:
    if as_json:
        print_json(topology.document())
        return
    print_table(("process", "command"), [(part.name, " ".join(part.command)) for part in topology.parts()])
    say(f"Web UI: {topology.url}   logs: {topology.folder / 'logs'}")
