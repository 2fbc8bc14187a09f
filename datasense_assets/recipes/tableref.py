"""A table that a recipe reads: where it is and what columns it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis


@dataclass(frozen=True)
class TableRef:
    """An existing table: its Postgres schema, its name and its columns' types.

    `personal` names columns whose values a preview must not show. `choice_labels` gives, for a column of a form with a
    choice list, the label by stored value. `keys` are sets of columns each of which is known to tell the rows apart.
    """

    schema: str
    table: str
    columns: ibis.Schema
    personal: frozenset[str] = frozenset()
    choice_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    keys: frozenset[frozenset[str]] = frozenset()
