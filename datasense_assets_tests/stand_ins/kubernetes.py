"""A Kubernetes API server on loopback that runs each pod as a process: the nine calls that a run launcher makes.

Create, read the status of, list and delete a job; list, read, log and delete a pod; list events. Answers are the
API's documents; a job that is not one (unknown fields, another namespace) is refused, a name taken twice too.

    with serve(folder) as cluster:
        cluster.store.images.add("datasense-assets:0.1.0")
        cluster.write_kubeconfig(folder / "kubeconfig")
        ...
        cluster.pod_of(run_id).kill()
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes.client import V1Job

from datasense_assets_tests.stand_ins.kubernetes_pods import Document, Pod, Store, now

RUN_LABEL = "dagster/run-id"


class Refused(Exception):
    """An answer other than 2xx."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
                       "message": message}  # fmt: skip
        super().__init__(message)


@dataclass
class Job:
    """A job that was created, and its one pod (`backoffLimit` is 0: a pod that fails is not replaced)."""

    document: Document
    pod: Pod
    created_at: str = field(default_factory=now)

    def shown(self) -> Document:
        phase = self.pod.phase
        counted = {"Succeeded": "succeeded", "Failed": "failed"}.get(phase, "active")
        return {**self.document, "status": {"startTime": self.created_at, counted: 1}}


@dataclass
class Cluster:
    """`calls` names each call that was made, oldest first."""

    folder: Path
    url: str = ""
    store: Store = field(default_factory=Store)
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)
    events: list[Document] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def write_kubeconfig(self, path: Path) -> None:
        """A kubeconfig whose current context is this cluster."""
        named = {"name": "stand-in"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{**named, "cluster": {"server": self.url}}],
            "users": [{**named, "user": {"token": "of-nobody"}}],
            "contexts": [{**named, "context": {"cluster": "stand-in", "user": "stand-in"}}],
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")

    def pods_of(self, run_id: str) -> list[Pod]:
        """Pods that were made for a run, deleted ones too."""
        return [job.pod for job in self.made if job.pod.labels.get(RUN_LABEL) == run_id]

    made: list[Job] = field(default_factory=list)

    def create_job(self, namespace: str, body: Document) -> Document:
        # refuses what a job of that version does not have, as the API server's strict validation does
        try:
            k8s_model_from_dict(V1Job, k8s_snake_case_dict(V1Job, body))
        except Exception as error:  # noqa: BLE001 - whatever it says is the refusal
            raise Refused(400, "BadRequest", f"not a job: {error}") from None
        spec = body["spec"]["template"]["spec"]
        for what, key in (("volumes", "name"), ("volumeMounts", "mountPath"), ("containers", "name")):
            named = [each[key] for each in spec.get(what, spec["containers"][0].get(what)) or ()]
            if len(named) != len(set(named)):
                raise Refused(422, "Invalid", f"{what}: {key}s repeat: {named}")
        name = body["metadata"]["name"]
        if (namespace, name) in self.jobs:
            raise Refused(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        body["metadata"]["namespace"] = namespace
        pod = Pod(f"{name}-{len(self.made):05d}", body, self.store, self.folder)
        job = Job(body, pod)
        self.jobs[namespace, name] = job
        self.pods[namespace, pod.name] = pod
        self.made.append(job)
        self.events += pod.events
        return job.shown()

    def find_job(self, namespace: str, name: str) -> Job:
        if (namespace, name) not in self.jobs:
            raise Refused(404, "NotFound", f'jobs.batch "{name}" not found')
        return self.jobs[namespace, name]

    def delete_job(self, namespace: str, name: str) -> Document:
        self.find_job(namespace, name)
        del self.jobs[namespace, name]
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def list_jobs(self, namespace: str, query: dict[str, str]) -> Document:
        found = [job.shown() for (space, _), job in self.jobs.items() if space == namespace]
        return _list("JobList", "batch/v1", _chosen(found, query))

    def find_pod(self, namespace: str, name: str) -> Pod:
        if (namespace, name) not in self.pods:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        return self.pods[namespace, name]

    def delete_pod(self, namespace: str, name: str) -> Document:
        pod = self.find_pod(namespace, name)
        del self.pods[namespace, name]
        pod.stop()
        return pod.document()

    def list_pods(self, namespace: str, query: dict[str, str]) -> Document:
        found = [pod.document() for (space, _), pod in self.pods.items() if space == namespace]
        return _list("PodList", "v1", _chosen(found, query))

    def list_events(self, namespace: str, query: dict[str, str]) -> Document:
        found = [each for each in self.events if each["metadata"]["namespace"] == namespace]
        return _list("EventList", "v1", _chosen(found, query))


def _list(kind: str, version: str, items: list[Document]) -> Document:
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


def _chosen(items: list[Document], query: dict[str, str]) -> list[Document]:
    """By `fieldSelector` and `labelSelector`, where both may be several `key=value` with commas between."""

    def value(item: Document, path: str) -> Any:
        for part in path.split("."):
            item = item.get(part) or {}
        return item

    fields = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair]
    labels = [pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair]
    return [
        item
        for item in items
        if all(value(item, path) == wanted for path, wanted in fields)
        and all((item["metadata"].get("labels") or {}).get(label) == wanted for label, wanted in labels)
    ]


_NAMESPACE = r"/namespaces/([^/]+)"
_JOBS, _PODS = rf"/apis/batch/v1{_NAMESPACE}/jobs", rf"/api/v1{_NAMESPACE}/pods"
# name of the call, method, path, how it is answered; the path's own words come before query and body
_ROUTES: list[tuple[str, str, str, Callable[..., Any]]] = [
    ("create job", "POST", _JOBS, lambda c, ns, query, body: c.create_job(ns, body)),
    ("list jobs", "GET", _JOBS, lambda c, ns, query, body: c.list_jobs(ns, query)),
    ("read job status", "GET", rf"{_JOBS}/([^/]+)/status", lambda c, ns, name, *_: c.find_job(ns, name).shown()),
    ("delete job", "DELETE", rf"{_JOBS}/([^/]+)", lambda c, ns, name, *_: c.delete_job(ns, name)),
    ("list pods", "GET", _PODS, lambda c, ns, query, body: c.list_pods(ns, query)),
    ("read pod", "GET", rf"{_PODS}/([^/]+)", lambda c, ns, name, *_: c.find_pod(ns, name).document()),
    ("log pod", "GET", rf"{_PODS}/([^/]+)/log", lambda c, ns, name, query, _: c.find_pod(ns, name).log(query)),
    ("delete pod", "DELETE", rf"{_PODS}/([^/]+)", lambda c, ns, name, *_: c.delete_pod(ns, name)),
    ("list events", "GET", rf"/api/v1{_NAMESPACE}/events", lambda c, ns, query, _: c.list_events(ns, query)),
]


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                for name, method, pattern, call in _ROUTES:
                    match = re.fullmatch(pattern, parts.path)
                    if match is not None and method == self.command:
                        with cluster.lock:
                            cluster.calls.append(name)
                            given = json.loads(body) if body else None
                            self.say(200, call(cluster, *match.groups(), dict(parse_qsl(parts.query)), given))
                        return
                raise Refused(404, "NotFound", f"this stand-in has no {self.command} {parts.path}")
            except Refused as refused:
                self.say(refused.code, refused.status)

        def say(self, code: int, what: Document | bytes) -> None:
            sent = what if isinstance(what, bytes) else json.dumps(what).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(what, bytes) else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing: a test looks at `calls`."""

    return Handler


@contextmanager
def serve(folder: Path) -> Iterator[Cluster]:
    """A cluster without anything in it; its pods end with it."""
    cluster = Cluster(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for job in cluster.made:
            job.pod.kill()
