"""docker-compose.yml: it fits the schema, pins what it runs, keeps secrets apart, and says what dagster.yaml says."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import version
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from datasense_assets.running.tags import Lane
from datasense_assets.running.warm import broker
from datasense_assets.running.warm.worker import _full_name
from deploy.compose_file import interpolated
from deploy.topology import PORTS, ROOT

DOCTOR = ["datasense", "doctor", "--"]
SECRETS = ("POSTGRES_PASSWORD", "DATASENSE_DB_PASSWORD", "PGBOUNCER_PASSWORD", "REDIS_PASSWORD")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated(read("docker-compose.yml"), dict.fromkeys(SECRETS, "x")))
    return found


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["services"]
    return found


def test_it_fits_the_compose_specification(document: dict[str, Any], services: dict[str, Any]) -> None:
    # the merge keys are resolved before: its reader knows none
    parsed = PyCompose.from_yaml(yaml.safe_dump(document))
    parsed.validate()
    assert set(parsed.service_names()) == set(services)


def test_every_image_is_of_one_version_and_every_service_has_a_check_and_limits(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"]), name
        if service["image"].startswith("datasense-assets:"):
            assert service["image"] == f"datasense-assets:{version('datasense-assets')}"
        if name == "migrate":
            continue
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert service["deploy"]["resources"]["limits"]["memory"], name
    assert PORTS.keys() <= services.keys()


def test_no_secret_is_in_a_file_and_each_service_has_only_its_own(services: dict[str, Any]) -> None:
    text = read("docker-compose.yml")
    for name in SECRETS:
        assert re.search(rf"^{name}=$", read("deploy/compose/env.example"), re.MULTILINE)
        assert f"${{{name}:?" in text, "a password that is not set must stop compose"
    assert not re.search(r"^(?!#)\w+=.+$", read("deploy/compose/datasense.env.example"), re.MULTILINE)
    for name, service in services.items():
        ours = service["image"].startswith("datasense-assets:")
        assert ("env_file" in service) == ours, name
        given = service.get("environment") or {}
        assert ours or not {"DATASENSE_SECRET_KEY", "DATASENSE_DATABASE_URL"} & given.keys(), name
        assert not ours or not set(SECRETS) & given.keys(), name
    ignored = read(".gitignore").splitlines()
    assert {"/.env", "/deploy/compose/datasense.env"} <= set(ignored)


def test_only_what_people_look_at_is_published_and_on_loopback_alone(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "webserver": ["127.0.0.1:3000:3000"],
        "webserver-read-only": ["127.0.0.1:3001:3001"],
        "metrics": ["127.0.0.1:9464:9464"],
    }
    assert "--read-only" in services["webserver-read-only"]["command"]
    assert "--read-only" not in services["webserver"]["command"]


def test_a_worker_a_lane_with_as_many_slots_as_the_lane_may_have_runs(services: dict[str, Any]) -> None:
    workers = {name.removeprefix("worker-"): s["command"] for name, s in services.items() if name.startswith("worker-")}
    assert set(workers) == {lane.value for lane in Lane}
    limits = yaml.safe_load(read("dagster.yaml"))["concurrency"]["runs"]
    by_lane = {
        limit["value"]: limit["limit"] for limit in limits["tag_concurrency_limits"] if limit["key"] == "datasense/lane"
    }
    for lane, words in workers.items():
        given = dict(zip(words[2::2], words[3::2], strict=True))
        assert given["--lane"] == lane
        if lane in by_lane:
            assert int(given["--slots"]) == by_lane[lane]
        assert int(given["--slots"]) <= limits["max_concurrent_runs"]
        mark = services[f"worker-{lane}"]["healthcheck"]["test"][-1]
        assert mark == f"{broker._SLOTS}{lane}:{_full_name(given['--name'])}"


def test_everything_goes_through_the_pooler_in_two_pools_but_migrations(services: dict[str, Any]) -> None:
    pools = configparser.ConfigParser()
    pools.read_string(read("deploy/compose/pgbouncer.ini"))
    assert pools["pgbouncer"]["pool_mode"] == "transaction"
    ours = {name: s["environment"] for name, s in services.items() if s["image"].startswith("datasense-assets:")}
    for name, given in ours.items():
        if name == "migrate":
            assert given["DATASENSE_DATABASE_URL"].endswith("@postgres:5432/datasense")
            continue
        warehouse, storage = given["DATASENSE_DATABASE_URL"], given["DATASENSE_STORAGE_URL"]
        assert warehouse.endswith("@pgbouncer:6432/datasense")
        assert storage.endswith("@pgbouncer:6432/dagster")
        assert {"datasense", "dagster"} == set(pools["databases"])
    command = services["postgres"]["command"]
    (allowed,) = (int(word.partition("=")[2]) for word in command if word.startswith("max_connections="))
    taken = sum(int(re.search(r"max_db_connections=(\d+)", line)[1]) for line in pools["databases"].values())  # type: ignore[index]
    assert taken <= allowed - 10, "some are left for people and backups"


def test_what_defines_runs_and_what_starts_them_come_up_only_where_the_doctor_says_that_all_holds(
    services: dict[str, Any],
) -> None:
    gated = [name for name, service in services.items() if service.get("command", [])[:3] == DOCTOR]
    assert gated == ["code-server", "daemon"]
    assert "metrics" in services, "there to look at what does not hold"


def test_nothing_starts_before_what_it_needs_is_well(services: dict[str, Any]) -> None:
    for name, service in services.items():
        needs = service.get("depends_on") or {}
        if name in ("postgres", "redis"):
            continue
        if service["image"].startswith("datasense-assets:") and name != "migrate":
            assert needs["migrate"] == {"condition": "service_completed_successfully"}, name
        for other, how in needs.items():
            wanted = "service_completed_successfully" if other == "migrate" else "service_healthy"
            assert how == {"condition": wanted}, (name, other)
