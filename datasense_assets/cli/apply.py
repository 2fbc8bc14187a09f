"""`datasense apply`: the catalog made equal to manifests, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasense_assets.cli.address import open_catalog, read_organization
from datasense_assets.cli.errors import InputWrong, explain
from datasense_assets.cli.output import JsonFlag, Progress, print_json, progress, say, warn

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from datasense_assets.catalog.apply import Plan
    from datasense_assets.catalog.manifest import Manifest, SourceManifest
    from datasense_assets.catalog.models import Organization, Problem, Source

_SERVERS_AT_ONCE = 8
_PLANNED = {"create": "to create", "update": "to update", "delete": "to delete", "keep": "stay as they are"}
_DONE = {"create": "created", "update": "updated", "delete": "deleted", "keep": "unchanged"}
_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red"), "keep": (" ", "dim")}


def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Manifests, one an organisation.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    no_discover: Annotated[
        bool, typer.Option("--no-discover", help="Do not ask new sources for their tables afterwards.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the catalog equal to manifests, in one transaction: with any problem in any file, nothing is written.

    Sources and recipes that a manifest no longer has are deleted from the catalog; their tables stay in the warehouse.
    """
    manifests = read_manifests(files)
    with open_catalog() as catalog:
        plans = apply_manifests(catalog, manifests, dry_run=dry_run)
        for plan in plans.values():
            show_plan(plan, dry_run=dry_run)
        found, warnings = ([], []) if dry_run or no_discover else prepare_and_discover(catalog, plans)
    if as_json:
        changes = [
            {"action": c.action, "kind": c.kind, "path": c.path, "details": list(c.details)}
            for plan in plans.values()
            for c in plan.changes
        ]
        print_json({"dry_run": dry_run, "changes": changes, "discovered": found, "warnings": warnings})


def read_manifests(files: Sequence[Path]) -> list[tuple[Path, Manifest]]:
    """The manifests in the files.

    Raises:
        InputWrong: a file cannot be read, or any of them has problems: those of all files are listed.

    """
    from datasense_assets.catalog.manifest import ManifestErrors, parse_manifest

    manifests: list[tuple[Path, Manifest]] = []
    problems: list[Problem] = []
    for path in files:
        try:
            manifests.append((path, parse_manifest(read_text(path), path, check_raw=check_raw)))
        except ManifestErrors as error:
            problems += placed(error.problems, path, files)
    if problems:
        raise refusal(problems)
    twice = [slug for slug, n in Counter(m.organization.slug for _, m in manifests).items() if n > 1]
    if twice:
        raise InputWrong(
            f"Several files describe the organisation {', '.join(twice)}.",
            advice="One manifest describes one organisation whole: put them together.",
        )
    return manifests


def read_text(path: Path) -> str:
    """The file's text; raises InputWrong where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "it cannot be opened") if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputWrong(f"{path} cannot be read: {reason}.", advice="Give the path of a YAML file.") from None


def placed(problems: Iterable[Problem], path: Path, files: Sequence[Path]) -> list[Problem]:
    """The problems, each with its file before its path where there are several files."""
    if len(files) < 2:
        return list(problems)
    return [problem.model_copy(update={"path": f"{path}: {problem.path}"}) for problem in problems]


def refusal(problems: Sequence[Problem]) -> InputWrong:
    """The error that lists problems of manifests."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    return InputWrong(f"The manifest has {count}.", advice="Nothing was written.", problems=problems)


def apply_manifests(catalog: Engine, manifests: Sequence[tuple[Path, Manifest]], *, dry_run: bool) -> dict[str, Plan]:
    """Apply all in one transaction, or only plan it; the plans by organisation.

    Raises:
        InputWrong: a check of the connectors or the recipe language found problems; nothing was written.

    """
    from datasense_assets.catalog.apply import apply_manifest, plan_apply
    from datasense_assets.catalog.manifest_approval import check_manifest
    from datasense_assets.cli.recipe_checks import check_recipes

    paths = [path for path, _ in manifests]
    with catalog.begin() as connection:
        problems: list[Problem] = []
        for path, manifest in manifests:
            found = check_manifest(
                manifest,
                secret_keys=_keys_for(manifest),
                check_source=check_source,
                check_recipes=lambda given: check_recipes(connection, given),
            )
            problems += placed(found, path, paths)
        if problems:
            raise refusal(problems)
        do = plan_apply if dry_run else apply_manifest
        plans = {manifest.organization.slug: do(connection, manifest) for _, manifest in manifests}
        if not dry_run:
            record_lineages(connection, plans)
        return plans


def record_lineages(connection: Connection, slugs: Iterable[str]) -> None:
    """Keep what the changed recipes' columns are made of, where the columns that they read are known."""
    for slug in slugs:
        org = read_organization(connection, slug)
        if org.recipes and any(table.columns for source in org.sources for table in source.tables):
            from datasense_assets.recipes.recording import refresh_lineage

            refresh_lineage(connection, org)


def check_raw(
    sources: Sequence[tuple[str, Mapping[str, Any]]], recipes: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[Problem]:
    """What connectors and the recipe language refuse in a manifest that is wrong in other ways too."""
    from datasense_assets.cli.recipe_checks import parse_recipes
    from datasense_assets.cli.table_checks import form_problems
    from datasense_assets.connectors import validate_config

    problems: list[Problem] = []
    for path, source in sources:
        config, credentials = source.get("config", {}), source.get("credentials", {})
        if isinstance(source.get("connector"), str) and isinstance(config, dict) and isinstance(credentials, dict):
            found = validate_config(source["connector"], config, [str(name) for name in credentials])
            problems += [each.model_copy(update={"path": f"{path}.{each.path}"}) for each in found]
        tables = source.get("tables")
        problems += form_problems(
            [
                (f"{path}.tables[{index}]", table.get("checks"))
                for index, table in enumerate(tables if isinstance(tables, list) else ())
                if isinstance(table, dict)
            ]
        )
    return problems + parse_recipes(recipes)[1]


def check_source(source: SourceManifest) -> list[Problem]:
    """What is wrong with a source's connector, config, names of credentials, and the form of its tables' checks."""
    from datasense_assets.cli.table_checks import form_problems
    from datasense_assets.connectors import validate_config

    problems = validate_config(source.connector, source.config, source.credentials.keys())
    return problems + form_problems([(f"tables[{i}]", table.checks) for i, table in enumerate(source.tables or ())])


def _keys_for(manifest: Manifest) -> tuple[str, ...]:
    """Keys to try on encrypted secrets; () where the file has none, so that no key is made for nothing."""
    from datasense_assets.catalog.credentials import secret_keys
    from datasense_assets.settings import get_settings

    org = manifest.organization
    references = [*org.contacts, *([org.warehouse] if org.warehouse else [])]
    references += [reference for source in manifest.sources for reference in source.credentials.values()]
    return secret_keys(get_settings()) if any(reference.encrypted for reference in references) else ()


def show_plan(plan: Plan, *, dry_run: bool) -> None:
    """The changes, one a line, and how many of each there are; on stderr."""
    for change in plan.changed:
        sign, style = _SIGNS[change.action]
        details = f" ({', '.join(change.details)})" if change.details else ""
        say(f"{sign} {change.kind} {change.path}{details}", style=style)
    counts: Counter[str] = Counter(change.action for change in plan.changes)
    forms = _PLANNED if dry_run else _DONE
    said = ", ".join(f"{counts[action]} {word}" for action, word in forms.items() if counts[action])
    org = plan.changes[0].path.partition("/")[0] if plan.changes else ""
    say(f"{org}: {said}." + (" Nothing was written (--dry-run)." if dry_run else ""))


def prepare_and_discover(catalog: Engine, plans: Iterable[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Make each organisation's place in the warehouse, and ask sources that were never asked for their tables.

    Servers are asked side by side, the sources of one server in turn. A failure is a warning: the catalog stands, and
    the sentence says what to do. A server that does not answer is given up after some seconds, and not asked again.
    """
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.organizations import prepare_organization

    found: list[dict[str, Any]] = []
    warnings: list[str] = []
    asked: dict[str, list[tuple[Organization, Source]]] = {}
    for slug in plans:
        with catalog.connect() as connection:
            org = read_organization(connection, slug)
            undiscovered = _never_asked(connection, org)
        with progress(f"Preparing {slug}"):
            try:
                prepare_organization(catalog, get_settings(), org)
            except Exception as error:  # noqa: BLE001 - what is not expected is raised again
                warnings.append(_warning(error, f"The warehouse of {slug} is not prepared"))
        for source in undiscovered:
            asked.setdefault(_server(source), []).append((org, source))
    if asked:
        with progress("Asking new sources for their tables") as shown, ThreadPoolExecutor(_SERVERS_AT_ONCE) as pool:
            for answers, refusals in pool.map(lambda those: _discover(catalog, those, shown), asked.values()):
                found += answers
                warnings += refusals
    for text in warnings:
        warn(text)
    return found, warnings


def _server(source: Source) -> str:
    """What the source is asked of; a source without a server stands for itself."""
    from datasense_assets.connectors import host_of

    return host_of(source.connector, source.config) or f"source {source.id}"


def _discover(
    catalog: Engine, those: Iterable[tuple[Organization, Source]], shown: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Ask the sources of one server, one after the other; what was found, and a warning for each that failed."""
    from datasense_assets.cli.sources import open_reader
    from datasense_assets.connectors.errors import Unavailable
    from datasense_assets.ingest.discovery import discover_tables

    found: list[dict[str, Any]] = []
    warnings: list[str] = []
    silent: Exception | None = None
    for org, source in those:
        where = f"{org.slug}/{source.slug}"
        try:
            if silent is not None:
                raise silent
            shown.update(f"{where}: asking for its tables")
            connector = open_reader(catalog, org, source, hurried=True)
            try:
                tables = discover_tables(catalog, org, source, connector)
            finally:
                connector.close()
        except Exception as error:  # noqa: BLE001 - what is not expected is raised again
            silent = error if isinstance(error, Unavailable) else None
            warnings.append(
                _warning(error, f"The tables of {where} are not known yet", f"`datasense discover {where}`")
            )
            continue
        shown.done(f"{where}: {', '.join(table.slug for table in tables) or 'no table'}")
        found.append({"source": where, "tables": [table.slug for table in tables]})
    return found, warnings


def _warning(error: Exception, what: str, then: str | None = None) -> str:
    """The expected failure as one warning; anything else is raised again."""
    failure = explain(error)
    if failure is None:
        raise error
    again = f" Then: {then}." if then else ""
    return f"{what}: {failure.message} {failure.advice}{again}"


def _never_asked(connection: Connection, org: Organization) -> list[Source]:
    from sqlalchemy import select

    from datasense_assets.catalog.tables import source_status

    ids = [source.id for source in org.sources]
    query = select(source_status.c.source_id).where(
        source_status.c.source_id.in_(ids), source_status.c.discovered_at.is_(None)
    )
    never = set(connection.execute(query).scalars())
    return [source for source in org.sources if source.id in never or not source.tables]
