"""Tables to tables: the recipe language, its compilation to one SQL statement, lineage and build.

Importing this package imports nothing: what it offers is loaded when first asked for. The graph is loaded with the
names of checks alone, and neither parses nor compiles a recipe.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasense_assets.recipes.compiling.compile import Compiled, compile_recipe
    from datasense_assets.recipes.errors import RecipeError, RecipeErrors
    from datasense_assets.recipes.order import recipe_order
    from datasense_assets.recipes.recipe import Recipe
    from datasense_assets.recipes.renaming import rename_column
    from datasense_assets.recipes.tableref import TableRef

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

_MODULES = {
    "Compiled": "compiling.compile",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "RecipeErrors": "errors",
    "TableRef": "tableref",
    "compile_recipe": "compiling.compile",
    "recipe_order": "order",
    "rename_column": "renaming",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
