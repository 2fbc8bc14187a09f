"""How everything stands, for people: one line a table and recipe, with the reason and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, cast

from sqlalchemy import Connection, RowMapping, text

from datasense_assets.catalog.check_status import Trouble, read_troubles, waits_for
from datasense_assets.catalog.freshness import duration_text
from datasense_assets.catalog.lateness import overdue, reason
from datasense_assets.catalog.promises import read_promises
from datasense_assets.catalog.state import AffectedRecipe, SchemaChange
from datasense_assets.catalog.state.stale import INPUTS, SPEC_CHANGED


class State(StrEnum):
    """In how far a table or recipe can be relied on; the first that applies, in this order."""

    PAUSED = "paused"
    UNDISCOVERED = "undiscovered"
    FAILING = "failing"
    BREAKS_CHECKS = "breaks checks"
    GONE = "gone"
    LATE = "late"
    QUEUED = "queued"
    PUT_OFF = "put off"
    NEVER_LOADED = "never loaded"
    DUE = "due"
    OUTDATED = "outdated"
    MANUAL = "manual"
    FRESH = "fresh"


@dataclass(frozen=True)
class StatusRow:
    """One table or recipe. `path`: `org/source/table`, `org/source` while undiscovered, or `org/recipes/name`.

    `why` and `what_to_do` are sentences ('' where nothing is to be done). `fresh_as_of`: the data is complete up to
    then (of a recipe: when it was built). `running`: a load of its source goes on now. `schema_changes`: what changed
    in the table's columns in the last seven days, in words that name the recipes it breaks. `warning`: checks that do
    not hold and only warn, as a sentence. `column_notes`: what loads found out about columns, such as why one is text.
    `fresh_within`: the promise, how old a table's data may be and how long a recipe may stay behind its inputs (None:
    no promise); `late`: it is broken, whatever the state says of why. `since`: when what the state says began, where
    that is known. Times have a time zone.
    """

    kind: Literal["table", "recipe"]
    org: str
    path: str
    state: State
    why: str
    what_to_do: str
    row_count: int | None
    fresh_as_of: datetime | None
    next_due_at: datetime | None
    failure: str | None
    running: bool
    rejected_rows: int
    schema_changes: tuple[str, ...] = ()
    warning: str = ""
    column_notes: tuple[str, ...] = ()
    fresh_within: timedelta | None = None
    late: bool = False
    since: datetime | None = None


_TABLES = """
SELECT o.slug AS org, s.id AS source_id, s.slug AS source, t.id AS table_id, t.slug AS table_slug,
       s.schedule = '"manual"'::jsonb AS manual,
       st.next_due_at, st.failure_message, st.failure_advice, st.failures_in_a_row, st.last_failure_at,
       st.last_success_at, st.put_off_until, coalesce(t.created_at, s.created_at) AS added_at,
       coalesce(st.last_requested_at > greatest(st.last_started_at, :now - interval '1 hour'), false)
           OR EXISTS (SELECT FROM datasense.sync_requests q WHERE q.taken_at IS NULL AND q.org_id = o.id
                      AND q.recipe_id IS NULL AND (q.source_id IS NULL OR q.source_id = s.id)) AS queued,
       coalesce(l.expires_at > :now, false) AS running,
       coalesce(sp.reason, op.reason) AS pause_reason,
       sp.id IS NOT NULL AS source_paused, op.id IS NOT NULL AS org_paused,
       sp.paused_by, sp.probe_at, ts.row_count, ts.rejected_rows, ts.fresh_as_of, ts.loaded_at,
       ts.column_notes, ts.gone_since,
       coalesce(sp.paused_at, op.paused_at) AS paused_at,
       (SELECT json_agg(json_build_object('kind', c.kind, 'column_name', c.column_name, 'old_type', c.old_type,
               'new_type', c.new_type, 'old_label', c.old_label, 'new_label', c.new_label, 'affects', c.affects)
               ORDER BY c.id)
        FROM datasense.schema_changes c WHERE c.table_id = t.id AND c.at > :now - interval '7 days') AS changes
FROM datasense.sources s
JOIN datasense.organizations o ON o.id = s.org_id
JOIN datasense.source_status st ON st.source_id = s.id
LEFT JOIN datasense.source_tables t ON t.source_id = s.id
LEFT JOIN datasense.table_status ts ON ts.table_id = t.id
LEFT JOIN datasense.leases l ON l.source_id = s.id
LEFT JOIN datasense.pauses sp ON sp.org_id = o.id AND sp.source_id = s.id
LEFT JOIN datasense.pauses op ON op.org_id = o.id AND op.source_id IS NULL
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
ORDER BY o.slug COLLATE "C", s.slug COLLATE "C", t.position, t.slug COLLATE "C"
"""

_RECIPES = f"""
SELECT o.slug AS org, r.id AS recipe_id, r.name, st.row_count, st.built_at,
       st.failure_kind, st.failure_message, st.failure_advice, st.failures_in_a_row, st.failed_at, st.outdated_since,
       op.paused_at,
       coalesce(st.last_requested_at > greatest(st.built_at, st.failed_at, :now - interval '1 hour'), false)
           OR EXISTS (SELECT FROM datasense.sync_requests q WHERE q.taken_at IS NULL AND q.org_id = o.id
                      AND q.recipe_id = r.id) AS queued,
       op.id IS NOT NULL AS org_paused, op.reason AS pause_reason,
       {SPEC_CHANGED} AS spec_changed,
       EXISTS (SELECT FROM ({INPUTS}) i WHERE i.recipe_id = r.id AND i.differs AND NOT i.missing) AS inputs_changed
FROM datasense.recipes r
JOIN datasense.organizations o ON o.id = r.org_id
JOIN datasense.recipe_status st ON st.recipe_id = r.id
LEFT JOIN datasense.pauses op ON op.org_id = o.id AND op.source_id IS NULL
WHERE CAST(:org AS text) IS NULL OR o.slug = :org
ORDER BY o.slug COLLATE "C", r.name COLLATE "C"
"""  # noqa: S608 - constants of ours

_LOOK_AT_DAEMON = "See whether the daemon runs (Deployment, Daemons in the UI)."
# A due source may wait this long for a free slot before it is called due.
_PATIENCE = timedelta(minutes=15)


def organization_status(
    connection: Connection, org_slug: str | None = None, *, now: datetime | None = None
) -> list[StatusRow]:
    """Every table and recipe of the organisation (None: of all), by organisation; tables first."""
    moment = now or datetime.now(UTC)
    binds = {"org": org_slug, "now": moment}
    promises = read_promises(connection, org_slug)
    troubles = read_troubles(connection, org_slug, moment)
    rows = [
        _table(row, moment, troubles.of_table(row["table_id"]), promises.sources.get(row["source_id"]))
        for row in connection.execute(text(_TABLES), binds).mappings()
    ]
    rows += [
        _recipe(row, moment, troubles.of_recipe(row["recipe_id"]), promises.recipes[row["recipe_id"]])
        for row in connection.execute(text(_RECIPES), binds).mappings()
    ]
    return sorted(rows, key=lambda row: row.org)


def failing_rows(rows: Iterable[StatusRow]) -> list[StatusRow]:
    """What fails now, one row a source or recipe, the longest failing first; what a person paused is not it."""
    failing: dict[str, StatusRow] = {}
    for row in rows:
        if row.state == State.FAILING or (row.failure is not None and row.state in (State.UNDISCOVERED, State.PAUSED)):
            parts = row.path.split("/")
            failing.setdefault(row.path if row.kind == "recipe" else "/".join(parts[:2]), row)
    return sorted(failing.values(), key=lambda row: (row.since is None, row.since or datetime.min.replace(tzinfo=UTC)))


def _table(row: RowMapping, now: datetime, trouble: Trouble, promise: timedelta | None) -> StatusRow:
    source = f"{row['org']}/{row['source']}"
    as_of = row["fresh_as_of"] or row["added_at"]
    late = promise if promise is not None and now - as_of > promise and row["gone_since"] is None else None
    state, why, what_to_do = next(_table_states(row, source, now, trouble, late))
    return StatusRow(
        kind="table",
        org=row["org"],
        path=source if row["table_slug"] is None else f"{source}/{row['table_slug']}",
        state=state,
        why=why,
        what_to_do=what_to_do,
        row_count=row["row_count"],
        fresh_as_of=row["fresh_as_of"],
        next_due_at=row["next_due_at"],
        failure=row["failure_message"],
        running=row["running"],
        rejected_rows=row["rejected_rows"] or 0,
        schema_changes=tuple(str(_change(each)) for each in row["changes"] or ()),
        warning=trouble.warning,
        column_notes=tuple(f"{name} {note}" for name, note in sorted((row["column_notes"] or {}).items())),
        fresh_within=promise,
        late=late is not None,
        since=_since(state, row, as_of, promise),
    )


def _since(state: State, row: RowMapping, as_of: datetime, promise: timedelta | None) -> datetime | None:
    if state == State.PAUSED:
        return cast(datetime, row["paused_at"])
    if state in (State.FAILING, State.UNDISCOVERED):
        return cast("datetime | None", row["last_success_at"] or row["last_failure_at"])
    return as_of + promise if state == State.LATE and promise is not None else None


def _change(row: dict[str, Any]) -> SchemaChange:
    return SchemaChange(**{**row, "affects": tuple(AffectedRecipe(**each) for each in row["affects"])})


def _table_states(
    row: RowMapping, source: str, now: datetime, trouble: Trouble, late: timedelta | None
) -> Iterator[tuple[State, str, str]]:
    """States that apply, the most telling first."""
    if row["source_paused"] or row["org_paused"]:
        yield _paused(row, source if row["source_paused"] else row["org"])
    failing = row["failures_in_a_row"] > 0
    if row["table_slug"] is None:
        why = row["failure_message"] or "Its tables are not known yet."
        advice = row["failure_advice"] or f"Run datasense discover {source}."
        yield State.UNDISCOVERED, why, advice
    if failing:
        times = row["failures_in_a_row"]
        why = f"{row['failure_message']} ({times} time{'s' if times > 1 else ''} in a row)"
        yield State.FAILING, why, row["failure_advice"] or f"Run datasense test {source}."
    if trouble.errors:
        path = f"{source}/{row['table_slug']}"
        yield State.BREAKS_CHECKS, trouble.why, f"Mend it at the source and sync; see datasense checks list {path}."
    if row["gone_since"] is not None:
        yield State.GONE, f"The source has not had it since {row['gone_since']:%Y-%m-%d}; it stays as it was.", ""
    if late is not None and not (row["running"] and row["loaded_at"] is None):
        never = row["fresh_as_of"] is None
        said = overdue(row["added_at"] if never else row["fresh_as_of"], late, never_loaded=never)
        yield State.LATE, f"{said} {reason(row, now)}", f"Run datasense sync {source}. {_LOOK_AT_DAEMON}"
    yield from _waiting_states(row, now)
    if row["loaded_at"] is None:
        yield (
            State.NEVER_LOADED,
            "It has not been loaded yet.",
            f"Run datasense sync {source}, or wait for its schedule.",
        )
    if row["next_due_at"] is not None and now - row["next_due_at"] > _PATIENCE and not row["running"]:
        since = _minutes(now - row["next_due_at"])
        yield State.DUE, f"It has been due for {since}.", _LOOK_AT_DAEMON
    if row["manual"]:
        yield State.MANUAL, "It is loaded only by hand.", ""
    yield State.FRESH, "", ""


def _waiting_states(row: RowMapping, now: datetime) -> Iterator[tuple[State, str, str]]:
    if row["running"]:
        if row["loaded_at"] is None:
            yield State.QUEUED, "Its first load goes on now.", ""
    elif row["put_off_until"] is not None and row["put_off_until"] > now:
        again = f"It may be asked again from {row['put_off_until']:%Y-%m-%d %H:%M:%S} UTC on."
        yield State.PUT_OFF, f"{row['failure_message'] or ''} {again}".strip(), ""
    elif row["queued"]:
        yield State.QUEUED, "A run was asked for and has not started yet.", ""


def _paused(row: RowMapping, path: str) -> tuple[State, str, str]:
    why = row["pause_reason"] or "Someone paused it."
    probe = row.get("probe_at")
    if row.get("paused_by") == "breaker":
        advice = (row.get("failure_advice") or "").strip()
        again = f" It is tried again at {probe:%Y-%m-%d %H:%M} UTC." if probe is not None else ""
        return State.PAUSED, f"{why}{again}", f"{advice} Then run datasense resume {path}.".strip()
    return State.PAUSED, why, f"Run datasense resume {path}."


def _recipe(row: RowMapping, now: datetime, trouble: Trouble, promise: timedelta) -> StatusRow:
    path = f"{row['org']}/recipes/{row['name']}"
    outdated = row["outdated_since"]
    late = promise if outdated is not None and now - outdated > promise else None
    state, why, what_to_do = next(_recipe_states(row, path, trouble, late))
    # what the failure says of the checks that held the table back is not said again
    said = state == State.FAILING and row["failure_kind"] == "checks_failed"
    since = {State.FAILING: row["built_at"] or row["failed_at"], State.PAUSED: row["paused_at"]}
    return StatusRow(
        kind="recipe",
        org=row["org"],
        path=path,
        state=state,
        why=why,
        what_to_do=what_to_do,
        row_count=row["row_count"],
        fresh_as_of=row["built_at"],
        next_due_at=None,
        failure=row["failure_message"],
        running=False,
        rejected_rows=0,
        warning=trouble.warning_beside_failure if said else trouble.warning,
        fresh_within=promise,
        late=late is not None,
        since=since.get(state, outdated if state in (State.LATE, State.OUTDATED) else None),
    )


def _recipe_states(
    row: RowMapping, path: str, trouble: Trouble, late: timedelta | None
) -> Iterator[tuple[State, str, str]]:
    build = f"Run datasense build {row['org']}/{row['name']}"
    if row["org_paused"]:
        yield _paused(row, row["org"])
    if row["failures_in_a_row"] > 0:
        waits = bool(trouble.unrun) and not trouble.errors
        yield State.FAILING, (row["failure_message"] or "").strip(), _advice_of_build(row, build, waits=waits)
    if trouble.errors:
        yield State.BREAKS_CHECKS, trouble.why, f"Mend its inputs or the recipe; see datasense checks list {path}."
    if row["queued"]:
        yield State.QUEUED, "A run was asked for and has not ended yet.", ""
    outdated = row["built_at"] is None or row["spec_changed"] or row["inputs_changed"]
    if outdated and (held := waits_for(trouble, built=row["built_at"] is not None)):
        state = State.NEVER_LOADED if row["built_at"] is None else State.LATE if late else State.OUTDATED
        yield state, held, f"See datasense checks list {row['org']}."
    behind = State.OUTDATED if late is None else State.LATE
    broken = "" if late is None else f" It should have been built within {duration_text(late)}."
    if row["built_at"] is None:
        yield State.NEVER_LOADED, "It has not been built yet.", f"{build}, or wait until its inputs are loaded."
    if row["spec_changed"]:
        yield behind, f"The recipe was changed after it was built.{broken}", f"{build}, or wait."
    if row["inputs_changed"]:
        yield behind, f"Its inputs have newer data.{broken}", f"{build}, or wait until all of them are fresh."
    yield State.FRESH, "", ""


def _advice_of_build(row: RowMapping, build: str, *, waits: bool) -> str:
    """What to do about a build that failed. `waits`: only since a table is not there yet that a check looks into."""
    advice = row["failure_advice"]
    if advice is None:  # of before advice was kept by itself: the message ends with it
        return f"{build}."
    if waits:
        return str(advice)
    return f"{advice or 'Correct the recipe or its inputs.'} {build}."


def _minutes(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
