"""`datasense limits`: what may run at once, looked at and changed while everything runs."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog
from datasense_assets.cli.errors import InputWrong
from datasense_assets.cli.here import instance_for_runs
from datasense_assets.cli.output import JsonFlag, print_json, print_table, say, warn
from datasense_assets.cli.pausing import person

if TYPE_CHECKING:
    import dagster as dg
    from sqlalchemy import Connection, Engine

    from datasense_assets.catalog.state import RunLimit
    from datasense_assets.catalog.state.limits import LimitScope
    from datasense_assets.running.limits import Limits

app = typer.Typer(help="What may run at once; a change holds within seconds, without a restart.", no_args_is_help=True)

ScopeArgument = Annotated[
    str, typer.Argument(metavar="SCOPE", help="total, lane, org, connector, host or failing.", show_default=False)
]
NameArgument = Annotated[
    str, typer.Argument(metavar="[NAME]", help="Which one; left out: each of them.", show_default=False)
]


@app.command("list")
def show_limits(as_json: JsonFlag = False) -> None:
    """Show every limit that holds, and where it comes from. Where several are about one run, the lowest counts."""
    from datasense_assets.catalog.state import read_run_limits
    from datasense_assets.running import limits as lim

    with open_catalog() as catalog, instance_for_runs() as instance:
        defaults = _defaults(instance)
        with catalog.connect() as connection:
            given = read_run_limits(connection)
    held = lim.with_set(defaults, given)
    by_hand = {(limit.scope, limit.name) for limit in given}
    free = lim.kept_for_people(held)
    rows = [
        {
            "scope": scope,
            "name": name,
            "at_once": at_once,
            "set": (scope, name) in by_hand,
            "default": lim.default_of(defaults, scope, name),
        }
        for scope, name, at_once in lim.listed(held)
    ]
    if as_json:
        print_json({"limits": rows, "kept_for_people": free})
        return
    columns = ("what", "name", "at once", "said by", "default")
    print_table(columns, [_line(row) for row in rows])
    if free is not None:
        say(f"{max(free, 0)} places are kept free of scheduled syncs and backfills, for people and recipes.")


@app.command("set")
def set_limit(
    scope: ScopeArgument,
    words: Annotated[list[str], typer.Argument(metavar="[NAME] NUMBER", help="0 holds everything of it back.")],
    as_json: JsonFlag = False,
) -> None:
    """Set a limit: `limits set total 12`, `limits set connector kobo 6`, `limits set host 3` (for each host).

    `failing` is of all sources together that failed the last time, so that servers that hang leave places to others.
    """
    from datasense_assets.catalog.state import RunLimit, set_run_limit
    from datasense_assets.running import limits as lim

    known = _scope(scope)
    name, number = _name_and_number(known, words)
    with open_catalog() as catalog, instance_for_runs() as instance:
        with catalog.begin() as connection:
            limit = RunLimit(known, _checked(connection, known, name), number)
            set_run_limit(connection, limit, by=person())
        held = _after(catalog, instance)
        _tell_of_connections(catalog, held)
    _tell_of_lower(held, limit)
    _tell_of_places(held)
    say(f"{_named(known, limit.name)}: {number} at once. The queue follows within seconds.")
    if as_json:
        print_json(
            {"scope": known, "name": limit.name, "at_once": number, "kept_for_people": lim.kept_for_people(held)}
        )


@app.command("unset")
def unset_limit(scope: ScopeArgument, name: NameArgument = "", as_json: JsonFlag = False) -> None:
    """Go back to what dagster.yaml says."""
    from datasense_assets.catalog.state import unset_run_limit
    from datasense_assets.catalog.state.limits import NAMELESS

    known = _scope(scope)
    if name and known in NAMELESS:
        raise InputWrong(f"{known} has no name.", advice=f"Write datasense limits unset {known}.")
    with open_catalog() as catalog, instance_for_runs() as instance:
        with catalog.begin() as connection:
            ident = _written(known, name)
            changed = unset_run_limit(connection, known, ident)
        held = _after(catalog, instance)
    _tell_of_places(held)
    at_once = held.of(known, ident)
    said = "no limit of its own" if at_once is None else f"{at_once} at once"
    say(f"{_named(known, ident)}: {said}." if changed else f"{_named(known, ident)} was not set; it stays: {said}.")
    if as_json:
        print_json({"scope": known, "name": ident, "at_once": at_once, "changed": changed})


def _defaults(instance: dg.DagsterInstance) -> Limits:
    from datasense_assets.running.coordinator import TaggingRunCoordinator

    coordinator = instance.run_coordinator
    if not isinstance(coordinator, TaggingRunCoordinator):
        raise InputWrong(
            "The run coordinator of this Dagster instance is another one, which knows no such limits.",
            advice="Name datasense_assets.running.coordinator.TaggingRunCoordinator in dagster.yaml.",
        )
    return coordinator.default_limits


def _after(catalog: Engine, instance: dg.DagsterInstance) -> Limits:
    """The limits that hold after a change; the pools of connectors follow at once."""
    from datasense_assets.catalog.state import read_run_limits
    from datasense_assets.running import limits as lim

    defaults = _defaults(instance)
    lim.reconcile_pools(instance, catalog, defaults)
    with catalog.connect() as connection:
        return lim.with_set(defaults, read_run_limits(connection))


def _scope(text: str) -> LimitScope:
    from datasense_assets.catalog.state.limits import SCOPES

    if text in ("source", "recipe"):
        raise InputWrong(f"Of each {text} there is one run at a time, whatever is set.", advice="Leave it as it is.")
    if text not in SCOPES:
        raise InputWrong(f"There is no limit of {text!r}.", advice=f"Use one of {', '.join(SCOPES)}.")
    return text


def _name_and_number(scope: LimitScope, words: list[str]) -> tuple[str, int]:
    from datasense_assets.catalog.state.limits import NAMELESS

    if len(words) > 2 or (scope in NAMELESS and len(words) > 1):
        raise InputWrong(
            f"{' '.join(words)!r} is too much.", advice="Write SCOPE [NAME] NUMBER; total and failing have no name."
        )
    if not words[-1].isdecimal() or int(words[-1]) > 10_000:
        raise InputWrong(f"{words[-1]!r} is no number of runs.", advice="Write a whole number from 0 to 10000.")
    return (words[0] if len(words) == 2 else ""), int(words[-1])


def _written(scope: LimitScope, name: str) -> str:
    """The name as it stands in a run's tag: an organisation's slug as its identifier."""
    from datasense_assets.catalog.models import identifier

    return identifier(name) if scope == "org" else name.lower()


def _checked(connection: Connection, scope: LimitScope, name: str) -> str:
    """The name as in a tag; refused where nothing is called so. Any host may be named: sources come and go.

    Raises:
        InputWrong: there is no such lane, connector or organisation.

    """
    if not name:
        if scope == "lane":
            raise InputWrong("A lane's limit needs the lane's name.", advice=f"Use one of {', '.join(_lanes())}.")
        return ""
    found: Collection[str] = ()
    if scope == "lane":
        found = _lanes()
    elif scope == "connector":
        from datasense_assets.connectors import kinds

        found = kinds()
    elif scope == "org":
        from sqlalchemy import select

        from datasense_assets.catalog.tables import organizations

        found = [_written("org", slug) for slug in connection.execute(select(organizations.c.slug)).scalars()]
    written = _written(scope, name)
    if (found or scope == "org") and written not in found:
        near = difflib.get_close_matches(written, found, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(sorted(found)[:20])}."
        raise InputWrong(f"There is no {scope} {name!r}.", advice=hint)
    return written


def _lanes() -> list[str]:
    from datasense_assets.running.tags import Lane

    return [lane.value for lane in Lane]


def _named(scope: str, name: str) -> str:
    if scope == "total":
        return "All runs together"
    if scope == "failing":
        return "All that failed the last time"
    return f"{scope} {name}" if name else f"Each {scope}"


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    from datasense_assets.catalog.state.limits import NAMELESS

    by = "datasense limits" if row["set"] else "dagster.yaml"
    shown = row["name"] or ("" if row["scope"] in NAMELESS else "each")
    return row["scope"], shown, row["at_once"], by, row["default"] if row["set"] else None


def _tell_of_lower(held: Limits, limit: RunLimit) -> None:
    lowest = held.binding(limit.scope, limit.name)
    if lowest is not None and lowest < limit.at_once:
        warn(f"Each {limit.scope} may have {lowest} at once, which is lower and so counts; raise that first.")
    if limit.scope != "total" and 0 <= held.total < limit.at_once:
        warn(f"No more than {held.total} runs go on at once in all.")


def _tell_of_places(held: Limits) -> None:
    from datasense_assets.running.limits import kept_for_people

    free = kept_for_people(held)
    if free is not None and free < 1:
        warn("Scheduled syncs and backfills may now take every place, so a click may have to wait for one of them.")


def _tell_of_connections(catalog: Engine, held: Limits) -> None:
    from datasense_assets.operations.doctor import Level
    from datasense_assets.operations.doctor.server import look_at_connections
    from datasense_assets.settings import get_settings

    with catalog.connect() as connection:
        for found in look_at_connections(connection, get_settings(), held.total):
            if found.level is Level.WRONG:
                warn(" ".join((found.said, *found.sums, found.fix)))
