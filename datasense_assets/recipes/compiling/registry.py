"""Which function compiles which step model: `@compiles(Model)` on a function of (step, frame, context) -> frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from datasense_assets.recipes.compiling.frame import Context, Frame
from datasense_assets.recipes.language.step import StepBase

StepT = TypeVar("StepT", bound=StepBase)
_FUNCTIONS: dict[type[StepBase], Callable[[Any, Frame, Context], Frame]] = {}


def compiles(
    model: type[StepT],
) -> Callable[[Callable[[StepT, Frame, Context], Frame]], Callable[[StepT, Frame, Context], Frame]]:
    """Registers the function that compiles steps of `model`.

    It never raises for a mistake of the user's: it reports to the context and returns the frame with placeholders.
    """

    def register(function: Callable[[StepT, Frame, Context], Frame]) -> Callable[[StepT, Frame, Context], Frame]:
        _FUNCTIONS[model] = function
        return function

    return register


def compile_step(step: StepBase, frame: Frame, context: Context) -> Frame:
    """The frame after the step; mistakes are in `context.errors`."""
    return _FUNCTIONS[type(step)](step, frame, context)


def compiled_models() -> frozenset[type[StepBase]]:
    """The step models that have a function."""
    return frozenset(_FUNCTIONS)
