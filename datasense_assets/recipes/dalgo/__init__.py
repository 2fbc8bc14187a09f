"""Recipes from Dalgo's operations, as github.com/DalgoT4D/dbt-automation documents them: same rows, or said why not."""

from datasense_assets.recipes.dalgo.files import Imported, import_dalgo

__all__ = ["Imported", "import_dalgo"]
