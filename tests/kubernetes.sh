#!/bin/sh
# Checks tests/kubernetes/autoscale.yaml against the schemas of the Kubernetes API, of the oldest and the newest version
# that are supported, and tests/kubernetes/keda.yaml against KEDA's; an unknown field is a fault, which is tried too.
# Installs the checkers below the target folder, from pinned versions. Needs Python 3.10 or later.
# Usage: tests/kubernetes.sh
set -eu
cd "$(dirname "$0")/.."
venv=${CARGO_TARGET_DIR:-target}/kubernetes
manifest=tests/kubernetes/autoscale.yaml

[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/kubernetes/requirements.txt

for version in 1.33.0 1.37.0; do
    "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$manifest"
done

keda=tests/kubernetes/keda.yaml
"$venv/bin/python" tests/kubernetes/keda.py "$keda"

# Each of these must be found, or the check says nothing.
broken=$venv/broken.yaml
is_found() {
    sed "$2" "$1" >"$broken"
    if cmp -s "$1" "$broken"; then
        echo "kubernetes: $2 changes nothing" >&2
        exit 1
    fi
    shift 2
    if "$@" "$broken" >/dev/null 2>&1; then
        echo "kubernetes: $change was not found" >&2
        exit 1
    fi
}
for change in \
    's/^  minReplicas: 2/  minReplica: 2/' \
    's/^  minReplicas: 2/  minReplicas: two/' \
    's/^          averageValue: /          averageWert: /' \
    's/^  maxReplicas: 20//' \
    's/^      targetPort: /      targetPorts: /' \
    's/^      terminationGracePeriodSeconds: 45/      terminationGracePeriodSeconds: "45"/'; do
    is_found "$manifest" "$change" "$venv/bin/kubernetes-validate" --strict --quiet
done
for change in \
    's/^  minReplicaCount: 2/  minReplicas: 2/' \
    's/^  maxReplicaCount: 20/  maxReplicaCount: many/' \
    's/^    - type: prometheus/    - kind: prometheus/' \
    's/^              periodSeconds: 300/              period: 300/' \
    's/^        threshold: "1"/        threshold: 1/' \
    's/^        query: /        quary: /'; do
    is_found "$keda" "$change" "$venv/bin/python" tests/kubernetes/keda.py
done
echo "kubernetes: all passed"
