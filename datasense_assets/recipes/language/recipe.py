"""A whole recipe as a model: inputs, steps, output and checks."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from datasense_assets.catalog.models import NAME_PATTERN, InputReference, identifier
from datasense_assets.recipes.language.checks import Checks
from datasense_assets.recipes.language.derived import LabelValues
from datasense_assets.recipes.language.output import Output
from datasense_assets.recipes.language.steps import Step
from datasense_assets.recipes.language.tables import Join, Union
from datasense_assets.recipes.language.values import ColumnName, Shape, Text, WrittenReference

MAX_STEPS = 100


def _recipe_name(text: str) -> str:
    if "__" in text.replace("-", "_"):
        said = "has '__' (a '-' is one too), which is kept for source tables; use one '_'"
        raise PydanticCustomError("invalid_value", said)
    return text


class RecipeModel(Shape):
    """What a recipe says. All that compiles and judges recipes takes this; `Recipe` adds how one is read from data."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=NAME_PATTERN), AfterValidator(_recipe_name)]
    title: Text | None = None
    description: Text | None = None
    inputs: dict[ColumnName, WrittenReference] = Field(min_length=1, max_length=100)
    steps: list[Step] = Field(default_factory=list, max_length=MAX_STEPS)
    output: Output = Field(default_factory=Output)
    checks: Checks = Field(default_factory=list)

    @field_validator("title")
    @classmethod
    def _title_is_a_line(cls, value: str | None) -> str | None:
        if value is not None and len(value) > 500:
            raise PydanticCustomError("invalid_value", "has more than 500 characters")
        return value

    @model_validator(mode="after")
    def _step_ids_differ(self) -> Self:
        counts = Counter(step.id for step in self.steps if step.id is not None)
        repeated = [step_id for step_id, count in counts.items() if count > 1]
        if repeated:
            raise PydanticCustomError(
                "duplicate_step_id", "has two steps with the id {ids}; ids must differ", {"ids": ", ".join(repeated)}
            )
        return self

    @property
    def start(self) -> str:
        """The alias of the input where the steps start."""
        return next(iter(self.inputs))

    def used_inputs(self) -> frozenset[str]:
        """Aliases of the inputs that the steps read, the first one included."""
        used = {self.start}
        for step in self.steps:
            if isinstance(step, Join):
                used.add(step.with_)
            elif isinstance(step, Union):
                used.update(step.with_)
            elif isinstance(step, LabelValues):
                used.add(step.source if step.source in self.inputs else step.source.partition(".")[0])
        return frozenset(used)

    def recipe_inputs(self) -> frozenset[str]:
        """Names (as identifiers, `_` for `-`) of the recipes that this one reads."""
        references = (InputReference.parse(text) for text in self.inputs.values())
        return frozenset(reference.recipe for reference in references if reference.recipe is not None)

    @property
    def ident(self) -> str:
        """The name as part of other names: the result's table, the asset key."""
        return identifier(self.name)

    def upto(self, step: int) -> Self:
        """The same recipe ending after its first `step` steps, with no output settings and no checks.

        Inputs that only later steps read are left out: they need not be there yet.
        """
        shorter = self.model_copy(update={"steps": self.steps[:step], "output": Output(), "checks": []})
        later = self.used_inputs() - shorter.used_inputs()
        inputs = {alias: reference for alias, reference in self.inputs.items() if alias not in later}
        return shorter.model_copy(update={"inputs": inputs})
