"""A recipe, read from data: `Recipe.parse` tells every mistake of form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from datasense_assets.recipes.language.recipe import RecipeModel
from datasense_assets.recipes.parsing import read_recipe

if TYPE_CHECKING:
    from datasense_assets.recipes.compiling.partly import Tables


class Recipe(RecipeModel):
    """A recipe, checked for form. Whether its columns exist and fit is `compile_recipe`'s matter.

    `inputs` maps an alias to `source:<source>.<table>` or `recipe:<name>`; the first is where the steps start.
    """

    @classmethod
    def parse(cls, data: Any, tables: Tables | None = None) -> Self:
        """The recipe in `data` (what JSON or YAML gives).

        Raises:
            RecipeErrors: every mistake of form, with paths such as `steps[2].on[0].left`; where there is one, also
                what else is wrong in the parts that can be read, such as a formula, and with `tables` what these parts
                have against the tables.

        """
        return read_recipe(cls, data, tables)
