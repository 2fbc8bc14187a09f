"""Kubernetes' documents in files, held to the API's own models: what a model does not have is a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from datasense_assets_tests.kubernetes.chart import ROOT

Document = dict[str, Any]
FOLDER = ROOT / "deploy" / "kubernetes"
_KEDA = {"ScaledObject": ScaledObject, "TriggerAuthentication": TriggerAuthentication}


def documents(*files: Path) -> Iterator[Document]:
    for file in files:
        yield from (each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each)


def manifests() -> list[Document]:
    """Every document of deploy/kubernetes that is for the cluster, and not for the chart."""
    return list(documents(*(f for f in sorted(FOLDER.glob("*.yaml")) if not f.name.startswith("values-"))))


def of_kind(kind: str) -> list[Document]:
    return [each for each in manifests() if each["kind"] == kind]


def check(document: Document) -> None:
    """Fails for an unknown kind or field, a value of the wrong type, and a field that is missing."""
    if document["apiVersion"].startswith("keda.sh/"):
        model = _KEDA[document["kind"]].model_validate(document)
        assert model.model_dump(by_alias=True, exclude_none=True, mode="json") == document
        return
    made = getattr(kubernetes.client, f"V1{document['kind']}")
    model = k8s_model_from_dict(made, k8s_snake_case_dict(made, document))
    assert kubernetes.client.ApiClient().sanitize_for_serialization(model) == document
