"""A pod a run: the real launcher and daemon over helm-values.yaml, against a cluster that runs pods as processes.

The three runs go on side by side, and what a test waits for has mostly happened while the one before it waited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from datasense_assets.running.pods import rows_of
from datasense_assets.running.tags import Selected
from datasense_assets_tests.kubernetes.conftest import Gate, World, command
from datasense_assets_tests.platform.running import until

pytestmark = [pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def held(world: World) -> Iterator[None]:
    """One run waits for an image that cannot be pulled, two are held in the middle of their load."""
    world.cluster.store.images.clear()
    command("sync", "pods/unpullable")
    until("its pod is there", lambda: world.cluster.made, seconds=60)
    world.cluster.store.images.add(world.image)
    gate = Gate(2)
    world.kobo.fail(gate.fault)
    for source in ("killed", "cancelled"):
        command("sync", f"pods/{source}")
    gate.wait()
    yield
    gate.open()


def children(world: World) -> int:
    """Rows of the repeat groups of the source that was loaded."""
    named = "SELECT tablename FROM pg_tables WHERE schemaname = 'org_pods' AND tablename LIKE 'killed__visits__%'"
    tables = world.platform.rows(named)
    return sum(world.platform.rows(f'SELECT count(*) FROM org_pods."{name}"')[0][0] for (name,) in tables)


def test_a_run_whose_pod_is_killed_is_run_again_by_the_daemon_and_loads_all(world: World, held: None) -> None:
    (killed,) = world.runs("killed")
    (pod,) = world.cluster.pods_of(killed.run_id)
    pod.kill()
    # the minute for which a lease outlives its owner is not waited for
    world.platform.execute("UPDATE datasense.leases SET expires_at = now()")
    assert world.ended(killed.run_id) == "FAILURE"
    assert "K8s job" in world.said(killed.run_id)
    again = until("it is tried again", lambda: world.runs("killed")[1:], seconds=60)[0]
    assert again.parent_run_id == killed.run_id
    assert world.ended(again.run_id) == "SUCCESS"
    rows = world.platform.rows("SELECT count(*) FROM org_pods.killed__visits")
    (form,) = world.kobo.site.accounts["token-of-the-cluster-tests"][:1]
    assert rows == [(len(form.submissions),)]
    # what the next run's pod is sized by
    assert rows_of(Selected(frozenset({("pods", "killed")}), frozenset())) == rows[0][0] + children(world)


def test_a_pod_builds_its_runs_part_of_the_graph_and_asks_nothing_of_the_cluster(world: World, held: None) -> None:
    (pod,) = world.cluster.pods_of(world.runs("killed")[1].run_id)
    assert "building the graph of 1 sources and 0 recipes, which is what this run needs" in pod.log().decode()
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.labels["dagster/code-location"] == "datasense"


def test_a_pod_has_the_size_of_its_source_and_what_the_values_say(world: World, held: None) -> None:
    (pod,) = world.cluster.pods_of(world.runs("killed")[0].run_id)
    # never loaded, so the largest
    assert pod.container["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"memory": "2Gi"},
    }
    assert pod.spec["priorityClassName"] == "datasense-heavy-run"
    assert pod.spec["terminationGracePeriodSeconds"] == 60
    assert pod.spec["securityContext"]["runAsNonRoot"] is True
    assert pod.container["securityContext"]["allowPrivilegeEscalation"] is False
    given = {each["name"]: each.get("value") for each in pod.container["env"]}
    assert given["DATASENSE_FILES_ROOT"] == "/srv/datasense/files"
    secrets = [each["secretRef"]["name"] for each in pod.container["envFrom"] if "secretRef" in each]
    assert set(secrets) == {"datasense"}
    assert "token-of-the-cluster-tests" not in json.dumps(pod.document())


def test_a_cancelled_run_has_its_job_deleted_and_loads_nothing(world: World, held: None) -> None:
    (run,) = world.runs("cancelled")
    (pod,) = world.cluster.pods_of(run.run_id)
    assert pod.phase == "Running"
    world.instance.run_coordinator.cancel_run(run.run_id)
    assert world.ended(run.run_id) == "CANCELED"
    assert pod.process is not None
    pod.process.wait(60)
    assert world.cluster.pods.get((pod.namespace, pod.name)) is None
    assert len(world.runs("cancelled")) == 1, "what was asked to stop is not tried again"
    assert world.platform.rows("SELECT to_regclass('org_pods.cancelled__visits')") == [(None,)]


def test_a_run_whose_image_cannot_be_pulled_fails_saying_so_and_is_run_once_it_can(world: World, held: None) -> None:
    first = world.runs("unpullable")[0]
    assert world.instance.run_monitoring_start_timeout_seconds == 300
    # the minutes that an image may take to come are not waited for
    world.platform.execute(
        "UPDATE event_logs SET timestamp = timestamp - interval '300 s' "
        "WHERE run_id = %s AND dagster_event_type = 'PIPELINE_STARTING'",
        first.run_id,
    )
    assert world.ended(first.run_id) == "FAILURE"
    said = world.said(first.run_id)
    assert "ErrImagePull" in said
    assert f'Failed to pull image "{world.image}"' in said
    again = until("it is tried again", lambda: world.runs("unpullable")[1:], seconds=60)[0]
    assert world.ended(again.run_id) == "SUCCESS"


def test_the_launcher_makes_its_calls_and_no_other(world: World, held: None) -> None:
    assert set(world.cluster.calls) >= {
        "create job",
        "read job status",
        "delete job",
        "list pods",
        "delete pod",
        "list events",
    }
