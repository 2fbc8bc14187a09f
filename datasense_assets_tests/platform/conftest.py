"""The platform that the end-to-end tests share: two organisations, a stand-in server, one running `dagster dev`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from datasense_assets_tests.conftest import fresh_database
from datasense_assets_tests.platform.running import ROOT, Graphql, Platform
from examples.kobo_stand_in import serve
from examples.make_submissions import demo_accounts


@pytest.fixture(scope="module")
def module_database(server_url: str, platform_template: str) -> Iterator[str]:
    """A database for a module of tests, in which nothing has happened."""
    with fresh_database(server_url, "platform", template=platform_template) as url:
        yield url


@dataclass
class World:
    """The platform as it runs, the UI's questions to it, and the server that its organisations read from."""

    platform: Platform
    ui: Graphql
    kobo: Any
    log: Path


@pytest.fixture(scope="module")
def kobo() -> Iterator[Any]:
    """The stand-in KoboToolbox server with the accounts of both example organisations."""
    clean_water, springs = demo_accounts(date.today())
    with serve(
        clean_water.forms,
        token=clean_water.token,
        more_accounts={springs.token: springs.forms},
        files=ROOT / "examples" / "data",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def world(module_database: str, kobo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both example organisations applied, with every address pointing at the stand-in, and `dagster dev` running."""
    home = tmp_path_factory.mktemp("home")
    platform = Platform(
        home=home,
        database_url=module_database,
        variables={
            "CLEAN_WATER_KOBO_TOKEN": "demo-token-of-clean-water",
            "HIMALAYA_SPRINGS_KOBO_TOKEN": "demo-token-of-himalaya-springs",
            "DATASENSE_DUE_INTERVAL_SECONDS": "2",
            "DATASENSE_RECIPES_INTERVAL_SECONDS": "2",
            "DATASENSE_ALERTS_INTERVAL_SECONDS": "3",
            "DATASENSE_LOG_FORMAT": "json",
        },
    )
    for name in ("clean-water", "second-org"):
        text = (ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
        text = text.replace("http://127.0.0.1:8765", kobo.url).replace(
            "{file: recipes/", f"{{file: {ROOT}/examples/recipes/"
        )
        (home / f"{name}.yaml").write_text(text.replace("examples/data/", f"{ROOT}/examples/data/"), encoding="utf-8")
    platform.datasense("apply", str(home / "clean-water.yaml"), str(home / "second-org.yaml"))
    with platform.dagster_dev() as log:
        yield World(platform, Graphql(platform), kobo, log)
