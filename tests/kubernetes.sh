#!/bin/sh
# Checks tests/kubernetes/autoscale.yaml against the schemas of the Kubernetes API, of the oldest and the newest version
# that are supported; an unknown field is a fault, which is tried too.
# Installs the checker below the target folder, from a pinned version. Needs Python 3.10 or later.
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

# Each of these must be found, or the check says nothing.
broken=$venv/broken.yaml
for change in \
    's/^  minReplicas: 2/  minReplica: 2/' \
    's/^  minReplicas: 2/  minReplicas: two/' \
    's/^          averageValue: /          averageWert: /' \
    's/^  maxReplicas: 20//' \
    's/^      targetPort: /      targetPorts: /' \
    's/^      terminationGracePeriodSeconds: 45/      terminationGracePeriodSeconds: "45"/'; do
    sed "$change" "$manifest" >"$broken"
    if cmp -s "$manifest" "$broken"; then
        echo "kubernetes: $change changes nothing" >&2
        exit 1
    fi
    if "$venv/bin/kubernetes-validate" --strict --quiet "$broken" >/dev/null 2>&1; then
        echo "kubernetes: $change was not found" >&2
        exit 1
    fi
done
echo "kubernetes: all passed"
