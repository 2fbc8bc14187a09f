"""`datasense sync`: sources loaded through the run queue, or here and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from datasense_assets.cli.address import Address, find_source, find_table, open_catalog, read_organization
from datasense_assets.cli.asking import NO_DAEMON, NO_DAEMON_ADVICE, daemon_is_alive, wait_for
from datasense_assets.cli.errors import InputWrong, WorldFailed, explain
from datasense_assets.cli.here import instance_for_runs, run_here
from datasense_assets.cli.outcomes import Outcome, exit_code, print_outcomes
from datasense_assets.cli.output import JsonFlag, Progress, progress, say, warn
from datasense_assets.cli.pausing import person

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Engine

    from datasense_assets.catalog.models import Organization, Source
    from datasense_assets.running.graph_index import SourceEntry

_FORM = "ORG[/SOURCE[/TABLE]]"


@dataclass(frozen=True)
class Wish:
    """What to load of a source: `tables` () for all; `partitions` first and last key, None for what is new; `full`."""

    source: Source
    tables: tuple[str, ...] = ()
    partitions: tuple[str, str] | None = None
    full: bool = False

    @property
    def lane(self) -> str:
        """Of the run queue: a range is a backfill, and lets everybody else pass."""
        return "interactive" if self.partitions is None or len(set(self.partitions)) == 1 else "backfill"


def sync(
    what: Annotated[
        str, typer.Argument(metavar=_FORM, help="All sources of an organisation, one, or one table of it.")
    ],
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="K", help="Load exactly this partition, for example 2026-01-31."),
    ] = None,
    partition_range: Annotated[
        str | None, typer.Option("--range", metavar="A...B", help="Load these partitions, A and B included.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read the whole history again, edits included.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show what came of it.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Run here and now, in this process.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Load what is new of a source, through the run queue's interactive lane.

    Without a partition a sync is live: it reads what came since the last one. A partition or a range reads exactly that
    stretch of time again; a range goes by the backfill lane, a long one in several runs, each of which stays done. A
    source that fails does not stop the others.
    """
    address = Address.parse(what, parts=3, form=_FORM)
    span = asked_partitions(partition, partition_range, full=full)
    with open_catalog() as catalog:
        with catalog.connect() as connection:
            org = read_organization(connection, address.org)
        wishes = _wishes(org, address, span, full=full)
        with instance_for_runs() as instance:
            if local:
                outcomes = sync_here(catalog, instance, org, wishes)
                daemon = None
            else:
                outcomes, daemon = _through_queue(catalog, instance, org, wishes, wait=wait)
    print_outcomes(outcomes, as_json=as_json, **({} if daemon is None else {"daemon_alive": daemon}))
    raise typer.Exit(exit_code(outcomes))


def asked_partitions(partition: str | None, partition_range: str | None, *, full: bool) -> tuple[str, str] | None:
    """First and last partition of the options; None where neither is given.

    Raises:
        InputWrong: they contradict each other, or the range is not of the form A...B.

    """
    if sum((partition is not None, partition_range is not None, full)) > 1:
        raise InputWrong(
            "--partition, --range and --full exclude each other.",
            advice="--full reads the whole history; a partition or a range reads a part of it.",
        )
    if partition is not None:
        return partition, partition
    if partition_range is None:
        return None
    first, dots, last = (part.strip() for part in partition_range.partition("..."))
    if not (first and dots and last):
        raise InputWrong(
            f"{partition_range!r} is no range of partitions.",
            advice="Write A...B, for example 2026-01-01...2026-01-31.",
        )
    return first, last


def _wishes(org: Organization, address: Address, span: tuple[str, str] | None, *, full: bool) -> list[Wish]:
    from datasense_assets.connectors import problem_with
    from datasense_assets.running.upstream import in_order_of_checks

    if address.name is not None:
        source = find_source(org, address.name)
        problem = problem_with(source.connector)
        if problem is not None:
            raise InputWrong(f"{org.slug}/{source.slug} cannot be loaded: {problem.message}", advice=problem.fix or "")
        tables = (find_table(org, source, address.table).slug,) if address.table is not None else ()
        _check_partitions(org, source, span)
        return [Wish(source, tables, span, full)]
    for row in org.invalid:
        if row.kind == "source":
            said = " ".join(str(problem) for problem in row.problems)
            warn(f"{org.slug}/{row.slug} is left out, for it cannot be used as it is stored: {said}")
    wishes = []
    for source in in_order_of_checks(org.sources):
        problem = problem_with(source.connector)
        if problem is not None:
            warn(f"{org.slug}/{source.slug} is left out: {problem.message} {problem.fix}")
            continue
        if span is not None and not has_history(source):
            warn(f"{org.slug}/{source.slug} is left out: it has no history, so no partition of it can be read again.")
            continue
        _check_partitions(org, source, span)
        wishes.append(Wish(source, (), span, full))
    if not wishes:
        raise InputWrong(
            f"{org.slug} has no source to load.", advice="Add sources to its manifest and `datasense apply` it."
        )
    return wishes


def has_history(source: Source) -> bool:
    """Whether the source can be asked for a stretch of time."""
    from datasense_assets import connectors

    return connectors.has_history(source.connector)


def _check_partitions(org: Organization, source: Source, span: tuple[str, str] | None) -> None:
    if span is None:
        return
    from datasense_assets.running.partitions import source_partitions

    known = source_partitions(org, source).get_partition_keys()
    where = f"{org.slug}/{source.slug}"
    for key in dict.fromkeys(span):
        if key not in known:
            raise InputWrong(
                f"{where} has no partition {key!r}.",
                advice=f"Its partitions are one a {source.partitions.every.value}, from {known[0]} to {known[-1]}.",
            )
    if known.index(span[0]) > known.index(span[1]):
        raise InputWrong(f"The range {span[0]}...{span[1]} runs backwards.", advice=f"Write {span[1]}...{span[0]}.")


def _through_queue(
    catalog: Engine, instance: dg.DagsterInstance, org: Organization, wishes: Sequence[Wish], *, wait: bool
) -> tuple[list[Outcome], bool]:
    from datasense_assets.catalog.state import add_request

    alive = daemon_is_alive(instance)
    if wait and not alive:
        raise WorldFailed(NO_DAEMON, advice=NO_DAEMON_ADVICE)
    asked = []
    with catalog.begin() as connection:
        for wish in wishes:
            request = add_request(
                connection,
                org_id=org.id,
                source_id=wish.source.id,
                tables=wish.tables or None,
                partitions=wish.partitions,
                full_reload=wish.full,
                lane=wish.lane,
                requested_by=person(),
            )
            asked.append(Outcome(f"{org.slug}/{wish.source.slug}", "asked", request_id=request))
    if not wait:
        if not alive:
            warn(f"{NO_DAEMON} The request is kept until one does. {NO_DAEMON_ADVICE}")
        else:
            say("Asked for. Follow it with `datasense list runs`, or use --wait.")
        return asked, alive
    return wait_for(catalog, instance, asked), alive


def sync_here(
    catalog: Engine, instance: dg.DagsterInstance, org: Organization, wishes: Sequence[Wish]
) -> list[Outcome]:
    """Load the sources one after the other in this process; one that fails does not stop the next."""
    outcomes = []
    with progress(f"Loading {len(wishes)} {'source' if len(wishes) == 1 else 'sources'} of {org.slug}") as shown:
        for wish in wishes:
            name = f"{org.slug}/{wish.source.slug}"
            shown.update(f"{name}: loading")
            started = monotonic()
            outcome = _load_here(catalog, instance, org, wish, name)
            _tell(shown, outcome, monotonic() - started)
            outcomes.append(outcome)
    return outcomes


def _tell(shown: Progress, outcome: Outcome, seconds: float) -> None:
    if outcome.status == "failed":
        shown.done(f"{outcome.name}: failed after {seconds:.1f} s", style="red")
        return
    loaded = sum(table.rows_loaded or 0 for table in outcome.tables)
    tables = f"{len(outcome.tables)} {'table' if len(outcome.tables) == 1 else 'tables'}"
    shown.done(f"{outcome.name}: {loaded:,} rows into {tables} in {seconds:.1f} s", style="green")


def _load_here(catalog: Engine, instance: dg.DagsterInstance, org: Organization, wish: Wish, name: str) -> Outcome:
    from datasense_assets.running.graph_index import SourceEntry, source_keys, table_key

    try:
        source = wish.source if wish.source.tables else _discovered(catalog, org, wish.source)
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        return Outcome(name, "failed", failures=(f"{failure.message} {failure.advice}".strip(),))
    entry = SourceEntry(org, source, source_keys(org, source))
    keys = tuple(table_key(org.slug, source.slug, table) for table in wish.tables) or entry.keys
    tags, partition_key = _tags(catalog, entry, wish)
    return run_here(name, keys, instance=instance, tags=tags, partition_key=partition_key)


def _discovered(catalog: Engine, org: Organization, source: Source) -> Source:
    """The source with its tables, which are found first; raises SecretMissing or SourceError."""
    from datasense_assets.cli.sources import open_reader
    from datasense_assets.ingest.discovery import discover_tables

    connector = open_reader(catalog, org, source)
    try:
        tables = discover_tables(catalog, org, source, connector)
    finally:
        connector.close()
    return source.model_copy(update={"tables": tuple(tables)})


def _tags(catalog: Engine, entry: SourceEntry, wish: Wish) -> tuple[dict[str, str], str | None]:
    """Tags of a local run, as the requests sensor gives them to a queued one, and its partition where it is one."""
    from datasense_assets.automation.due import live_tags, owner_of_entry
    from datasense_assets.running import tags as t

    asked = {t.LANE: t.Lane.INTERACTIVE.value}
    if wish.full:
        asked[t.FULL] = "true"
    if wish.partitions is None:
        asked[t.LIVE] = "true"
        partitions = live_tags(entry, _last_success(catalog, wish.source.id), datetime.now(UTC))
    else:
        first, last = wish.partitions
        partitions = {t.PARTITION: first} if first == last else {t.RANGE_START: first, t.RANGE_END: last}
    owner = owner_of_entry(entry)
    partition_key = partitions.pop(t.PARTITION, None)
    return {**asked, **t.run_tags(asked, t.selected(entry.keys), owner), **partitions}, partition_key


def _last_success(catalog: Engine, source_id: int) -> datetime | None:
    from sqlalchemy import select

    from datasense_assets.catalog.tables import source_status

    with catalog.connect() as connection:
        query = select(source_status.c.last_success_at).where(source_status.c.source_id == source_id)
        return connection.execute(query).scalar_one_or_none()
