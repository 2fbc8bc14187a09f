"""Tables to tables: the recipe language, its compilation to one SQL statement, lineage and build.

Importing this package, or `Recipe` from it, imports no ibis; what compiles is loaded when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasense_assets.recipes.errors import RecipeError, RecipeErrors
from datasense_assets.recipes.order import recipe_order
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.renaming import rename_column
from datasense_assets.recipes.tableref import TableRef

if TYPE_CHECKING:
    from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe

__all__ = [
    "Compiled",
    "Recipe",
    "RecipeError",
    "RecipeErrors",
    "TableRef",
    "compile_recipe",
    "recipe_order",
    "rename_column",
]


def __getattr__(name: str) -> Any:
    if name in ("compile_recipe", "Compiled"):
        from datasense_assets.recipes.compiling import compile

        return getattr(compile, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
