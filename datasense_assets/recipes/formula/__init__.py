"""Formulas: spreadsheet-like text to one Ibis expression. Importing this loads neither lark nor Ibis."""

from __future__ import annotations

from datasense_assets.recipes.formula.errors import FormulaError, FormulaErrors
from datasense_assets.recipes.formula.parse import Formula, parse_formula, rename_reference, rename_references

__all__ = ["Formula", "FormulaError", "FormulaErrors", "parse_formula", "rename_reference", "rename_references"]
