"""What `ORG/SOURCE/TABLE` on a command line names: found in the catalog, or refused with what is near."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasense_assets.cli.errors import InputWrong

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from datasense_assets.catalog.models import Organization, RecipeRow, Source, SourceTable


@dataclass(frozen=True)
class Address:
    """An organisation, and what of it: the parts as they were typed."""

    org: str
    name: str | None = None
    table: str | None = None

    @classmethod
    def parse(cls, text: str, *, parts: int, form: str) -> Address:
        """Read up to `parts` names with `/` between them; `form` is how the usage line writes it.

        Raises:
            InputWrong: it has another form.

        """
        names = text.strip().strip("/").split("/")
        if not all(names) or len(names) > parts:
            what = "sources" if "SOURCE" in form else "recipes" if "RECIPE" in form else "orgs"
            raise InputWrong(
                f"{text!r} is not of the form {form}.", advice=f"`datasense list {what}` shows what there is."
            )
        return cls(*names)


@contextlib.contextmanager
def open_catalog() -> Iterator[Engine]:
    """The catalog's engine, its schema up to date; everything in it is closed at the end.

    Raises:
        DatabaseUnavailable: the database cannot be used.
        CatalogVersionError: it was migrated by a newer release.

    """
    from datasense_assets.catalog.migrate import migrate
    from datasense_assets.settings import get_settings
    from datasense_assets.warehouse.database import database_url, engine

    catalog = engine(database_url(get_settings()))
    try:
        migrate(catalog)
        yield catalog
    finally:
        catalog.dispose()


def read_organization(connection: Connection, slug: str) -> Organization:
    """One organisation with all it owns; `_` and `-` in its name count as the same.

    Raises:
        InputWrong: there is none of that name.

    """
    found = organization_or_none(connection, slug)
    if found is None:
        raise unknown("organisation", slug, organization_slugs(connection), where="the catalog")
    return found


def organization_slugs(connection: Connection) -> list[str]:
    """Slugs of all organisations, sorted."""
    from sqlalchemy import select

    from datasense_assets.catalog.tables import organizations

    return list(connection.execute(select(organizations.c.slug).order_by(organizations.c.slug)).scalars())


def organization_or_none(connection: Connection, slug: str) -> Organization | None:
    """One organisation with all it owns; None where there is none of that name."""
    from sqlalchemy import func, select

    from datasense_assets.catalog.models import identifier
    from datasense_assets.catalog.snapshot import SnapshotScope, read_snapshot
    from datasense_assets.catalog.tables import organizations, recipes, sources

    wanted = identifier(slug)
    org_id = connection.execute(
        select(organizations.c.id).where(func.replace(organizations.c.slug, "-", "_") == wanted)
    ).scalar_one_or_none()
    if org_id is None:
        return None
    source_slugs = connection.execute(select(sources.c.slug).where(sources.c.org_id == org_id)).scalars()
    recipe_names = connection.execute(select(recipes.c.name).where(recipes.c.org_id == org_id)).scalars()
    scope = SnapshotScope(
        sources=frozenset((wanted, identifier(each)) for each in source_slugs),
        recipes=frozenset((wanted, identifier(each)) for each in recipe_names),
    )
    snapshot = read_snapshot(connection, scope=scope)
    own = (org for org in snapshot.organizations if org.id == org_id)
    return next(own, None) or bare_organization(connection, org_id)


def bare_organization(connection: Connection, org_id: int) -> Organization:
    """An organisation that owns nothing yet."""
    from sqlalchemy import select

    from datasense_assets.catalog.models import Organization
    from datasense_assets.catalog.tables import organizations

    row = connection.execute(select(organizations).where(organizations.c.id == org_id)).one()
    return Organization(
        id=row.id,
        slug=row.slug,
        name=row.name,
        timezone=row.timezone,
        tier=row.tier,
        own_warehouse=row.warehouse is not None,
    )


def find_source(org: Organization, slug: str) -> Source:
    """The source of that slug.

    Raises:
        InputWrong: there is none, or what is stored of it cannot be used.

    """
    from datasense_assets.catalog.models import identifier

    for source in org.sources:
        if identifier(source.slug) == identifier(slug):
            return source
    _refuse_invalid(org, "source", slug)
    raise unknown("source", slug, (source.slug for source in org.sources), where=org.slug)


def find_recipe(org: Organization, name: str) -> RecipeRow:
    """The recipe of that name; raises as `find_source`."""
    from datasense_assets.catalog.models import identifier

    for recipe in org.recipes:
        if identifier(recipe.name) == identifier(name):
            return recipe
    _refuse_invalid(org, "recipe", name)
    raise unknown("recipe", name, (recipe.name for recipe in org.recipes), where=org.slug)


def find_table(org: Organization, source: Source, slug: str) -> SourceTable:
    """The table of that slug; raises InputWrong where the source has none."""
    from datasense_assets.catalog.models import identifier

    for table in source.tables:
        if identifier(table.slug) == identifier(slug):
            return table
    where = f"{org.slug}/{source.slug}"
    if not source.tables:
        raise InputWrong(
            f"The tables of {where} are not known yet.", advice=f"Find them with `datasense discover {where}`."
        )
    raise unknown("table", slug, (table.slug for table in source.tables), where=where)


def _refuse_invalid(org: Organization, kind: str, slug: str) -> None:
    from datasense_assets.catalog.models import identifier

    for row in org.invalid:
        if row.kind == kind and identifier(row.slug) == identifier(slug):
            raise InputWrong(
                f"The {kind} {slug!r} of {org.slug} cannot be used as it is stored in the catalog.",
                advice="Correct it in the manifest and apply it again.",
                problems=row.problems,
            )


def unknown(kind: str, name: str, known: Iterable[str], *, where: str) -> InputWrong:
    """The error for a name that is not there, with the nearest one that is."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    if near:
        advice = f"Did you mean {near[0]}?"
    elif names:
        shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        advice = f"There is: {shown}."
    else:
        advice = f"There is no {kind} yet; `datasense apply FILE` makes one."
    return InputWrong(f"There is no {kind} {name!r} in {where}.", advice=advice)
