"""The questions of forms as comments on a recipe's columns: given where they are still answered, and kept up with.

A comment that a person wrote (`COMMENT ON COLUMN`) stays. One that was given by an earlier build is ours: it becomes
what the question is now, and goes where the column answers none any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg

from datasense_assets.recipes.compiling.compile import Compiled
from datasense_assets.recipes.tableref import TableRef
from datasense_assets.warehouse.columns import comment_on
from datasense_assets.warehouse.reading import is_view, table_columns
from datasense_assets.warehouse.swap import SessionLimits, apply_limits


@dataclass(frozen=True)
class Asked:
    """By column of the recipe's table: the comment that it has now, and those of them that builds have given."""

    comments: Mapping[str, str]
    given: Mapping[str, str]


def answered_questions(
    connection: psycopg.Connection, compiled: Compiled, inputs: Mapping[str, TableRef]
) -> dict[str, str]:
    """The question of each result column whose source columns, where they have a comment, have the same."""
    read = {source for sources in compiled.answered.values() for source, _ in sources}
    places = {(ref.schema, ref.table) for ref in inputs.values() if ref.table in read}
    labels = {(t, c.name): c.comment for s, t in sorted(places) for c in table_columns(connection, s, t)}
    asked = {
        name: {label for source in sources if (label := labels.get(source))}
        for name, sources in compiled.answered.items()
    }
    return {name: questions.pop() for name, questions in asked.items() if len(questions) == 1}


def ask(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    questions: Mapping[str, str],
    given: Mapping[str, str],
    limits: SessionLimits,
) -> Asked:
    """Give the table's columns their questions as comments; `given` are those that earlier builds gave.

    Where somebody holds the table (VACUUM does) for longer than the lock timeout, the comments follow at another build.
    """
    stands = {c.name: c.comment for c in table_columns(connection, schema, table)}
    ours = {name for name, said in stands.items() if said in (None, given.get(name), questions.get(name))}
    wanted = {name: questions.get(name) if name in ours else said for name, said in stands.items()}
    # an empty comment is none to PostgreSQL
    words = {name: said or "" for name, said in wanted.items() if said != stands[name]}
    try:
        if words:
            with connection.transaction():
                apply_limits(connection, limits)
                kind: Literal["TABLE", "VIEW"] = "VIEW" if is_view(connection, schema, table) else "TABLE"
                comment_on(connection, kind, schema, table, None, words)
    except psycopg.errors.LockNotAvailable:
        return Asked(_said(stands), given)
    return Asked(_said(wanted), {name: questions[name] for name in stands if name in ours and name in questions})


def _said(comments: Mapping[str, str | None]) -> dict[str, str]:
    return {name: said for name, said in comments.items() if said is not None}
