"""What recipes were last built from, and to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, update

from datasense_assets.catalog.state.loads import FailureRecord
from datasense_assets.catalog.state.stale import INPUTS
from datasense_assets.catalog.tables import recipe_inputs, recipe_status, recipes


@dataclass(frozen=True)
class InputVersion:
    """What an input is now: its data, its columns and, of a form, its choice labels; equal values are equal inputs."""

    data: int
    columns: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class LastBuild:
    """What a recipe's table was last built from and to; all but `data_version` are None before its first build.

    `definition_hash`: the SQL, the columns and how they are kept. `build_key`: that and the versions of the inputs, so
    that an equal key gives an equal table. `columns_hash`, `content_hash`: of the table. `questions`: by column, the
    comments that the build gave, a form's questions; a person may have written others since.
    """

    data_version: int
    row_count: int | None
    built_at: datetime | None
    definition_hash: str | None
    build_key: str | None
    columns_hash: str | None
    content_hash: str | None
    questions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildRecord:
    """What a build is recorded as, hashes and questions as in `LastBuild`.

    `built_for`: the day that was today, where the recipe asks for it. `uses_labels`: its SQL holds choice labels.
    """

    run_id: str
    row_count: int
    spec_hash: str
    compiler_version: int
    timezone: str
    definition_hash: str
    build_key: str | None
    columns_hash: str
    content_hash: str
    built_for: date | None = None
    uses_labels: bool = False
    questions: Mapping[str, str] = field(default_factory=dict)


def read_input_versions(connection: Connection, recipe_id: int) -> dict[str, InputVersion]:
    """Alias → what each input is now; read before building, recorded after. Inputs that name nothing are out."""
    query = (
        "SELECT alias, version, columns_hash, labels_hash"  # noqa: S608 - constants of ours
        f" FROM ({INPUTS}) i WHERE recipe_id = :recipe AND NOT missing"
    )
    rows = connection.execute(text(query), {"recipe": recipe_id, "now": datetime.now().astimezone()})
    return {row.alias: InputVersion(row.version, row.columns_hash, row.labels_hash) for row in rows}


def read_last_build(connection: Connection, recipe_id: int) -> LastBuild:
    """What the recipe's table is built from so far.

    Raises:
        sqlalchemy.exc.NoResultFound: there is no such recipe.

    """
    columns = (
        recipe_status.c.data_version,
        recipe_status.c.row_count,
        recipe_status.c.built_at,
        recipe_status.c.definition_hash,
        recipe_status.c.build_key,
        recipe_status.c.columns_hash,
        recipe_status.c.content_hash,
        recipe_status.c.questions,
    )
    row = connection.execute(select(*columns).where(recipe_status.c.recipe_id == recipe_id)).one()
    return LastBuild(*row)


def forget_build(connection: Connection, recipe_id: int) -> None:
    """Forget what the table was made from, before it is made anew.

    Should the build die after the warehouse's commit and before its record, no record may speak of the table before.
    """
    connection.execute(
        update(recipe_status).where(recipe_status.c.recipe_id == recipe_id).values(build_key=None, definition_hash=None)
    )


def record_build(
    connection: Connection, recipe_id: int, build: BuildRecord, inputs: Mapping[str, InputVersion]
) -> tuple[int, bool]:
    """Record what was built from which inputs; return the data version and whether the content is another than before.

    The data version grows by one with the content, and recipes that read this one are stale then.
    """
    changed = recipe_status.c.content_hash.is_distinct_from(build.content_hash)
    before = connection.execute(
        select(changed).where(recipe_status.c.recipe_id == recipe_id).with_for_update()
    ).scalar_one()
    values: dict[str, Any] = {
        "run_id": build.run_id,
        "row_count": build.row_count,
        "spec_hash": build.spec_hash,
        "compiler_version": build.compiler_version,
        "timezone": build.timezone,
        "built_for": build.built_for,
        "definition_hash": build.definition_hash,
        "build_key": build.build_key,
        "columns_hash": build.columns_hash,
        "content_hash": build.content_hash,
        "questions": dict(build.questions),
        "built_at": func.now(),
        "failure_kind": None,
        "failure_message": None,
        "failure_advice": None,
        "failures_in_a_row": 0,
        # another look at once says so again where an input has moved meanwhile
        "outdated_since": None,
    }
    if before:
        values |= {"data_version": recipe_status.c.data_version + 1, "changed_at": func.now()}
    version = connection.execute(
        update(recipe_status)
        .where(recipe_status.c.recipe_id == recipe_id)
        .values(**values)
        .returning(recipe_status.c.data_version)
    ).scalar_one()
    if inputs:
        connection.execute(
            update(recipe_inputs)
            .where(recipe_inputs.c.recipe_id == recipe_id, recipe_inputs.c.alias == bindparam("of_alias"))
            .values(
                built_version=bindparam("data"), built_columns=bindparam("columns"), built_labels=bindparam("labels")
            ),
            [
                {
                    "of_alias": alias,
                    "data": each.data,
                    "columns": each.columns,
                    "labels": (each.labels or "") if build.uses_labels else None,
                }
                for alias, each in inputs.items()
            ],
        )
    return int(version), bool(before)


def record_build_failure(connection: Connection, recipe_id: int, *, run_id: str, failure: FailureRecord) -> int:
    """Record that the recipe could not be built; return how many attempts in a row have failed."""
    count = connection.execute(
        update(recipe_status)
        .where(recipe_status.c.recipe_id == recipe_id)
        .values(
            run_id=run_id,
            failed_at=func.clock_timestamp(),
            failure_kind=failure.kind,
            failure_message=failure.message,
            failure_advice=failure.advice,
            failures_in_a_row=recipe_status.c.failures_in_a_row + 1,
        )
        .returning(recipe_status.c.failures_in_a_row)
    ).scalar_one()
    return int(count)


def old_tables(connection: Connection, org_id: int, recipe_id: int | None) -> str:
    """In the message that a recipe (None: all of the organisation's) was not built: what stays, or that there is none.

    As it was recorded; the warehouse is not asked.
    """
    query = (
        select(func.count())
        .select_from(recipe_status.join(recipes, recipes.c.id == recipe_status.c.recipe_id))
        .where(recipes.c.org_id == org_id, recipe_status.c.built_at.is_not(None))
    )
    one = None if recipe_id is None else recipes.c.id == recipe_id
    if not connection.execute(query if one is None else query.where(one)).scalar_one():
        return "there is no table yet"
    return "the old tables stay" if one is None else "its old table stays"


def mark_requested(connection: Connection, recipe_ids: Sequence[int], now: datetime) -> None:
    """Note that a run was asked for these recipes."""
    connection.execute(
        update(recipe_status).where(recipe_status.c.recipe_id.in_(recipe_ids)).values(last_requested_at=now)
    )
