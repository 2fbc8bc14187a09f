"""A pod as a process: what the kubelet does with a pod's template, as far as a run pod has it.

One container, its command line, its environment from values, secrets and config maps, its log, a signal and a grace
period before it is killed. Of volumes only config maps and secrets count, and only that they exist.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass
class Store:
    """What pods find in their cluster, by name: images that can be pulled, secrets and config maps."""

    images: set[str] = field(default_factory=set)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    # what is in the image: the path, chiefly
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self, container: Mapping[str, Any]) -> dict[str, str]:
        """The environment of a container; KeyError names a secret or config map that is not there."""
        found = dict(self.environment)
        for each in container.get("envFrom") or ():
            if "secretRef" in each:
                found |= self.secrets[each["secretRef"]["name"]]
            if "configMapRef" in each:
                found |= self.config_maps[each["configMapRef"]["name"]]
        for each in container.get("env") or ():
            source = (each.get("valueFrom") or {}).get("secretKeyRef")
            found[each["name"]] = self.secrets[source["name"]][source["key"]] if source else each.get("value", "")
        return found

    def check_volumes(self, spec: Mapping[str, Any]) -> None:
        """KeyError for a volume of a config map or secret that is not there, or a mount of no volume."""
        volumes = {}
        for volume in spec.get("volumes") or ():
            if "configMap" in volume:
                self.config_maps[volume["configMap"]["name"]]
            if "secret" in volume:
                self.secrets[volume["secret"]["secretName"]]
            volumes[volume["name"]] = volume
        for mount in spec["containers"][0].get("volumeMounts") or ():
            volumes[mount["name"]]


class Pod:
    """One pod of a job. `waiting`: why its container cannot start (reason, message)."""

    def __init__(self, name: str, job: Document, store: Store, folder: Path) -> None:
        template = job["spec"]["template"]
        self.name, self.spec = name, template["spec"]
        self.labels = {**(template["metadata"].get("labels") or {}), "job-name": job["metadata"]["name"]}
        self.namespace = job["metadata"]["namespace"]
        self.started_at = now()
        self.log_file = folder / f"{name}.log"
        self.waiting: tuple[str, str] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.events: list[Document] = []
        self._start(store)

    @property
    def container(self) -> Document:
        found: Document = self.spec["containers"][0]
        return found

    def _start(self, store: Store) -> None:
        image = self.container.get("image")
        if image not in store.images:
            message = f'Failed to pull image "{image}": not found'
            self.waiting = ("ErrImagePull", message)
            self.events.append(self._event("Failed", message))
            return
        try:
            store.check_volumes(self.spec)
            variables = store.variables(self.container)
        except KeyError as missing:
            message = f"{missing} not found"
            self.waiting = ("CreateContainerConfigError", message)
            self.events.append(self._event("Failed", message))
            return
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*(self.container.get("command") or ()), *(self.container.get("args") or ())],
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.container.get("workingDir") or variables.get("HOME", "/"),
                start_new_session=True,
            )

    def kill(self) -> None:
        """What an evicted node or the out-of-memory killer does: no signal that could be heeded."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Deletion: the termination signal, and after the grace period the end of patience."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        seconds = self.spec.get("terminationGracePeriodSeconds", 30)
        killer = threading.Timer(seconds, self.kill)
        killer.daemon = True
        killer.start()

    @property
    def phase(self) -> str:
        code = None if self.process is None else self.process.poll()
        if self.process is None:
            return "Pending"
        return "Running" if code is None else "Succeeded" if code == 0 else "Failed"

    def log(self, query: Mapping[str, str] | None = None) -> bytes:
        """All of it, or the last `tailLines` of the query."""
        lines = self.log_file.read_bytes().splitlines(keepends=True) if self.log_file.exists() else []
        return b"".join(lines[-int((query or {}).get("tailLines", len(lines) or 1)) :])

    def document(self) -> Document:
        """The pod as the API shows it."""
        if self.waiting is not None:
            state: Document = {"waiting": {"reason": self.waiting[0], "message": self.waiting[1]}}
        elif self.phase == "Running":
            state = {"running": {"startedAt": self.started_at}}
        else:
            assert self.process is not None
            code = self.process.returncode
            reason = "Completed" if code == 0 else "Error"
            state = {"terminated": {"exitCode": 128 - code if code < 0 else code, "reason": reason}}
        status = {
            "name": self.container["name"],
            "image": self.container.get("image") or "",
            "imageID": "",
            "ready": self.phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels},
            "spec": self.spec,
            "status": {"phase": self.phase, "startTime": self.started_at, "containerStatuses": [status]},
        }

    def _event(self, reason: str, message: str) -> Document:
        return {
            "metadata": {"name": f"{self.name}.{len(self.events)}", "namespace": self.namespace},
            "involvedObject": {"kind": "Pod", "name": self.name, "namespace": self.namespace},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "count": 1,
        }
