"""Visits all that the servers of a plan offer, with a client of any Python SDK, and says what it saw as JSON."""

import asyncio
import json
import os
import sys

# Longest for one request, in seconds.
DEADLINE = 30
# Answers of the user, the model and the client.
FORM = {"action": "accept", "content": {"name": "Ada", "check": True}}
URL = {"action": "accept"}
SAMPLE = {"role": "assistant", "model": "test", "content": {"type": "text", "text": "a sample"}}


def elicited(params):
    return URL if params.mode == "url" else FORM


def roots_of(server):
    return [{"uri": uri, "name": "test"} for uri in server["roots"]]


def plain(model):
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def listed(fetch, key):
    found, cursor = [], None
    while True:
        page = plain(await fetch(cursor))
        found += page[key]
        cursor = page.get("nextCursor")
        if cursor is None:
            return found


async def told(request):
    try:
        return {"result": plain(await request)}
    except Exception as error:
        # The SDKs differ in their exceptions; each that came from the server has its error.
        told = getattr(error, "error", None)
        if told is None:
            return {"error": {"code": type(error).__name__, "message": str(error)}}
        return {"error": {"code": told.code, "message": told.message}}


async def visit(server, client, capabilities):
    """Visits one server. `client` has tools, prompts, resources, templates (cursor), call, prompt and read."""
    saw = {"tools": await listed(client.tools, "tools"), "calls": [], "prompts": [], "gets": [], "reads": []}
    known = {tool["name"] for tool in saw["tools"]}
    for name, arguments in server["calls"]:
        if name in known:
            progress = []

            async def note(done, total, message, progress=progress):
                progress.append(done)

            answer = await told(client.call(name, arguments, note))
            saw["calls"].append({"name": name, "args": arguments, **answer, "progress": progress})
    if capabilities.prompts:
        saw["prompts"] = await listed(client.prompts, "prompts")
        for name, arguments in server["prompts"]:
            saw["gets"].append({"name": name, **await told(client.prompt(name, arguments))})
    if capabilities.resources:
        saw["resources"] = await listed(client.resources, "resources")
        saw["templates"] = await listed(client.templates, "resourceTemplates")
        for uri in [it["uri"] for it in saw["resources"]] + server["reads"]:
            saw["reads"].append({"uri": uri, **await told(client.read(uri))})
    return saw


def main(connect):
    """Visits every server of the plan, whose file is the first argument. `connect` gives a client and capabilities."""

    async def all_of_them():
        saw = {}
        with open(sys.argv[1]) as plan:
            servers = json.load(plan)
        for server in servers:
            async with connect(server) as (client, capabilities):
                saw[server["name"]] = await visit(server, client, capabilities)
        print(json.dumps(saw), flush=True)

    # What servers say on stderr is theirs.
    sys.stderr = open(os.devnull, "w") if not sys.stderr.isatty() and "VERBOSE" not in os.environ else sys.stderr
    asyncio.run(all_of_them())
