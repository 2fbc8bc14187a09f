"""What the values of a manifest have to do with each other, told even while single values are still wrong.

It works on the file's plain data, so that a bad time zone does not hide a recipe that reads an unknown source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasense_assets.catalog.manifest_references import reference_problems
from datasense_assets.catalog.models import NAME_PATTERN, Problem, identifier, table_name
from datasense_assets.catalog.yaml_text import read_yaml

_SECRET_WORDS = re.compile(
    r"(?:^|_)(?:password|passwd|token|secret|api_?key|private_?key|service_account)$", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)


def take_promises(given: Any) -> tuple[Any, list[Any]]:
    """The manifest's recipes without their `fresh_within`, which is no part of one, and these in the same order."""
    if not isinstance(given, list):
        return given, []
    promises = [each.get("fresh_within") if isinstance(each, dict) else None for each in given]
    bare = [
        {name: value for name, value in each.items() if name != "fresh_within"} if isinstance(each, dict) else each
        for each in given
    ]
    return bare, promises


def load_recipes(given: Any, folder: Path) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The recipes of a manifest, those in their own files read from `folder`; {} stands for one that is no recipe."""
    if given is None:
        return [], []
    if not isinstance(given, list):
        return [], [Problem(path="recipes", message="is no list.", fix="Start each recipe with a dash.")]
    recipes, problems = [], []
    for index, item in enumerate(given):
        at = f"recipes[{index}]"
        value: Any = item
        if isinstance(item, dict) and "file" in item and set(item) == {"file"}:
            value, wrong = _recipe_file(str(item["file"]), folder, at)
            problems += wrong
        elif not isinstance(item, dict):
            fix = "Write the recipe here, or {file: recipes/NAME.json}."
            problems.append(Problem(path=at, message="is no recipe.", fix=fix))
        recipes.append(value if isinstance(value, dict) else {})
    return recipes, problems


def _recipe_file(name: str, folder: Path, at: str) -> tuple[Any, list[Problem]]:
    path = folder / name
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "no such file") if isinstance(error, OSError) else "it is not UTF-8 text"
        fix = "The path counts from the manifest's folder."
        return None, [Problem(path=f"{at}.file", message=f"{name} cannot be read: {reason}.", fix=fix)]
    problems = [each.model_copy(update={"path": f"{at}({name})", "line": None}) for each in document.problems]
    if not problems and not isinstance(document.data, dict):
        problems.append(Problem(path=f"{at}.file", message=f"{name} holds no recipe.", fix="Write an object into it."))
    return document.data, problems


def absolute_files(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The data with every secret's `{file: ...}` counted from `folder`."""

    def placed(reference: Any) -> Any:
        if isinstance(reference, dict) and isinstance(reference.get("file"), str) and reference["file"]:
            return {**reference, "file": str(folder / reference["file"])}
        return reference

    made = dict(data)
    if isinstance(org := data.get("organization"), dict):
        made["organization"] = {**org}
        if "warehouse" in org:
            made["organization"]["warehouse"] = placed(org["warehouse"])
        if isinstance(org.get("contacts"), list):
            made["organization"]["contacts"] = [placed(each) for each in org["contacts"]]
    if isinstance(sources := data.get("sources"), list):
        made["sources"] = [
            {**source, "credentials": {name: placed(each) for name, each in source["credentials"].items()}}
            if isinstance(source, dict) and isinstance(source.get("credentials"), dict)
            else source
            for source in sources
        ]
    return made


def problems_between(data: Mapping[str, Any], recipes: list[dict[str, Any]]) -> list[Problem]:
    """Names given twice, secrets in plain text, references to nothing, circles."""
    sources = [
        (f"sources[{index}]", each) for index, each in enumerate(_list(data.get("sources"))) if isinstance(each, dict)
    ]
    named = [(f"recipes[{index}]", each) for index, each in enumerate(recipes) if each]
    return [
        *_duplicates(((f"{at}.slug", each.get("slug")) for at, each in sources), "source"),
        *(problem for at, each in sources for problem in _source_problems(at, each)),
        *_warehouse_names(sources),
        *(problem for at, each in named for problem in _recipe_name_problems(at, each)),
        *_duplicates(((f"{at}.name", each.get("name")) for at, each in named), "recipe"),
        *reference_problems(sources, named),
        *(problem for at, each in named for problem in _json_problems(at, each)),
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _duplicates(
    named: Iterator[tuple[str, Any]], what: str, same: Callable[[str], str] = identifier
) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for at, name in named:
        if not isinstance(name, str):
            continue
        if same(name) in first:
            message = f"{name!r} names a second {what}; the first is {first[same(name)]}."
            yield Problem(path=at, message=message, fix="Each needs a name of its own (- and _ count as the same).")
        else:
            first[same(name)] = at


def _source_problems(at: str, source: Mapping[str, Any]) -> Iterator[Problem]:
    tables = [
        (f"{at}.tables[{index}]", each)
        for index, each in enumerate(_list(source.get("tables")))
        if isinstance(each, dict)
    ]
    yield from _duplicates(((f"{path}.slug", table.get("slug")) for path, table in tables), "table of this source")
    resources = ((f"{path}.resource", table.get("resource")) for path, table in tables)
    yield from _duplicates(resources, "table for the same resource", same=str)
    for path, table in tables:
        yield from _json_problems(f"{path}.checks", table.get("checks"))
    if source.get("discover_all") is False and "tables" not in source:
        fix = "List tables, or leave discover_all out."
        yield Problem(path=f"{at}.discover_all", message="without tables there would be nothing to load.", fix=fix)
    if isinstance(config := source.get("config"), dict):
        yield from _secrets_in(f"{at}.config", config)
        yield from _json_problems(f"{at}.config", config)


def _secrets_in(at: str, config: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in config.items():
        path = f"{at}.{key}"
        if isinstance(value, dict):
            yield from _secrets_in(path, value)
        elif isinstance(value, str) and value and _SECRET_WORDS.search(str(key)):
            fix = f"Move it to credentials: {{{key}: {{env: NAME_OF_VARIABLE}}}}."
            yield Problem(path=path, message="holds a secret in plain text.", fix=fix)
        elif isinstance(value, str) and _URL_WITH_PASSWORD.match(value):
            fix = "Take the part before @ out and give user and password as credentials."
            yield Problem(path=path, message="holds a password inside an address.", fix=fix)


def _json_problems(at: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                yield Problem(path=f"{at}.{key}", message=f"the name {key!r} is no text.", fix="Put it in quotes.")
            yield from _json_problems(f"{at}.{key}", each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _json_problems(f"{at}[{index}]", each)
    elif not _storable(value):
        yield Problem(
            path=at, message="cannot be stored.", fix="Write a finite number, or text without NUL and half characters."
        )
    elif not isinstance(value, str | int | float | None):
        message = f"a value of kind {type(value).__name__} cannot be stored."
        yield Problem(path=at, message=message, fix="Write it as text or number.")


def _storable(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" not in value and not re.search("[\ud800-\udfff]", value)
    return not isinstance(value, float) or math.isfinite(value)


def _warehouse_names(sources: list[tuple[str, dict[str, Any]]]) -> Iterator[Problem]:
    first: dict[str, tuple[str, str]] = {}
    for at, source in sources:
        for index, table in enumerate(_list(source.get("tables"))):
            slug, own = source.get("slug"), table.get("slug") if isinstance(table, dict) else None
            if not isinstance(slug, str) or not isinstance(own, str):
                continue
            name, path = table_name(slug, own), f"{at}.tables[{index}].slug"
            if name in first and first[name][0] != at:
                message = f"its warehouse table would be {name}, as that of {first[name][1]}."
                yield Problem(path=path, message=message, fix="Choose another slug.")
            first.setdefault(name, (at, path))


def is_recipe_name(name: Any) -> bool:
    """Whether it can name a recipe: lower case, and no two underscores (they mark source tables)."""
    return isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) is not None and "__" not in name.replace("-", "_")


def _recipe_name_problems(at: str, recipe: Mapping[str, Any]) -> Iterator[Problem]:
    if "name" not in recipe:
        yield Problem(path=f"{at}.name", message="is missing.", fix="Add name.")
    elif not is_recipe_name(recipe["name"]):
        fix = "Use lower-case letters, digits, - and single _, a letter first, at most 40."
        yield Problem(path=f"{at}.name", message=f"{recipe['name']!r} is no valid name.", fix=fix)
    if recipe.get("title") is not None and not isinstance(recipe["title"], str):
        yield Problem(path=f"{at}.title", message="is no text.", fix="Put it in quotes.")
    if not isinstance(recipe.get("inputs"), dict) or not recipe["inputs"]:
        fix = "Write inputs: {alias: source:SOURCE.TABLE}."
        yield Problem(path=f"{at}.inputs", message="a recipe needs at least one input.", fix=fix)
