"""Writes the JSON schemas by which custom resources are judged: DESTINATION.

Runs in the environment of deploy/schemas.lock. The packages there hold the types as classes of
Python, which take seconds to import and overlook what they do not know; the schemas made of them
here refuse it. Kubernetes' own schemas are taken as kubernetes-validate ships them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import kubernetes_validate

DEFINITIONS = "https://kubernetes.io/api/_definitions.json"  # the $id of Kubernetes' own
PYDANTIC = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "cloudcoil.models.prometheus_operator.v1",
    ("cert-manager.io/v1", "Certificate"): "cloudcoil.models.cert_manager.v1",
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1",
    ("keda.sh/v1alpha1", "TriggerAuthentication"): "cloudcoil.models.keda.v1alpha1",
}
OPENAPI = {
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): "V1alpha1ClusterServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
SCALARS = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string"},
    "V1Time": {"type": "string"},
    "V1beta1MetricQuantity": {"type": ["integer", "number", "string"]},
    "object": {},
    # Kubernetes takes quantities and ports as either.
    "IntOrString": {"type": ["integer", "string"]},
    "ResourceQuantity": {"type": ["integer", "number", "string"]},
}


def strict(schema: Any) -> Any:
    """The schema with every object closed that says which properties it has."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def of_pydantic(module: str, kind: str) -> dict[str, Any]:
    model = getattr(importlib.import_module(module), kind)
    return strict(model.model_json_schema(by_alias=True))


def of_openapi(name: str, kubernetes: dict[str, str]) -> dict[str, Any]:
    """From KServe's generated classes; `kubernetes` has the references of the types that they
    take from there, by the names that they have here."""
    kserve = types.ModuleType("kserve")  # the package itself would import a whole server
    kserve.__path__ = [str(Path(kubernetes_validate.__file__).parents[1] / "kserve")]
    sys.modules["kserve"] = kserve
    models = importlib.import_module("kserve.models")
    definitions: dict[str, Any] = {}

    def schema(of: str) -> Any:
        if of in SCALARS:
            return SCALARS[of]
        if inner := re.fullmatch(r"list\[(.+)]", of):
            return {"type": "array", "items": schema(inner[1])}
        if inner := re.fullmatch(r"dict\(str, (.+)\)", of):
            return {"type": "object", "additionalProperties": schema(inner[1])}
        if not hasattr(models, of):
            known = kubernetes.get(re.sub(r"^K8sIoApi[A-Z][a-z]+(?=V\d)", "", of))
            return {"$ref": known} if known else False  # not shipped, so not to be used
        if of not in definitions:
            definitions[of] = {}
            definitions[of] = properties(getattr(models, of))
        return {"$ref": f"#/$defs/{of}"}

    def properties(of: Any) -> dict[str, Any]:
        names: dict[str, str] = of.attribute_map
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {names[key]: schema(value) for key, value in of.openapi_types.items()},
            "required": [
                names[key]
                for key in names
                if "must not be `None`" in inspect.getsource(getattr(of, key).fset)
            ],
        }

    return {**schema(name), "$defs": definitions}


def kubernetes_types(definitions: Path) -> dict[str, str]:
    """References into Kubernetes' definitions, by names as in V1Container."""
    found = {}
    for group in ("apimachinery.pkg.apis.meta", "api.autoscaling", "api.apps", "api.core"):
        for name in json.loads(definitions.read_text())["$defs"]:
            if match := re.fullmatch(rf"io\.k8s\.{group}\.v(\w+)\.(\w+)", name):
                found[f"V{match[1]}{match[2]}"] = f"{DEFINITIONS}#/$defs/{name}"
    return found


def main(destination: Path) -> None:
    destination.mkdir(parents=True, exist_ok=True)
    shipped = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    folders = {int(each.name.split(".")[1]): each for each in shipped.glob("v1.*-local-strict")}
    for minor, folder in folders.items():
        link = destination / f"kubernetes-1.{minor}"
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    kubernetes = kubernetes_types(folders[max(folders)] / "_definitions.json")
    schemas = {key: of_pydantic(module, key[1]) for key, module in PYDANTIC.items()}
    schemas |= {key: of_openapi(name, kubernetes) for key, name in OPENAPI.items()}
    for (version, kind), schema in schemas.items():
        file = destination / f"{kind}-{version.replace('/', '-')}.json"
        file.write_text(json.dumps(schema, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
