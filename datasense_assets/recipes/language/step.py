"""What every step has, what it is called, and the checks that several steps share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.recipes.language.values import Shape, Text


class StepBase(Shape):
    """A step: `op` says which, `id` and `note` are the user's own.

    `example` is a step as written, shown in the reference and compiled by a test.
    """

    example: ClassVar[dict[str, Any]]

    id: Text | None = Field(default=None, max_length=200)
    note: Text | None = Field(default=None, max_length=10_000)

    def answers(self) -> Mapping[str, Sequence[str]]:
        """Columns whose values the step changes and not what they answer, each with those it answers the question of.

        A column that it passes on or renames needs no saying; one that it reckons from others answers another question.
        """
        return {}


class OneOf(Shape):
    """A model of which exactly one of the fields named in `one_of` has to be written (null counts as written)."""

    one_of: ClassVar[tuple[str, ...]]
    one_of_optional: ClassVar[bool] = False

    @model_validator(mode="after")
    def _exactly_one(self) -> OneOf:
        given = [name for name in self.one_of if name in self.model_fields_set]
        names = " or ".join(self.one_of)
        if len(given) > 1:
            raise PydanticCustomError("invalid_value", "has both {given}; keep one", {"given": " and ".join(given)})
        if not given and not self.one_of_optional:
            raise PydanticCustomError("missing_field", "needs {names}", {"names": names, "field": self.one_of[0]})
        return self


def step_label(index: int, step: Any) -> str:
    """The step as people call it: `Step 3 (join)`, with its id where it has one. `step` is a model or raw data."""
    op, step_id = (step.get(name) if isinstance(step, dict) else getattr(step, name, None) for name in ("op", "id"))
    name = f"{op} {step_id!r}" if isinstance(step_id, str) and step_id else f"{op}"
    return f"Step {index + 1} ({name})" if isinstance(op, str) else f"Step {index + 1}"
