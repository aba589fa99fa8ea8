"""Runs the official conformance suite on servers directly and with a gateway in between, and compares by name.

A scenario passes if no check of it failed or warned, and one succeeded that does not succeed against a dead port too.
What passes directly must pass through the gateway, with each check that succeeded; what does not is in `expected.txt`,
with the reason. Fails if that list lacks something, or has something that passes.

Usage: run.py NODE SUITES PYTHON1 PYTHON2 RESULTS, where SUITES is the folder with both versions of the suite, PYTHON1
and PYTHON2 have the Python SDKs 1.x and 2.x, and RESULTS is a folder for logs. LAKH names the gateway.
Further arguments pick legs: each is a part of a leg's name.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gateway import fixture, gateway

HERE = Path(__file__).parent
# Longest for one scenario, in milliseconds, and for one run of the suite, in seconds.
SCENARIO_LIMIT = 12_000
RUN_LIMIT = 150
# Legs that run at once: a leg is a suite, a gateway and a server, and mostly one of them works.
AT_ONCE = 3
OLD, NEW = "conformance-0.1", "conformance-0.2"
# What is run: the version of the suite, and what selects its scenarios.
SETS = {
    "0.1.16": (OLD, ["--suite", "all"]),
    "2025-11-25": (NEW, ["--requirements", "2025-11-25", "--timeout", str(SCENARIO_LIMIT)]),
    "2026-07-28": (NEW, ["--requirements", "2026-07-28", "--timeout", str(SCENARIO_LIMIT)]),
}
HANDSHAKE = ("0.1.16", "2025-11-25")
# A gateway is neither a client nor a server of OAuth; the client does none, and none of these passes directly.
CLIENT_SCENARIOS = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ],
    "2026-07-28": [
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
}
RANK = ["SUCCESS", "INFO", "SKIPPED", "WARNING", "FAILURE"]


@dataclass
class Outcome:
    """What one scenario came to: the worst status of each check."""

    checks: dict = field(default_factory=dict)
    messages: dict = field(default_factory=dict)

    def add(self, check):
        name = f"{check['id']}/{check['name']}"
        if RANK.index(check["status"]) >= RANK.index(self.checks.get(name, "SUCCESS")):
            self.checks[name] = check["status"]
            self.messages[name] = check.get("errorMessage") or ""

    def passes(self, worthless):
        statuses = set(self.checks.values())
        good = [name for name, status in self.checks.items() if status == "SUCCESS" and name not in worthless]
        return bool(good) and not statuses & {"WARNING", "FAILURE"}


@dataclass(frozen=True)
class Leg:
    """One run of a set. `upstream`: which fixture; `transport`: how the gateway reaches it, or "direct" or "dead"."""

    side: str
    set: str
    upstream: str
    transport: str

    def __str__(self):
        return f"{self.side} {self.set} {self.upstream} {self.transport}"


class House:
    """Where everything is."""

    def __init__(self, node, suites, python1, python2, results):
        self.node, self.suites, self.results = node, Path(suites), Path(results)
        self.python2 = python2
        self.fixtures = {
            "dual": [python2, str(HERE / "dual.py")],
            "legacy": [python1, str(HERE / "legacy.py")],
            "modern": [python2, str(HERE / "dual.py"), "--modern-only"],
        }

    def suite(self, leg, *arguments):
        """Runs the suite once; gives the outcome of each scenario, by name."""
        version, selected = SETS[leg.set]
        script = self.suites / version / "dist" / "index.js"
        folder = self.folder(leg)
        command = [self.node, str(script), leg.side, *arguments, "--output-dir", str(folder / "checks")]
        with open(folder / "suite.log", "a") as log:
            try:
                selected = selected if leg.side == "server" else []
                subprocess.run([*command, *selected], stdout=log, stderr=subprocess.STDOUT, timeout=RUN_LIMIT)
            except subprocess.TimeoutExpired:
                print(f"{leg}: took longer than {RUN_LIMIT} s", flush=True)
        outcomes = defaultdict(Outcome)
        for found in (folder / "checks").glob("**/checks.json"):
            # The folder is named by side, scenario and time, and a scenario may have a slash.
            name = str(found.parent.relative_to(folder / "checks"))
            name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", name)
            name = name.removeprefix("server-") if leg.side == "server" else name
            for check in json.loads(found.read_text()):
                outcomes[name].add(check)
        return dict(outcomes)

    def folder(self, leg):
        return self.results / str(leg).replace(" ", "_")

    def run(self, leg):
        folder = self.folder(leg)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return self.run_client(leg) if leg.side == "client" else self.run_server(leg, folder)

    def run_server(self, leg, folder):
        if leg.transport == "dead":
            with socket.create_server(("127.0.0.1", 0)) as closed:
                port = closed.getsockname()[1]
            return self.suite(leg, "--url", f"http://127.0.0.1:{port}/mcp")
        command = self.fixtures[leg.upstream]
        server_log, lakh_log = folder / "server.log", folder / "lakh.log"
        if leg.transport == "stdio":
            upstream = ["--stdio", " ".join([*command, "stdio"])]
            if leg.upstream == "legacy":
                # On one pipe only a session of its own tells whose question a server of the handshake era asks.
                knobs = folder / "lakh.toml"
                line = json.dumps([*command, "stdio"])
                knobs.write_text(f'[upstreams.legacy]\ncommand = {line}\nsharing = "per-session"\n')
                upstream = ["--config", str(knobs)]
            with gateway(upstream, lakh_log) as address:
                return self.suite(leg, "--url", f"http://{address}/mcp")
        with fixture(command, server_log) as url:
            if leg.transport == "direct":
                return self.suite(leg, "--url", url)
            with gateway(["--http", url], lakh_log) as address:
                return self.suite(leg, "--url", f"http://{address}/mcp")

    def run_client(self, leg):
        command = [self.python2, str(HERE / "client.py")]
        if leg.transport == "dead":
            command = ["false"]
        elif leg.transport == "http":
            command = [self.python2, str(HERE / "through.py"), *command]
        for scenario in CLIENT_SCENARIOS[leg.set]:
            options = ["--scenario", scenario, "--spec-version", leg.set, "--timeout", str(SCENARIO_LIMIT)]
            outcomes = self.suite(leg, *options, "--command", " ".join(command))
        return outcomes


def legs():
    """Each leg with a gateway, beside the two that it is compared with: direct and dead."""
    found = []
    for name in SETS:
        base = (Leg("server", name, "dual", "direct"), Leg("server", name, "none", "dead"))
        upstreams = ["dual", "modern" if name in HANDSHAKE else "legacy"]
        if name == "2025-11-25":
            upstreams.append("legacy")
        for upstream in upstreams:
            found += [(Leg("server", name, upstream, transport), *base) for transport in ("stdio", "http")]
    for name in CLIENT_SCENARIOS:
        base = (Leg("client", name, "suite", "direct"), Leg("client", name, "none", "dead"))
        found.append((Leg("client", name, "suite", "http"), *base))
    return found


# How the reason begins where a fast machine may pass.
HURRY = "in time only on a fast machine: "


def read_expected():
    """The lines of expected.txt: (side, set, upstream, transport, scenario, check or "") with the reason."""
    found = {}
    for line in (HERE / "expected.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        side, name, upstream, transport, what, reason = line.split(None, 5)
        scenario, _, check = what.partition(":")
        found[(side, name, upstream, transport, scenario, check)] = reason
    return found


def expected_for(expected, leg, scenario, check):
    """The key of the line that expects this, if one does. `*` stands for any."""
    for key in expected:
        fields = (leg.side, leg.set, leg.upstream, leg.transport, scenario)
        fits = all(have in ("*", is_) for have, is_ in zip(key[:5], fields))
        if fits and key[5] in ("", check.split("/")[0]):
            return key
    return None


def compare(leg, direct, worthless, through, expected):
    """What is wrong, as lines; what is expected to be, by its key; how many pass directly, through, and are excused."""
    wrong, excuses, counts = [], {}, [0, 0, 0]
    for scenario, base in sorted(direct.items()):
        if not base.passes(worthless.get(scenario, set())):
            continue
        outcome = through.get(scenario, Outcome())
        good = {check for check, status in base.checks.items() if status == "SUCCESS"}
        missing = {check for check in good if outcome.checks.get(check) != "SUCCESS"}
        worse = {check for check, status in outcome.checks.items() if status in ("WARNING", "FAILURE")}
        bad = {check: expected_for(expected, leg, scenario, check) for check in sorted(missing | worse)}
        excuses.update({key: f"{leg}: {scenario}" for key in bad.values() if key})
        unexcused = [check for check, key in bad.items() if not key]
        if unexcused:
            told = [f"{check.split('/')[0]} {outcome.checks.get(check, 'not there')}" for check in unexcused]
            why = next((outcome.messages[check] for check in unexcused if outcome.messages.get(check)), "")
            wrong.append(f"{leg}: {scenario}: {', '.join(told)}: {why[:300]}")
        counts[0] += 1
        counts[1] += not bad
        counts[2] += bool(bad) and not unexcused
    return wrong, excuses, counts


def main(arguments):
    house = House(*arguments[:5])
    wanted = [it for it in legs() if not arguments[5:] or any(part in str(it[0]) for part in arguments[5:])]
    everything = list(dict.fromkeys(leg for it in wanted for leg in reversed(it)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {leg: pool.submit(house.run, leg) for leg in everything}
    results, wrong = {}, []
    for leg, future in futures.items():
        if future.exception():
            wrong.append(f"{leg}: {future.exception()}")
        results[leg] = {} if future.exception() else future.result()
    expected, used, passed, failed = read_expected(), {}, 0, 0
    print(f"{'side':7}{'set':12}{'upstream':9}{'by':7}{'direct':>7}{'through':>8}{'excused':>8}{'wrong':>6}")
    for leg, direct, dead in wanted:
        if futures[leg].exception():
            failed += 1
            continue
        worthless = {
            name: {check for check, status in it.checks.items() if status == "SUCCESS"}
            for name, it in results[dead].items()
        }
        lines, excuses, counts = compare(leg, results[direct], worthless, results[leg], expected)
        there, through, excused = counts
        wrong += lines if there else [f"{leg}: no scenario passes directly"]
        used.update(excuses)
        passed, failed = passed + through + excused, failed + there - through - excused
        columns = f"{there:7}{through:8}{excused:8}{there - through - excused:6}"
        print(f"{leg.side:7}{leg.set:12}{leg.upstream:9}{leg.transport:7}{columns}")
    for dead in dict.fromkeys(it[2] for it in wanted):
        vain = sorted(name for name, it in results[dead].items() if "FAILURE" not in it.checks.values())
        if vain:
            print(f"fails no check even without a peer, so only more counts: {dead}: {', '.join(vain)}")
    for key, where in used.items():
        print(f"excused: {where}{key[5] and ':'}{key[5]}: {expected[key]}")
    if not arguments[5:]:
        idle = [key for key, reason in expected.items() if key not in used and not reason.startswith(HURRY)]
        wrong += [f"expected.txt: passes, or is not there: {' '.join(key)}" for key in idle]
    for line in wrong:
        print(line)
    print(f"{passed} passed, {max(failed, len(wrong) and 1)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
