"""The manifest: one YAML file for one organisation, as models, and its reading with every problem told at once.

What a single value may be is decided here by the models; what values have to do with each other in `manifest_checks`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from datasense_assets.catalog.credentials import SecretReference
from datasense_assets.catalog.freshness import parse_duration
from datasense_assets.catalog.manifest_checks import absolute_files, load_recipes, problems_between, take_promises
from datasense_assets.catalog.models import (
    RESERVED_SOURCE_SLUGS,
    SLUG_PATTERN,
    Alerting,
    ColumnType,
    Cron,
    Deletes,
    Frozen,
    FullReload,
    Grain,
    Problem,
    Schedule,
    Tier,
)
from datasense_assets.catalog.times import cron_problem, is_timezone
from datasense_assets.catalog.yaml_text import YamlText, read_yaml, shown

_NAMED_SCHEDULES = ("15min", "hourly", "daily", "weekly", "manual")
_TABLE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,119}$"


class ManifestErrors(Exception):
    """A manifest that cannot be applied: `path` of the file and every problem in it."""

    def __init__(self, problems: Iterable[Problem], path: Path | None = None) -> None:
        """Keep the problems; the text lists them, one a line."""
        self.problems = tuple(problems)
        self.path = path
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _wrong(message: str, fix: str) -> PydanticCustomError:
    # Braces would be read as places to fill in.
    return PydanticCustomError("manifest", "{said}", {"said": message, "fix": fix})


def _named_by(pattern: str, what: str, clean: Callable[[str], str]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            raise _wrong("must be text", f"Write {what}, in quotes if it looks like a number.")
        if re.fullmatch(pattern, value) is None:
            suggested = clean(value)
            fix = f"Use {what}" + (f", for example {suggested!r}." if re.fullmatch(pattern, suggested) else ".")
            raise _wrong(f"{value!r} is no valid name", fix)
        return value

    return check


def slug_from(text: str) -> str:
    """The nearest slug to any text in any script: transliterated, lower case, dashes, at most 40 characters."""
    from anyascii import anyascii

    slug = re.sub(r"[^a-z0-9]+", "-", anyascii(text).lower()).strip("-")
    slug = slug if not slug or slug[0].isalpha() else f"s-{slug}"
    return slug[:40].rstrip("-")


def _name_from(text: str) -> str:
    return slug_from(text).replace("-", "_")


def _not_reserved(slug: str) -> str:
    if slug in RESERVED_SOURCE_SLUGS:
        raise _wrong(f"{slug!r} is kept for the organisation's recipes", "Choose another slug.")
    return slug


def _timezone(name: str) -> str:
    if not is_timezone(name):
        from zoneinfo import available_timezones

        near = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.6)
        fix = f"Did you mean {near[0]}?" if near else "Write an IANA name such as Asia/Kolkata."
        raise _wrong(f"{name!r} is no time zone", fix)
    return name


def _schedule(value: Any) -> Any:
    if isinstance(value, Cron) or (isinstance(value, str) and value in _NAMED_SCHEDULES):
        return value
    if isinstance(value, dict) and set(value) == {"cron"} and isinstance(value["cron"], str):
        wrong = cron_problem(value["cron"])
        if wrong is not None:
            raise _wrong(f"cron {value['cron']!r}: {wrong}", 'Write five fields, for example "0 6 * * *".')
        return value
    fix = f'Use one of {", ".join(_NAMED_SCHEDULES)}, or {{cron: "0 6 * * *"}}.'
    raise _wrong("is no schedule", fix)


def _duration(value: Any) -> timedelta:
    try:
        return value if isinstance(value, timedelta) else parse_duration(value if isinstance(value, str) else "")
    except ValueError as error:
        fix = "Write a number and minutes, hours, days or weeks, for example 6 hours."
        raise _wrong("is no length of time", fix) from error


def _not_blank(text: str) -> str:
    if not text.strip():
        raise _wrong("is empty", "Write some text.")
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
_SLUG = "lower-case letters, digits and dashes, a letter first, at most 40"
ManifestSlug = Annotated[str, BeforeValidator(_named_by(SLUG_PATTERN, _SLUG, slug_from))]
ConnectorName = Annotated[str, BeforeValidator(_named_by(r"^[a-z][a-z0-9_]{0,39}$", "a connector's name", _name_from))]
CredentialName = Annotated[str, BeforeValidator(_named_by(r"^[a-z][a-z0-9_]{0,62}$", "a plain name", _name_from))]
TableSlug = Annotated[
    str, BeforeValidator(_named_by(_TABLE_PATTERN, "letters, digits, _ and -, at most 120", _name_from))
]


class OrganizationManifest(Frozen):
    """The organisation itself."""

    slug: ManifestSlug
    name: Annotated[str, AfterValidator(_not_blank)]
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    tier: Tier = Tier.STANDARD
    contacts: tuple[SecretReference, ...] = ()
    alerts: Alerting = Alerting()
    warehouse: SecretReference | None = None


class PartitionsManifest(Frozen):
    """Time partitions; `start` left out: from the first day known, else from the day the source was added."""

    every: Grain = Grain.DAY
    start: date | None = None


class TableManifest(Frozen):
    """A table to load: `resource` is the connector's own id of it. `types` by column key; `key` names key columns;
    `checks` are looked over by the recipe language.
    """

    slug: TableSlug
    resource: Annotated[str, AfterValidator(_not_blank)]
    title: str | None = None
    types: dict[str, ColumnType] = Field(default_factory=dict)
    key: tuple[str, ...] = ()
    checks: tuple[Any, ...] = ()


class SourceManifest(Frozen):
    """A source. Without `tables` it takes everything that discovery finds; with both, the listed ones are fixed."""

    slug: Annotated[ManifestSlug, AfterValidator(_not_reserved)]
    connector: ConnectorName
    config: dict[str, Any] = Field(default_factory=dict)
    credentials: dict[CredentialName, SecretReference] = Field(default_factory=dict)
    tables: Annotated[tuple[TableManifest, ...], Field(min_length=1)] | None = None
    discover_all: bool | None = None
    schedule: Annotated[Schedule, BeforeValidator(_schedule)] = "daily"
    partitions: PartitionsManifest = PartitionsManifest()
    deletes: Deletes = Deletes.IGNORE
    fresh_within: Duration | None = None
    full_reload: FullReload | None = None
    max_minutes: Annotated[int, Field(ge=1, le=10_080, strict=True)] | None = None

    @property
    def takes_everything(self) -> bool:
        """Whether tables beyond the listed ones are loaded as discovery finds them."""
        return self.tables is None if self.discover_all is None else self.discover_all


class RecipeManifest(Frozen):
    """A recipe: its name, its title and its whole text as data, in the order of the file.

    `fresh_within` stands beside the recipe and is no part of it: another promise builds nothing again.
    """

    name: str
    title: str | None = None
    fresh_within: Duration | None = None
    spec: dict[str, Any]


class Manifest(Frozen):
    """A whole file, checked."""

    version: Literal[1]
    organization: OrganizationManifest
    sources: tuple[SourceManifest, ...] = ()
    recipes: tuple[RecipeManifest, ...] = ()


RawCheck = Callable[[Sequence[tuple[str, Mapping[str, Any]]], Sequence[tuple[str, Mapping[str, Any]]]], list[Problem]]


def parse_manifest(text: str, path: Path | None = None, *, check_raw: RawCheck | None = None) -> Manifest:
    """Read a manifest; `path` is where it stands, from which `{file: ...}` of recipes and secrets are found.

    `check_raw` judges sources and recipes as they are written, as (path, data), where the file has a problem: so that
    what connectors and the recipe language refuse is told in the same list.

    Raises:
        ManifestErrors: with every problem of the file, each with its path in it and, where known, its line.

    """
    document = read_yaml(text)
    if document.problems and document.data is None:
        raise ManifestErrors(document.problems, path)
    if not isinstance(document.data, dict):
        fix = "Start with version: 1 and organization:."
        raise ManifestErrors([Problem(path="(file)", message="the file holds no manifest.", fix=fix)], path)
    folder = path.resolve().parent if path is not None else Path.cwd()
    data = dict(document.data)
    written, promises = take_promises(data.get("recipes"))
    recipes, problems = load_recipes(written, folder)
    data["recipes"] = [
        {"name": each.get("name"), "title": each.get("title"), "fresh_within": promise, "spec": each}
        for each, promise in zip(recipes, promises, strict=False)
    ]
    manifest: Manifest | None = None
    try:
        manifest = Manifest.model_validate(absolute_files(data, folder))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        problems += [_problem(each, document) for each in errors if _is_ours(each["loc"])]
    problems += problems_between(data, recipes)
    found = _with_lines([*document.problems, *problems], document)
    if found or manifest is None:
        sources, specs = _written("sources", data.get("sources")), _written("recipes", recipes)
        said = check_raw(sources, specs) if check_raw is not None else []
        raise ManifestErrors(_with_lines([*found, *said], document), path)
    return manifest


def _is_ours(loc: tuple[str | int, ...]) -> bool:
    """Whether the models judge it; what stands in a recipe is judged by `problems_between` and the recipe language."""
    return loc[:1] != ("recipes",) or loc[2:3] == ("fresh_within",)


def _written(name: str, given: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Entries of `sources` or `recipes` that hold anything, with their path."""
    entries = enumerate(given) if isinstance(given, list) else ()
    return [(f"{name}[{index}]", each) for index, each in entries if isinstance(each, dict) and each]


def _with_lines(problems: list[Problem], document: YamlText) -> list[Problem]:
    lines = {shown(path): line for path, line in document.lines.items()}

    def placed(problem: Problem) -> Problem:
        path = problem.path
        while problem.line is None and path:
            if path in lines:
                return problem.model_copy(update={"line": lines[path]})
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return problem

    unique = dict.fromkeys(map(placed, problems))
    # what the language of recipes says of a place is not said in other words too
    coded = {each.path for each in unique if each.code is not None}
    told = [each for each in unique if each.code is not None or each.path not in coded]
    return sorted(told, key=lambda each: each.line or 0)


def _problem(error: ErrorDetails, document: YamlText) -> Problem:
    loc = tuple(part for part in error["loc"] if part not in ("[key]", "literal", "Cron"))
    path, kind, context = shown(loc), error["type"], error.get("ctx", {})
    if kind == "missing":
        message, fix = "is missing.", f"Add {loc[-1]}."
    elif kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _fields_at(loc[:-1]), n=1)
        message = f"there is no field {str(loc[-1])!r} here."
        fix = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(_fields_at(loc[:-1]))}."
    elif kind in ("enum", "literal_error"):
        message, fix = "has a value that is not known.", f"Use {context.get('expected', 'another value')}."
    elif kind == "tuple_type":
        message, fix = "is no list.", "Start each entry with a dash."
    elif kind == "too_short":
        message, fix = "is an empty list.", "List at least one, or leave the field out."
    elif "fix" in context:
        message, fix = f"{context.get('said', error['msg'])}.", str(context["fix"])
    else:
        message, fix = f"{error['msg']}.", "Correct the value."
    return Problem(path=path, message=message, fix=fix, line=document.line(loc))


_MODELS: dict[str, type[BaseModel]] = {
    "": Manifest,
    "organization": OrganizationManifest,
    "sources": SourceManifest,
    "sources.tables": TableManifest,
    "sources.partitions": PartitionsManifest,
}


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    model = _MODELS.get(".".join(str(part) for part in loc if not isinstance(part, int)))
    return list(model.model_fields) if model is not None else []
