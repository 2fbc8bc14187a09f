"""Where random choices come from: hypothesis, which shrinks them, or a seeded generator, which is fast."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from datasense_assets_tests.recipes.relation import Undetermined

T = TypeVar("T")


class Chooser:
    """Choices made of one question: a whole number below n. 0 is the simplest answer, to which hypothesis shrinks."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self.below = below

    def one(self, options: Sequence[T]) -> T:
        if not options:
            raise Undetermined
        return options[self.below(len(options))]

    def between(self, least: int, most: int) -> int:
        return least + self.below(most - least + 1)

    def chance(self, percent: int) -> bool:
        """Seldom true for a small percentage; false is simplest."""
        return self.below(100) >= 100 - percent

    def some(self, options: Sequence[T], least: int = 0, most: int | None = None) -> list[T]:
        """Different options in any order."""
        left = list(options)
        count = self.between(least, max(least, min(len(left), len(left) if most is None else most)))
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]


def seeded(seed: int | str) -> Chooser:
    return Chooser(random.Random(seed).randrange)


@functools.cache
def _numbers(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


@st.composite
def made_by(draw: Any, make: Callable[[Chooser], T]) -> T:
    """What `make` makes of choices, as a strategy."""
    return make(Chooser(lambda count: 0 if count <= 1 else draw(_numbers(count))))
