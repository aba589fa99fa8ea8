"""Visits real servers with clients of each SDK, directly and through gateways, and compares what they saw.

Each client lists all that a server has, calls each tool, gets each prompt and reads each resource. What must differ is
made the same first: times, sessions, the folder of the test, the environment of the server.

Usage: run.py PYTHON1 PYTHON2 RMCP RESULTS, where PYTHON1 has the Python SDK 1.x, PYTHON2 has 2.x and fastmcp, RMCP is the
client of the Rust SDK, which speaks raw TCP to a gateway, and RESULTS is a folder for logs. LAKH names the gateway. Further arguments pick clients by name.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "conformance"))
from gateway import gateway, running  # noqa: E402

PACKAGES = HERE / "node_modules" / "@modelcontextprotocol"
# Longest for one client to visit all servers, in seconds.
LIMIT = 120
# They need tasks, which leave the protocol, and which a client of these has to drive.
NOT_CALLED = {"simulate-research-query", "trigger-sampling-request-async", "trigger-elicitation-request-async"}
# What is asked of the gateway itself, whose other answer is no difference: which roots a shared server sees.
VARIES = {"get-roots-list"}

# A name that only one visit uses: server-everything keeps its files for all sessions. See `everything`.
TAG = "TAG"
EVERYTHING = {
    "calls": [
        ["echo", {"message": 'line\nbreak "quote" \U0001f980 end'}],
        ["get-annotated-message", {"messageType": "error", "includeImage": True}],
        ["get-env", {}],
        ["get-resource-links", {"count": 3}],
        ["get-resource-reference", {"resourceType": "Text", "resourceId": 1}],
        ["get-resource-reference", {"resourceType": "Blob", "resourceId": 2}],
        ["get-structured-content", {"location": "New York"}],
        ["get-sum", {"a": 2, "b": 0.5}],
        ["get-sum", {"a": "no number"}],
        ["get-tiny-image", {}],
        ["gzip-file-as-resource", {"name": f"{TAG}-a.gz", "data": "data:,hello", "outputType": "resource"}],
        ["gzip-file-as-resource", {"name": f"{TAG}-b.gz", "data": "data:,hello", "outputType": "resourceLink"}],
        ["toggle-simulated-logging", {}],
        ["toggle-simulated-logging", {}],
        ["toggle-subscriber-updates", {}],
        ["toggle-subscriber-updates", {}],
        ["trigger-long-running-operation", {"duration": 0.3, "steps": 3}],
        ["get-roots-list", {}],
        ["trigger-elicitation-request", {}],
        ["trigger-sampling-request", {"prompt": "Say something", "maxTokens": 10}],
        ["trigger-url-elicitation", {"url": "http://127.0.0.1/", "message": "Open it", "elicitationId": "one"}],
    ],
    "prompts": [
        ["simple-prompt", {}],
        ["args-prompt", {"city": "Bern", "state": "BE"}],
        ["completable-prompt", {"department": "Engineering", "name": "Alice"}],
        ["resource-prompt", {"resourceType": "Text", "resourceId": "1"}],
        ["no-such-prompt", {}],
    ],
    "reads": [
        "demo://resource/dynamic/text/1",
        "demo://resource/dynamic/blob/2",
        f"demo://resource/session/{TAG}-b.gz",
        "demo://resource/none",
    ],
    "roots": ["file:///tmp"],
}


def everything(folder):
    return json.loads(json.dumps(EVERYTHING).replace(TAG, folder.name))


def filesystem(folder):
    path = lambda name: str(folder / name)  # noqa: E731
    edit = [{"oldText": "new", "newText": "changed"}]
    return {
        "calls": [
            ["list_allowed_directories", {}],
            ["read_file", {"path": path("a.txt"), "head": 1}],
            ["read_text_file", {"path": path("a.txt")}],
            ["read_media_file", {"path": path("dot.png")}],
            ["read_multiple_files", {"paths": [path("a.txt"), path("b.txt"), path("none.txt")]}],
            ["write_file", {"path": path("c.txt"), "content": "something new\n"}],
            ["edit_file", {"path": path("c.txt"), "edits": edit}],
            ["create_directory", {"path": path("sub")}],
            ["move_file", {"source": path("c.txt"), "destination": path("sub/d.txt")}],
            ["list_directory", {"path": str(folder)}],
            ["list_directory_with_sizes", {"path": str(folder), "sortBy": "size"}],
            ["directory_tree", {"path": str(folder)}],
            ["search_files", {"path": str(folder), "pattern": "**/*.txt"}],
            ["get_file_info", {"path": path("a.txt")}],
            ["read_text_file", {"path": "/etc/hostname"}],
        ],
        "prompts": [],
        "reads": [],
        "roots": [f"file://{folder.parent}"],
    }


ADA = {"name": "Ada", "entityType": "person", "observations": ["writes"]}
BOB = {"name": "Bob", "entityType": "person", "observations": []}
KNOWS = {"from": "Ada", "to": "Bob", "relationType": "knows"}
MEMORY = {
    "calls": [
        ["create_entities", {"entities": [ADA, BOB]}],
        ["create_relations", {"relations": [KNOWS]}],
        ["add_observations", {"observations": [{"entityName": "Bob", "contents": ["reads", "sings"]}]}],
        ["read_graph", {}],
        ["search_nodes", {"query": "sings"}],
        ["open_nodes", {"names": ["Ada"]}],
        ["delete_observations", {"deletions": [{"entityName": "Bob", "observations": ["sings"]}]}],
        ["delete_relations", {"relations": [KNOWS]}],
        ["delete_entities", {"entityNames": ["Ada"]}],
        ["read_graph", {}],
        ["delete_entities", {"entityNames": ["Bob"]}],
    ],
    "prompts": [],
    "reads": [],
    "roots": ["file:///tmp"],
}


def stdio(name, *arguments, **environment):
    package = PACKAGES / f"server-{name}" / "dist" / "index.js"
    return ["env", *(f"{key}={value}" for key, value in environment.items()), "node", str(package), *arguments]


def prepare(folder):
    """A fresh folder for one visit of server-filesystem."""
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("first\nsecond\n")
    (folder / "b.txt").write_text("other\n")
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
    (folder / "dot.png").write_bytes(base64.b64decode(pixel))


def visit(client, command, plan, results):
    """Runs one client on a plan; gives what it saw, by server."""
    file = results / f"{client}.plan.json"
    file.write_text(json.dumps(plan))
    with open(results / f"{client}.log", "w") as log:
        done = subprocess.run([*command, str(file)], stdout=subprocess.PIPE, stderr=log, timeout=LIMIT)
    (results / f"{client}.json").write_bytes(done.stdout)
    if done.returncode != 0:
        raise RuntimeError(f"{client} ended with {done.returncode}; see {log.name}")
    return json.loads(done.stdout)


def same(value, folder):
    """The value without what must differ."""
    if isinstance(value, dict):
        if isinstance(value.get("blob"), str):
            with contextlib.suppress(ValueError):
                value = {**value, "blob": base64.b64decode(value["blob"]).decode()}
        return {key: same(it, folder) for key, it in value.items() if key not in ("_meta", "execution")}
    if isinstance(value, list):
        return [same(it, folder) for it in value]
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError):
        if value.startswith("{") and "PATH" in json.loads(value):
            return "an environment"
    value = value.replace(str(folder), "FOLDER").replace(str(folder.parent), "ROOT").replace(folder.name, TAG)
    value = re.sub(r"\d{1,2}:\d\d:\d\d(\s[AP]M)?", "TIME", value)
    value = re.sub(r"(created|modified|accessed): .*", r"\1: DATE", value)
    return re.sub(r"for session \S+?(?=[ .]|$)", "for session ID", value)


def outcome(told, folder):
    """What a request came to, as far as it is the same in each revision."""
    if "error" in told:
        # "Not found" has got another code, and the words are each side's own.
        return {"error": {-32002: -32602}.get(told["error"]["code"], told["error"]["code"])}
    result = told["result"]
    kept = {key: result[key] for key in ("content", "structuredContent", "messages", "contents") if key in result}
    return same({**kept, "isError": bool(result.get("isError"))}, folder)


def facts(saw, folder):
    """All that a visit has shown, by a name of each thing."""
    found = {}
    for kind, key in (("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("templates", "uriTemplate")):
        for it in saw.get(kind, []):
            # What another visit left on a shared server.
            if "resource/session/" not in it[key]:
                found[f"{kind} {it[key]}"] = same(it, folder)
    count = {}
    for kind, key in (("calls", "name"), ("gets", "name"), ("reads", "uri")):
        for it in saw[kind]:
            name = f"{kind} {it[key]}".replace(folder.name, TAG)
            count[name] = count.get(name, 0) + 1
            # An SDK may miss the last progress, where the answer is right behind it.
            value = "varies" if it[key] in VARIES else [outcome(it, folder), it.get("progress", [])[:2]]
            found[f"{name} ({count[name]})"] = value
    return found


def compare(direct, through):
    """Lines about what is not there or not the same."""
    for name, value in direct.items():
        if name not in through:
            yield f"{name}: not there"
        elif through[name] != value:
            was, now = (json.dumps(it, sort_keys=True)[:400] for it in (value, through[name]))
            yield f"{name}: {was} is now {now}"


def uncalled(saw):
    called = {it["name"] for it in saw["calls"]}
    return [it["name"] for it in saw["tools"] if it["name"] not in called | NOT_CALLED]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as it:
        return it.getsockname()[1]


def main(arguments):
    python1, python2, rmcp, results = *arguments[:3], Path(arguments[3]).resolve()
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    root = results / "files"
    clients = {
        "typescript 1": (["node", str(HERE / "typescript1.js")], "http"),
        "typescript 2": (["node", str(HERE / "typescript2.js")], "http"),
        "python 1": ([python1, str(HERE / "python1.py")], "http"),
        "python 2": ([python2, str(HERE / "python2.py")], "http"),
        "fastmcp": ([python2, str(HERE / "fast.py")], "http"),
        "typescript 1 sse": (["node", str(HERE / "typescript1.js")], "sse"),
        "python 1 sse": ([python1, str(HERE / "python1.py")], "sse"),
        "rmcp": ([rmcp], "http"),
        "rmcp tcp": ([rmcp], "tcp"),
    }
    clients = {name: it for name, it in clients.items() if not arguments[4:] or name in arguments[4:]}
    root.mkdir()
    with contextlib.ExitStack() as stack:
        port = free_port()
        http = ["env", f"PORT={port}", "node", str(PACKAGES / "server-everything/dist/index.js"), "streamableHttp"]
        stack.enter_context(running(http, results / "everything.log", re.compile("(listening)")))
        commands = {
            "everything": stdio("everything", "stdio"),
            "everything over http": f"http://127.0.0.1:{port}/mcp",
            "filesystem": stdio("filesystem", str(root)),
            "memory": stdio("memory", MEMORY_FILE_PATH=results / "memory-shared.jsonl"),
        }
        addresses = {}
        for name, to in commands.items():
            upstream = ["--http", to] if isinstance(to, str) else ["--stdio", " ".join(to)]
            addresses[name] = stack.enter_context(gateway(upstream, results / f"lakh {name}.log"))

        def go(client, direct):
            command, by = clients[client]
            label = f"{client} direct" if direct else client
            folder = root / ("visit-" + label.replace(" ", "-"))
            prepare(folder)
            own = {**commands, "memory": stdio("memory", MEMORY_FILE_PATH=results / f"{label}.jsonl")}
            plan = []
            for name, address in addresses.items():
                work = {"filesystem": filesystem(folder), "memory": MEMORY}.get(name) or everything(folder)
                to = {"http": own[name]} if isinstance(own[name], str) else {"stdio": own[name]}
                through = {by: address if by == "tcp" else f"http://{address}/{'sse' if by == 'sse' else 'mcp'}"}
                plan.append({"name": name, "connect": to if direct else through, **work})
            saw = visit(label, command, plan, results)
            return {name: (facts(it, folder), uncalled(it)) for name, it in saw.items()}

        # Through the gateways one after the other: they share servers, and what those remember. Directly, beside them.
        with ThreadPoolExecutor(1) as shared, ThreadPoolExecutor(1) as alone:
            through = {client: shared.submit(go, client, False) for client in clients}
            direct = {}
            for client in clients:
                # A dialect that only the gateway has is held against the same client's other one.
                plain = client.removesuffix(" sse").removesuffix(" tcp")
                direct[client] = direct.get(plain) or alone.submit(go, plain, True)
    wrong, passed, failed = [], 0, 0
    print(f"{'client':18}{'server':22}{'things':>7}{'same':>6}{'more':>6}")
    for client in clients:
        for it in (direct[client], through[client]):
            if it.exception():
                wrong.append(f"{client}: {it.exception()}")
        if direct[client].exception() or through[client].exception():
            failed += 1
            continue
        for name, (there, missed) in direct[client].result().items():
            now, _ = through[client].result()[name]
            lines = [f"{client}: {name}: {line}" for line in compare(there, now)]
            lines += [f"{client}: {name}: {tool}: no test calls it" for tool in missed]
            wrong += lines
            passed, failed = passed + len(there) - len(lines), failed + len(lines)
            more = len(now.keys() - there.keys())
            print(f"{client:18}{name:22}{len(there):7}{len(there) - len(lines):6}{more:6}")
    for line in wrong:
        print(line)
    print(f"{passed} passed, {failed} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
