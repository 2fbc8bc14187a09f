"""deploy/kubernetes: a Deployment, a budget and a scaler a lane, in the words of the code."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
import yaml

from datasense_assets.running.storage import HomeStorage
from datasense_assets.running.tags import Lane
from datasense_assets.running.warm import broker
from datasense_assets.running.warm.worker import _full_name
from datasense_assets_tests.kubernetes import chart
from datasense_assets_tests.kubernetes.documents import FOLDER, Document, of_kind

LANES = [lane.value for lane in Lane]


def named(kind: str, lane: str) -> Document:
    (found,) = (each for each in of_kind(kind) if each["metadata"]["name"] == f"worker-{lane}")
    return found


def words_of(lane: str) -> dict[str, str]:
    (container,) = named("Deployment", lane)["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["datasense", "worker"]
    return dict(zip(container["args"][2::2], container["args"][3::2], strict=True))


def test_each_lane_has_one_of_each_and_no_other_lane_has() -> None:
    for kind in ("Deployment", "PodDisruptionBudget", "ScaledObject"):
        assert sorted(each["metadata"]["name"] for each in of_kind(kind)) == sorted(f"worker-{lane}" for lane in LANES)


@pytest.mark.parametrize("lane", LANES)
def test_a_lanes_worker_its_budget_and_its_scaler_are_of_one_mind(lane: str) -> None:
    deployment, given = named("Deployment", lane)["spec"], words_of(lane)
    pod = deployment["template"]
    assert given["--lane"] == lane
    assert deployment["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert named("PodDisruptionBudget", lane)["spec"]["selector"] == deployment["selector"]
    scaler = named("ScaledObject", lane)["spec"]
    assert scaler["scaleTargetRef"] == {"name": f"worker-{lane}"}
    assert (
        scaler["minReplicaCount"] <= max(deployment["replicas"], scaler["minReplicaCount"]) <= scaler["maxReplicaCount"]
    )
    redis = next(trigger["metadata"] for trigger in scaler["triggers"] if trigger["type"] == "redis")
    assert redis["listName"] == broker.queue_of(lane)
    queue = next(trigger["metadata"] for trigger in scaler["triggers"] if trigger["type"] == "postgresql")
    assert queue["targetQueryValue"] == redis["listLength"] == given["--slots"]


@pytest.mark.parametrize("lane", LANES)
def test_a_worker_that_is_told_to_end_may_finish_the_longest_load(lane: str) -> None:
    pod = named("Deployment", lane)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] >= 120 * 60
    assert "lifecycle" not in container
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("lane", LANES)
def test_the_probe_looks_for_the_mark_that_a_worker_renews(lane: str) -> None:
    (container,) = named("Deployment", lane)["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value", "a-pod") for each in container["env"]}
    assert variables["LANE"] == lane
    name = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], words_of(lane)["--name"])
    (mark,) = re.findall(r'exists\("([^"]+)"', container["readinessProbe"]["exec"]["command"][-1])
    seen: list[str] = []

    class Pipe:
        def set(self, key: str, *_: Any, **__: Any) -> None:
            seen.append(key)

        def execute(self) -> None:
            pass

    class Client:
        def pipeline(self, **_: Any) -> Pipe:
            return Pipe()

        def time(self) -> tuple[int, int]:
            return 0, 0

    broker.announce_slots(Client(), _full_name(name), {lane: 3})  # type: ignore[arg-type]
    assert mark.format(**variables) in seen


def test_scaling_asks_what_a_role_that_sees_no_data_may_ask(server_url: str, database_url: str, tmp_path: Any) -> None:
    HomeStorage(postgres_url=database_url.replace("postgresql://", "postgresql+psycopg2://"))
    role, script = f"scaling_{database_url[-12:]}", (FOLDER / "autoscaling.sql").read_text(encoding="utf-8")
    script = script.replace("datasense_autoscaling", role).replace(":password", "'secret'")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(script.encode())
        try:
            connection.execute(_WORLD)
            connection.execute(f"SET ROLE {role}".encode())
            found = {}
            for lane in LANES:
                queries = [
                    t["metadata"]["query"]
                    for t in named("ScaledObject", lane)["spec"]["triggers"]
                    if "query" in t["metadata"]
                ]
                found[lane] = [connection.execute(query.encode()).fetchone() for query in queries]
            assert found == {"interactive": [(2,)], "transform": [(0,)], "scheduled": [(1,), (1,)], "backfill": [(0,)]}
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT config FROM datasense.sources")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT run_body FROM runs")
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


# Two runs of people (one waits, one goes on; a third has ended) and a scheduled one. Three sources are due, of which
# one is put off and one paused.
_WORLD = b"""
INSERT INTO runs (run_id, pipeline_name, status, run_body) VALUES
  ('a', 'j', 'QUEUED', ''), ('b', 'j', 'STARTED', ''), ('c', 'j', 'SUCCESS', ''), ('d', 'j', 'QUEUED', '');
INSERT INTO run_tags (run_id, key, value) SELECT run_id, 'datasense/lane',
  CASE run_id WHEN 'd' THEN 'scheduled' ELSE 'interactive' END FROM runs;
INSERT INTO datasense.organizations (slug, name) VALUES ('o', 'O');
INSERT INTO datasense.sources (org_id, slug, connector, config, schedule)
  SELECT id, s, 'csv', '{"url": "x.csv", "key": ["a"]}', '"hourly"'
  FROM datasense.organizations, unnest(ARRAY['a', 'b', 'c']) s;
INSERT INTO datasense.source_status (source_id) SELECT id FROM datasense.sources ON CONFLICT DO NOTHING;
UPDATE datasense.source_status SET next_due_at = now() - interval '1 minute';
UPDATE datasense.source_status SET put_off_until = now() + interval '1 hour'
  WHERE source_id = (SELECT id FROM datasense.sources WHERE slug = 'b');
INSERT INTO datasense.pauses (org_id, source_id) SELECT org_id, id FROM datasense.sources WHERE slug = 'c';
"""


def test_the_chart_launches_on_warm_workers_as_dagster_yaml_does() -> None:
    values = chart.read_values("deploy/kubernetes/values-warm.yaml")
    launcher = values["runLauncher"]
    assert launcher["type"] == "CustomRunLauncher"
    laptop = yaml.safe_load((chart.ROOT / "dagster.yaml").read_text(encoding="utf-8"))["run_launcher"]
    assert launcher["config"]["customRunLauncher"] == laptop
