"""Connectors of installed packages: found, refused with the reason, and never in the way of the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasense_assets.connectors import NetworkPolicy, has_history, kinds, open_connector, registry, validate_config
from datasense_assets.connectors.errors import BadConfig
from datasense_assets.settings import PROJECT_ROOT
from datasense_assets_tests.connectors.conftest import Web
from datasense_assets_tests.installed_package import LIGHTHOUSES, install

CONFIG = {"base_url": "https://x.org"}
BOTH = {"username", "password"}
Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs packages for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        registry._installed.cache_clear()
        registry._load.cache_clear()

    def make(name: str, source: str = LIGHTHOUSES, **connectors: str) -> None:
        sys.modules.pop(name, None)
        install(tmp_path, name, source, {kind: f"{name}:{target}" for kind, target in connectors.items()})
        forget()

    forget()
    yield make
    forget()


def test_a_package_adds_a_kind(installed: Install, web: Web, local_policy: NetworkPolicy) -> None:
    installed("lighthouse_register", lighthouses="LighthouseConnector")
    assert "lighthouses" in kinds()
    assert registry.provider("lighthouses") == "lighthouse_register 1.0"
    assert not has_history("lighthouses")
    assert validate_config("lighthouses", CONFIG, BOTH) == []
    assert [p.path for p in validate_config("lighthouses", {}, {"username"})] == [
        "config.base_url",
        "credentials.password",
    ]
    web.on("/towers.json", b'[{"id": 1, "name": "Pharos", "height": 100}]')
    credentials = {"username": "u", "password": "p"}
    connector = open_connector("lighthouses", {"base_url": web.url}, credentials, local_policy)
    assert connector.check() == "The register has 1 lighthouses."
    assert web.seen[0].headers["authorization"].startswith("Basic ")
    connector.close()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import nothing_of_that_name\n",
            r"cannot be imported \(ModuleNotFoundError: No module named 'nothing_of_that",
        ),
        ("raise SystemExit('boom')\n", r"cannot be imported \(SystemExit: boom\)"),
        ("", "cannot be imported"),
        ("class LighthouseConnector:\n    kind = 'x'\n    read = None\n", "has no has_history, Config, check"),
        (LIGHTHOUSES.replace("    Config = Config\n", "    Config = dict\n"), "its Config is no ConnectorConfig"),
    ],
    ids=["missing-import", "raises", "no-class", "half-a-connector", "no-config"],
)
def test_a_broken_package_is_named_and_stops_its_own_kind_alone(installed: Install, source: str, words: str) -> None:
    installed("broken_register", source, lighthouses="LighthouseConnector")
    (problem,) = validate_config("lighthouses", CONFIG, BOTH)
    assert problem.path == "connector"
    assert "'lighthouses' of broken_register 1.0" in problem.message
    with pytest.raises(BadConfig, match=words):
        open_connector("lighthouses", CONFIG, {}, NetworkPolicy())
    assert not has_history("lighthouses")
    assert validate_config("kobo", CONFIG, {"token"}) == []


def test_two_packages_that_claim_one_name_are_both_named(installed: Install) -> None:
    installed("first_register", lighthouses="LighthouseConnector")
    installed("second_register", lighthouses="LighthouseConnector")
    (problem,) = validate_config("lighthouses", CONFIG, BOTH)
    assert "first_register 1.0" in problem.message
    assert "second_register 1.0" in problem.message
    assert problem.fix == "Uninstall all but one of them."


def test_no_package_takes_the_place_of_a_built_in_connector(installed: Install) -> None:
    installed("greedy", kobo="LighthouseConnector")
    assert registry.connector_class("kobo").__module__ == "datasense_assets.connectors.kobo"
    (claim,) = registry.ignored_claims()
    assert (claim.path, "greedy 1.0" in claim.message) == ("kobo", True)


def test_the_connector_shown_in_the_documentation_is_the_one_that_is_tested_here() -> None:
    shown = (PROJECT_ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")
    assert LIGHTHOUSES.strip() in shown
    for name in registry.CONTRACT:
        assert f"`{name}" in shown
