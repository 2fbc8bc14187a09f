"""The registry: what it knows, what it refuses and how it says so, and that it stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from datasense_assets.connectors import NetworkPolicy, has_history, kinds, open_connector, registry, validate_config
from datasense_assets.connectors.errors import BadConfig

KOBO = {"base_url": "https://kf.kobotoolbox.org"}


def test_an_unknown_kind_is_a_problem_that_lists_the_known_ones() -> None:
    (problem,) = validate_config("kobbo", {}, set())
    assert problem.path == "connector"
    assert "kobbo" in problem.message
    known = "csv, file, google_sheets, kobo, odk_central, surveycto, surveycto_datasets"
    assert problem.fix == f"Did you mean kobo? Known connectors: {known}."
    with pytest.raises(BadConfig, match="kobbo"):
        open_connector("kobbo", {}, {}, NetworkPolicy())


@pytest.mark.parametrize(
    ("kind", "config", "credentials"),
    [
        ("kobo", KOBO, {"token"}),
        ("kobo", {"base_url": "http://10.0.0.5:8000/kobo/", "lag_seconds": 0}, {"token"}),
        ("csv", {"url": "data/villages.csv"}, set()),
        ("odk_central", {"base_url": "https://x.org", "project": 3}, {"username", "password"}),
        ("surveycto", {"server": "https://example.surveycto.com"}, {"username", "password"}),
        ("csv", {"url": "https://x.org/a.zip", "member": "a.csv", "encoding": "cp1252", "delimiter": "tab"}, {"token"}),
        ("csv", {"url": "https://x.org/a.csv", "key": ["id"], "header_row": 3}, {"username", "password"}),
    ],
)
def test_a_config_that_can_work_has_no_problems(kind: str, config: dict[str, object], credentials: set[str]) -> None:
    assert validate_config(kind, config, credentials) == []


def test_all_problems_come_at_once_with_their_paths() -> None:
    problems = validate_config("kobo", {"baseurl": "x", "page_size": 5000}, {"tokn"})
    assert [p.path for p in problems] == [
        "config.base_url",
        "config.page_size",
        "config.baseurl",
        "credentials.tokn",
        "credentials.token",
    ]
    assert "Did you mean base_url?" in (problems[2].fix or "")


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("kobo", {"base_url": "kf.kobotoolbox.org"}, "not an http:// or https:// address"),
        ("kobo", {"base_url": "https://kf.kobotoolbox.org/#/forms/aX/summary"}, "goes on after"),
        ("csv", {"url": "https://me:pw@x.org/a.csv"}, "credentials"),
        ("csv", {"url": "ftp://x.org/a.csv"}, "ftp://"),
        ("csv", {"url": "a.csv", "encoding": "klingon"}, "klingon"),
        ("csv", {"url": "a.csv", "encoding": "rot13"}, "not a text encoding"),
        ("csv", {"url": "a.csv", "delimiter": "::"}, "one ASCII character"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(kind: str, config: dict[str, object], words: str) -> None:
    credentials = {"token"} if kind == "kobo" else set()
    (problem,) = validate_config(kind, config, credentials)
    assert words in problem.message
    assert "pw" not in str(problem).replace("password", "")


def test_half_a_pair_of_credentials_is_refused() -> None:
    (problem,) = validate_config("csv", {"url": "https://x.org/a.csv"}, {"username"})
    assert problem.path == "credentials.password"


def test_the_built_in_classes_are_what_the_registry_says_of_them() -> None:
    for kind in kinds():
        found = registry.connector_class(kind)
        assert found.kind == kind
        assert found.has_history == has_history(kind)
        assert [name for name in registry.CONTRACT if name != "Config" and not hasattr(found, name)] == []


def test_importing_and_validating_loads_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "from datasense_assets.connectors import validate_config\n"
        "assert validate_config('csv', {'url': 'a.csv'}, set()) == []\n"
        "print([m for m in ('pyarrow', 'httpx', 'charset_normalizer', 'ijson', 'dagster', 'dlt') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
