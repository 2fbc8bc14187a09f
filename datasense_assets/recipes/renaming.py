"""Giving a column of an input another name: the recipe written anew, so that it makes the same of the renamed table.

A column is followed from the input through the steps for as long as it is there. What a step makes under the same name
after that is another column and keeps its name. Works on the recipe's own data: what does not refer to the column stays
as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datasense_assets.recipes.errors import Code, RecipeError, RecipeErrors
from datasense_assets.recipes.formula import FormulaErrors, rename_references
from datasense_assets.recipes.language.step import step_label
from datasense_assets.recipes.language.values import NewName
from datasense_assets.recipes.recipe import Recipe
from datasense_assets.recipes.tableref import TableRef

Data = dict[str, Any]

_NEW_NAME: TypeAdapter[str] = TypeAdapter(NewName)
_REFERENCES = frozenset(
    {
        *("column", "columns", "value_column", "then_column", "otherwise_column", "group_by", "partition_by", "keys"),
        *("names_from", "values_from"),
    }
)
_TARGETS = frozenset({"into", "index_into", "names_to", "values_to", "source_column"})
_SORT_KEYS = frozenset({"order_by", "by"})
_NOTE = "the names that the next step goes by"
_NEEDS_INPUTS = "which columns meet here hangs on the inputs' columns; give rename_column the inputs."
_FRESH = frozenset({"aggregate", "pivot", "unpivot"})
"""Steps whose new columns are never columns that were there before."""


def rename_column(
    recipe: Recipe,
    old: str,
    new: str,
    *,
    alias: str | None = None,
    inputs: Mapping[str, TableRef] | None = None,
) -> Recipe:
    """The recipe for an input whose column `old` is called `new`: it gives the same rows.

    Args:
        recipe: as it is.
        old: the column's name until now.
        new: its name from now on.
        alias: the input that has it; the first one unless given. Other aliases of the same table are renamed too.
        inputs: the tables before the renaming, by alias. Needed where a step joins or unites the renamed input; else a
            join that brings all columns of another input goes by the old names, and so does what comes after it.

    Raises:
        RecipeErrors: the new name meets another column (`name_collision`); there is no such input (`unknown_input`); a
            formula cannot be read (`bad_formula`); the new name does not fit (`name_too_long`, `invalid_value`); the
            inputs are needed and not given (`missing_table`).

    """
    start = recipe.start if alias is None else alias
    if start not in recipe.inputs:
        message = f"there is no input {start!r}; inputs are {', '.join(recipe.inputs)}."
        raise RecipeErrors([RecipeError("unknown_input", f"inputs.{start}", message)])
    if old == new:
        return recipe
    try:
        _NEW_NAME.validate_python(new)
    except ValidationError as error:
        (detail,) = error.errors(include_url=False)
        code: Code = "name_too_long" if detail["type"] == "name_too_long" else "invalid_value"
        raise RecipeErrors([RecipeError(code, f"inputs.{start}", f"{new!r} {detail['msg']}.")]) from None
    aliases = {name for name, reference in recipe.inputs.items() if reference == recipe.inputs[start]}
    return _Renaming(recipe, old, new, aliases, inputs or {}).run()


class _Renaming:
    """One walk through the steps; `names` are the columns that are called otherwise now, by what they were called."""

    def __init__(self, recipe: Recipe, old: str, new: str, aliases: set[str], inputs: Mapping[str, TableRef]) -> None:
        self.data: Data = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self.old, self.new = old, new
        self.aliases = aliases
        self.inputs = inputs
        self.before = _names_before(recipe, inputs) if inputs else []
        self.names: dict[str, str] = {old: new} if recipe.start in aliases else {}
        self.casts: dict[str, str] = {}
        self.errors: list[RecipeError] = []
        self.index = 0
        self.step: Data = {}
        for name in sorted(aliases & inputs.keys()):
            if new in inputs[name].columns:
                self.fail("name_collision", f"inputs.{name}", f"the input {name!r} has a column {new!r} already.")

    def run(self) -> Recipe:
        steps: list[Data] = []
        for index, step in enumerate(self.data.get("steps", [])):
            self.index, self.step = index, step
            steps += self.rewritten(step)
        if self.data.get("steps"):
            self.data["steps"] = steps
        self.rest()
        if self.errors:
            raise RecipeErrors(self.errors)
        return Recipe.parse(self.data)

    def fail(self, code: Code, path: str, message: str) -> None:
        self.errors.append(RecipeError(code, path, message))

    def mapped(self, name: str) -> str:
        return self.names.get(name, name)

    def sort_key(self, key: str) -> str:
        if key in self.names or not key.startswith("-"):
            return self.mapped(key)
        return "-" + self.mapped(key[1:])

    def created(self, made: Collection[str]) -> None:
        """New columns: one under the new name of another would take its place."""
        for name in made:
            if name in self.names.values() and name not in self.names:
                message = f"{step_label(self.index, self.step)} makes a column {name!r}, which is to be the new name of"
                before = next(was for was, now in self.names.items() if now == name)
                self.fail("name_collision", f"steps[{self.index}]", f"{message} {before!r}; choose another.")

    def rewritten(self, step: Data) -> list[Data]:
        """The step as it has to be now, with a step before it where it cannot be put otherwise."""
        special: Callable[[Data], list[Data]] | None = getattr(self, f"_{step['op']}", None)
        if special is not None:
            return special(step)
        return [self.usual(step)]

    def usual(self, step: Data) -> Data:
        """A step that keeps its columns but for sources that it says it does not keep."""
        done: Data = self.fields(step, fresh=step["op"] in _FRESH)
        made = [*self.made(step), *([] if step["op"] in _FRESH else self.targets(step))]
        self.created([name for name in made if name not in self.names])
        gone = (
            self.sources(step)
            if step.get("keep_source", step["op"] not in ("expand_list", "expand_json")) is False
            else []
        )
        self.names = {was: now for was, now in self.names.items() if was not in gone or was in self.targets(step)}
        return done

    def targets(self, step: Data) -> list[str]:
        found: list[str] = []
        for key in _TARGETS & step.keys():
            found += step[key] if isinstance(step[key], list) else [step[key]]
        return found + ([step["column"]] if step["op"] == "formula" else [])

    def made(self, step: Data) -> list[str]:
        """Columns made whose names are not written out."""
        prefix = step.get("prefix") or ""
        if step["op"] in ("expand_json", "expand_list"):
            return [prefix + name for name in step.get("fields") or ()]
        if step["op"] == "pivot":
            return [prefix + ("" if name is None else str(name)) for name in step["names"]]
        if step["op"] == "aggregate":
            return [item["into"] for item in step["aggregations"]]
        return []

    def sources(self, step: Data) -> list[str]:
        if step["op"] == "case":
            found = [branch.get("then_column") for branch in step["cases"]] + [step.get("otherwise_column")]
        elif step["op"] == "concat":
            found = [part.get("column") for part in step["parts"]]
        elif step["op"] == "coalesce":
            found = step["columns"]
        elif step.get("delimiter") is not None and step["op"] == "expand_list":
            found = []
        else:
            found = [step.get("column")]
        return [name for name in found if name is not None]

    def fields(self, value: Any, *, fresh: bool = False) -> Any:
        """The data with every reference mapped; names of new columns too where they are columns that were there."""
        if isinstance(value, list):
            return [self.fields(item, fresh=fresh) for item in value]
        if not isinstance(value, dict):
            return value
        done: Data = {}
        for key, item in value.items():
            if key in _REFERENCES or (key in _TARGETS and not fresh):
                done[key] = self.named(item, fresh=fresh)
            elif key in _SORT_KEYS:
                done[key] = None if item is None else [self.sort_key(each) for each in item]
            elif key == "formula":
                done[key] = self.formula(item)
            elif key in ("value", "then", "otherwise", "values", "mapping", "names", "fields", "note", "id"):
                done[key] = item
            else:
                done[key] = self.fields(item, fresh=fresh)
        return done

    def named(self, item: Any, *, fresh: bool) -> Any:
        if isinstance(item, str):
            return self.mapped(item)
        if isinstance(item, list):
            return [self.named(each, fresh=fresh) for each in item]
        return self.fields(item, fresh=fresh)

    def formula(self, text: str) -> str:
        try:
            return rename_references(text, self.names)
        except FormulaErrors as errors:
            where = f"{step_label(self.index, self.step)}: the formula cannot be read"
            self.fail("bad_formula", f"steps[{self.index}].formula", f"{where}: {errors.errors[0].message}")
        except ValueError as error:
            self.fail("invalid_value", f"steps[{self.index}].formula", str(error))
        return text

    def _back(self, names: Collection[str]) -> list[Data]:
        """A step that gives these columns the names back that the next step goes by; none where there are none."""
        back = {self.names.pop(name): name for name in names}
        return [{"op": "rename", "note": _NOTE, "columns": back}] if back else []

    def _select(self, step: Data) -> list[Data]:
        done = self.fields(step)
        self.names = {was: now for was, now in self.names.items() if was in step["columns"]}
        return [done]

    def _drop(self, step: Data) -> list[Data]:
        done = self.fields(step)
        self.names = {was: now for was, now in self.names.items() if was not in step["columns"]}
        return [done]

    def _rename(self, step: Data) -> list[Data]:
        done = {**step, "columns": {self.mapped(was): now for was, now in step["columns"].items()}}
        self.names = {was: now for was, now in self.names.items() if was not in step["columns"]}
        self.created(step["columns"].values())
        return [done]

    def _cast(self, step: Data) -> list[Data]:
        self.casts |= {item["column"]: self.mapped(item["column"]) for item in step["columns"]}
        return [self.fields(step)]

    def _aggregate(self, step: Data) -> list[Data]:
        done = self.fields(step, fresh=True)
        self.names = {was: now for was, now in self.names.items() if was in step.get("group_by", ())}
        self.created(self.made(step))
        return [done]

    def _pivot(self, step: Data) -> list[Data]:
        return self._aggregate(step)

    def _unpivot(self, step: Data) -> list[Data]:
        # The columns' names become values of the result.
        steps = [*self._back([name for name in step["columns"] if name in self.names]), step]
        self.created([step["names_to"], step["values_to"]])
        return steps

    def _split_choices(self, step: Data) -> list[Data]:
        return self._named_after_column(step, "/", step["choices"])

    def _geopoint(self, step: Data) -> list[Data]:
        return self._named_after_column(step, "_", ("latitude", "longitude", "altitude", "accuracy"))

    def _named_after_column(self, step: Data, end: str, parts: Collection[str]) -> list[Data]:
        prefix = step["column"] + end if step.get("prefix") is None else step["prefix"]
        was = step["column"] in self.names
        done = self.usual(step)
        self.created([prefix + part for part in parts])
        return [{**done, "prefix": prefix} if was else done]

    def _label_values(self, step: Data) -> list[Data]:
        source, inputs = step["source"], self.data["inputs"]
        name, _, column = (source, "", "") if source in inputs else source.partition(".")
        column = column or step["column"]
        wanted = self.new if name in self.aliases and column == self.old else column
        done = self.usual(step)
        if wanted != done["column"]:
            done["source"] = f"{name}.{wanted}"
        elif wanted != column:
            done["source"] = name
        return [done]

    def _join(self, step: Data) -> list[Data]:
        there = {self.old: self.new} if step["with"] in self.aliases else {}
        listed, semi = step.get("columns"), step["how"] in ("semi", "anti")
        right = list(self.inputs[step["with"]].columns.names) if step["with"] in self.inputs else listed
        if not semi and right is None and self.names and not there:
            # Whether a name of the right meets the new one cannot be known; the join sees what it always saw.
            return [*self._back(list(self.names)), step]
        if not semi and there and not self.before:
            self.fail("missing_table", f"steps[{self.index}].with", _NEEDS_INPUTS)
            return [step]
        done: Data = {**step, "on": [self._key(key, there) for key in step["on"]]}
        if listed is not None:
            once = _same_keys(done["on"])
            said_once = {there.get(name, name) for name in _same_keys(step["on"])}
            # What came once, as the key, would come besides it where the two keys are not called the same any more.
            done["columns"] = [now for now in (there.get(n, n) for n in listed) if now not in said_once or now in once]
            lost = sorted(once.difference(said_once).intersection(done["columns"]))
            if lost and not semi:
                message = f"{step_label(self.index, step)} brings {lost[0]!r}, which would be the name of both keys"
                fix = "a key comes once, and not with what the other table has of it; write another name."
                self.fail("name_collision", f"steps[{self.index}].columns", f"{message}: {fix}")
        if not semi:
            self._brought(step, there, right or ())
        return [done]

    def _key(self, key: Data, there: Mapping[str, str]) -> Data:
        return {**key, "left": self.mapped(key["left"]), "right": there.get(key["right"], key["right"])}

    def _brought(self, step: Data, there: Mapping[str, str], right: Collection[str]) -> None:
        """What the right's columns are called, before and now: a name that both sides have gets the suffix."""
        listed, suffix = step.get("columns"), step.get("suffix", "_2")
        keys = {key["right"] for key in step["on"] if listed is None or key["left"] == key["right"]}
        # Without the inputs, all that is known of the left is that it has what is renamed.
        left = self.before[self.index] if self.before else tuple(self.names)
        now_left = {self.mapped(name) for name in left}
        found: dict[str, str] = {}
        for name in listed if listed is not None else right:
            if name not in keys:
                now = there.get(name, name)
                found[name + suffix if name in left else name] = now + suffix if now in now_left else now
        taken = [now for now in found.values() if now in now_left]
        if taken or len(set(found.values())) < len(found):
            message = f"{step_label(self.index, self.step)} would bring a column that is there already"
            self.fail("name_collision", f"steps[{self.index}].suffix", f"{message}; write another suffix first.")
        self.names |= {before: after for before, after in found.items() if before != after}

    def _union(self, step: Data) -> list[Data]:
        renamed = [name for name in step["with"] if name in self.aliases]
        if not renamed:
            steps = [*self._back(list(self.names)), step]
            self.created([step["source_column"]] if step.get("source_column") else [])
            return steps
        if not self.before:
            self.fail("missing_table", f"steps[{self.index}].with", _NEEDS_INPUTS)
            return [step]
        others = [name for name in step["with"] if name not in self.aliases]
        mixed = [name for name in others if name in self.inputs and self.old in self.inputs[name].columns]
        stray = [name for name in self.names if name != self.old]
        met = [
            *self.before[self.index],
            *(n for name in others if name in self.inputs for n in self.inputs[name].columns),
        ]
        if self.new in met:
            message = f"{step_label(self.index, step)} would unite {self.new!r} with another column of that name"
            self.fail("name_collision", f"steps[{self.index}].with", f"{message}; choose another.")
        if mixed or self.names.get(self.old, self.new) != self.new:
            message = f"{step_label(self.index, step)} unites {self.old!r} of {', '.join(renamed)} with other columns"
            fix = f"give {self.new!r} its old name back in a recipe of its own and unite that."
            self.fail("name_collision", f"steps[{self.index}].with", f"{message}; {fix}")
        steps = self._back(stray)
        if self.old in self.before[self.index] and self.old not in self.names:
            steps.append({"op": "rename", "note": _NOTE, "columns": {self.old: self.new}})
        self.names[self.old] = self.new
        return [*steps, step]

    def rest(self) -> None:
        """Output and checks, which are about the result."""
        output = self.data.get("output") or {}
        if "indexes" in output:
            output["indexes"] = [[self.mapped(name) for name in index] for index in output["indexes"]]
        if output.get("key") is not None:
            output["key"] = [self.mapped(name) for name in output["key"]]
        for check in self.data.get("checks") or ():
            if check["check"] == "max_lossy_casts":
                if check.get("column") is not None:
                    check["column"] = self.casts.get(check["column"], check["column"])
                continue
            before = check.get("to") or check.get("column")
            check.update(self.fields(check))
            if check["check"] == "exists_in":
                there = {self.old: self.new} if check["in"] in {self.data["inputs"][a] for a in self.aliases} else {}
                wanted = there.get(before, before)
                if check.get("to") is not None or wanted != check["column"]:
                    check["to"] = wanted


def _same_keys(pairs: Collection[Data]) -> set[str]:
    """Names of a join's keys that are called the same on both sides."""
    return {pair["left"] for pair in pairs if pair["left"] == pair["right"]}


def _names_before(recipe: Recipe, inputs: Mapping[str, TableRef]) -> list[tuple[str, ...]]:
    from datasense_assets.recipes.compiling.walk import names_before

    return names_before(recipe, inputs)
