"""Tables and recipes that wait for each other in a circle because of a check that looks into one of them.

A recipe waits for its inputs and for the recipes that its checks look into. A source's table is loaded whatever its
checks say, and what reads it waits for the recipes that they look into. Only checks that are errors keep anything
waiting. Works on checks as they are written, those of a manifest and those of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datasense_assets.catalog.models import InputReference

CIRCLE_FIX = "Give the check severity: warn, or have it look into another table."


@dataclass(frozen=True)
class Look:
    """A check at `path` looks into another table, or a recipe, as `written`; `blocks`: it is an error."""

    path: str
    written: str
    into: InputReference
    blocks: bool


def looks(path: str, checks: Any) -> Iterator[Look]:
    """What the checks look into (`exists_in`), as `path[index]`; one that cannot be read is told where it is read."""
    for index, check in enumerate(checks if isinstance(checks, list | tuple) else ()):
        if isinstance(check, Mapping) and check.get("check") == "exists_in":
            with suppress(ValueError):
                written = str(check.get("in"))
                into = InputReference.parse(written)
                yield Look(f"{path}[{index}]", written, into, check.get("severity") != "warn")


class Waiting:
    """Who waits for whom; tables and recipes go by the references that name them."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._for: dict[str, list[str]] = {}
        self._looks: list[tuple[str, str, Look]] = []

    def add_inputs(self, recipe: InputReference, inputs: Iterable[InputReference]) -> None:
        """Let a recipe wait for its inputs."""
        self._for.setdefault(recipe.text, []).extend(each.text for each in inputs)

    def add_looks(self, owner: InputReference, found: Iterable[Look]) -> None:
        """Let a table or recipe wait for the recipes that its checks look into; itself it is looked into at once."""
        name = owner.text
        for look in found:
            into = look.into.text
            if look.blocks and look.into.recipe is not None and into != name:
                self._for.setdefault(name, []).append(into)
                self._looks.append((name, into, look))

    def circles(self) -> Iterator[tuple[Look, list[str]]]:
        """Each check that waits for itself, with the shortest circle: who waits for the next, the first again last."""
        for name, into, look in self._looks:
            way = self._way(into, name)
            if way:
                yield look, [name, *way]

    def _way(self, start: str, end: str) -> list[str]:
        """From one to another that it waits for, both included; empty where it does not."""
        before: dict[str, str] = {start: start}
        front = [start]
        while front and end not in before:
            reached = [(each, at) for at in front for each in self._for.get(at, ())]
            front = []
            for each, at in reached:
                if each not in before:
                    before[each] = at
                    front.append(each)
        if end not in before:
            return []
        way = [end]
        while way[-1] != start:
            way.append(before[way[-1]])
        return way[::-1]
