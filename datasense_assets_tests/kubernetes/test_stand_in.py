"""The stand-in cluster is one for Kubernetes' own client too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from datasense_assets_tests.platform.running import until
from datasense_assets_tests.stand_ins.kubernetes import Cluster, serve


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with serve(tmp_path) as found:
        found.store.images.add("here")
        found.store.secrets["words"] = {"WORD": "from a secret"}
        yield found


@pytest.fixture
def client(cluster: Cluster, tmp_path: Path) -> Any:
    cluster.write_kubeconfig(tmp_path / "kubeconfig")
    return kubernetes.config.new_client_from_config(str(tmp_path / "kubeconfig"))


def job(name: str, *args: str, image: str = "here", **more: Any) -> dict[str, Any]:
    container = {"name": "it", "image": image, "args": list(args), "envFrom": [{"secretRef": {"name": "words"}}]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"labels": {"made": "here"}}, "spec": spec}, **more},
    }


def test_a_job_runs_its_pod_and_both_can_be_read_listed_and_deleted(client: Any, cluster: Cluster) -> None:
    batch, core = kubernetes.client.BatchV1Api(client), kubernetes.client.CoreV1Api(client)
    says = "import os; print('first'); print(os.environ['WORD'])"
    batch.create_namespaced_job("here", job("one", sys.executable, "-c", says))
    until("the job is done", lambda: batch.read_namespaced_job_status("one", "here").status.succeeded == 1, seconds=20)
    (pod,) = core.list_namespaced_pod("here", label_selector="job-name=one").items
    assert core.read_namespaced_pod(pod.metadata.name, "here").status.phase == "Succeeded"
    # as the launcher asks for it: the client makes a bytes literal of a log otherwise
    log = core.read_namespaced_pod_log(pod.metadata.name, "here", tail_lines=1, _preload_content=False)
    assert log.data == b"from a secret\n"
    assert batch.list_namespaced_job("here", field_selector="metadata.name=two").items == []
    batch.delete_namespaced_job("one", "here")
    core.delete_namespaced_pod(pod.metadata.name, "here")
    assert core.list_namespaced_pod("here").items == []
    with pytest.raises(ApiException, match="404"):
        batch.read_namespaced_job_status("one", "here")
    assert len(set(cluster.calls)) == 8


def test_what_cannot_start_waits_and_says_why(client: Any) -> None:
    batch, core = kubernetes.client.BatchV1Api(client), kubernetes.client.CoreV1Api(client)
    batch.create_namespaced_job("here", job("one", "true", image="elsewhere"))
    (pod,) = core.list_namespaced_pod("here").items
    assert pod.status.container_statuses[0].state.waiting.reason == "ErrImagePull"
    (event,) = core.list_namespaced_event("here", field_selector=f"involvedObject.name={pod.metadata.name}").items
    assert "elsewhere" in event.message
    assert batch.read_namespaced_job_status("one", "here").status.active == 1


def test_no_job_and_a_name_that_is_taken_are_refused(client: Any) -> None:
    batch = kubernetes.client.BatchV1Api(client)
    with pytest.raises(ApiException, match="400"):
        batch.create_namespaced_job("here", job("one", "true", ttlSeconds=3))
    twice = job("one", "true")
    twice["spec"]["template"]["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}] * 2
    with pytest.raises(ApiException, match="422"):
        batch.create_namespaced_job("here", twice)
    batch.create_namespaced_job("here", job("one", "true"))
    with pytest.raises(ApiException, match="409"):
        batch.create_namespaced_job("here", job("one", "true"))
