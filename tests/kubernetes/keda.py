"""Checks a ScaledObject against KEDA's schema, by models made of its CRDs; an unknown field is a fault."""

import sys

import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

# What the scaler cannot do without; the CRD calls all of it a map of texts (KEDA's documentation of `prometheus`).
NEEDED = {"serverAddress", "query", "threshold"}


def unknown(given, known, path=""):
    """The fields that are given and that the model has not taken."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            yield from unknown(value, known[key], f"{path}.{key}") if key in known else [f"{path}.{key}"]
    elif isinstance(given, list) and isinstance(known, list):
        for at, (one, other) in enumerate(zip(given, known)):
            yield from unknown(one, other, f"{path}[{at}]")


for name in sys.argv[1:]:
    with open(name) as file:
        given = yaml.safe_load(file)
    model = ScaledObject.model_validate(given)
    wrong = list(unknown(given, model.model_dump(by_alias=True, exclude_unset=True, mode="json")))
    wrong += [f"{key} of {trigger['type']}" for trigger in given["spec"]["triggers"] for key in NEEDED - trigger["metadata"].keys()]
    if given["apiVersion"] != "keda.sh/v1alpha1" or given["kind"] != "ScaledObject":
        wrong.append("apiVersion or kind")
    if wrong:
        sys.exit(f"{name}: unknown or missing: {', '.join(wrong)}")
