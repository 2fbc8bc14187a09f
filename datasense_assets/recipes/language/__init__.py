"""The recipe language as pydantic models: what may be written, and nothing of what it compiles to.

No module here imports ibis, so that the asset graph can read a recipe's inputs cheaply. A step of the language is one
class here and one function in `recipes.compiling`; both sides are joined by `compiling.registry`.
"""
