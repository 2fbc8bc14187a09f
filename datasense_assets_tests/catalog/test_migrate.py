"""Migrating: from nothing, twice, by several processes, beside a newer release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

import datasense_assets.catalog.migrations
from datasense_assets.catalog import migrate as migrating
from datasense_assets.catalog.migrate import CatalogVersionError, current_version, is_current, migrate
from datasense_assets.catalog.tables import metadata


def test_an_empty_database_becomes_current_and_a_second_time_changes_nothing(empty: Engine) -> None:
    with empty.connect() as connection:
        assert current_version(connection) is None
        assert not is_current(connection)
    assert migrate(empty)[-1] == migrating.HEAD
    assert migrate(empty) == []
    with empty.connect() as connection:
        assert is_current(connection)


def test_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(datasense_assets.catalog.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrating.HEAD


def test_four_processes_at_once_migrate_once(empty: Engine) -> None:
    program = (
        "import sys; from sqlalchemy import create_engine; from datasense_assets.catalog.migrate import migrate;"
        "print(len(migrate(create_engine(sys.argv[1]))))"
    )
    url = empty.url.render_as_string(hide_password=False)
    running = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    printed = sorted(process.communicate(timeout=120)[0].strip() for process in running)
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert printed == ["0", "0", "0", str(len(migrate_scripts()))]


def migrate_scripts() -> list[Path]:
    return list((Path(datasense_assets.catalog.migrations.__file__).parent / "versions").glob("0*.py"))


def test_a_catalog_of_a_newer_release_is_refused(catalog: Engine) -> None:
    with catalog.begin() as connection:
        connection.execute(text("UPDATE datasense.alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogVersionError, match="9999"):
        migrate(catalog)


@pytest.mark.filterwarnings("ignore:Did not recognize type .xid8.")
def test_the_tables_in_python_are_the_tables_in_the_database(catalog: Engine) -> None:
    with catalog.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == "datasense",
            "include_object": lambda thing, name, kind, *_: (
                kind in ("table", "column") and name not in ("alembic_version", "revisions")
            ),
            "compare_type": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        found = [each for each in compare_metadata(context, metadata) if not _of_constraints(each)]
    assert found == []


def _of_constraints(difference: object) -> bool:
    # Nullability and constraints are the migrations' own matter.
    return isinstance(difference, list) and all(each[0] == "modify_nullable" for each in difference)


def test_models_import_without_sqlalchemy() -> None:
    program = (
        "import sys, datasense_assets.catalog.models, datasense_assets.catalog.snapshot;"
        "print([m for m in ('sqlalchemy', 'alembic', 'yaml', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_user_named_as_the_catalog_does_not_look_there_first(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        exists = connection.execute("SELECT FROM pg_roles WHERE rolname = 'datasense'").fetchone()
        if exists is None:
            connection.execute("CREATE ROLE datasense SUPERUSER LOGIN")
        as_datasense = "SET SESSION AUTHORIZATION datasense"
        made = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: _as(psycopg.connect(empty_database_url), as_datasense)
        )
        migrate(made)
        made.dispose()
        settings = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase "
            "JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = current_database() AND r.rolname = 'datasense'"
        ).fetchall()
    assert settings == [(["search_path=public"],)]


def _as(connection: Any, statement: str) -> Any:
    connection.execute(statement)
    connection.commit()
    return connection
