"""A client on the Python SDK 2.x for the suite's client scenarios. It does no OAuth: a gateway is no part of that.

Usage: client.py URL, with the variables that the suite sets: MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION
and, in some scenarios, MCP_CONFORMANCE_CONTEXT.
"""

import asyncio
import json
import os
import sys

import mcp_types as types
from mcp import Client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

DEADLINE = 20
BY_TYPE = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


async def answer(context, params):
    """Accepts every form, with its defaults, and true where a yes or no is asked."""
    fields = params.requested_schema["properties"].items()
    content = {name: field.get("default", BY_TYPE[field["type"]]) for name, field in fields}
    return types.ElicitResult(action="accept", content=content)


def guess(schema):
    """Arguments that fit a simple input schema."""
    properties = schema.get("properties", {})
    return {name: BY_TYPE.get(properties[name].get("type")) for name in schema.get("required", [])}


def calls(scenario, context, tools):
    """What to call, in order."""
    by_name = {tool.name: tool.input_schema for tool in tools}
    if "toolCalls" in context:
        return [(it["name"], it["arguments"]) for it in context["toolCalls"]]
    if scenario == "tools_call":
        return [("add_numbers", {"a": 5, "b": 3})]
    if scenario == "json-schema-2020-12-preservation":
        return [("json_schema_echo", {"schema": by_name["json_schema_2020_12_tool"]})]
    # A tool whose schema points elsewhere is listed, not called.
    return [(name, guess(schema)) for name, schema in by_name.items() if scenario != "json-schema-ref-no-deref"]


async def run(url, scenario, modern, context):
    mode = "auto" if modern else "legacy"
    async with Client(url, mode=mode, read_timeout_seconds=DEADLINE, elicitation_callback=answer) as client:
        tools = (await client.list_tools()).tools
        for name, arguments in calls(scenario, context, tools):
            await client.call_tool(name, arguments)
        offered = client.server_capabilities
        if offered.resources:
            for resource in (await client.list_resources()).resources:
                await client.read_resource(resource.uri)
        if offered.prompts:
            for prompt in (await client.list_prompts()).prompts:
                await client.get_prompt(prompt.name)


if __name__ == "__main__":
    given = os.environ
    revision = given.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    asyncio.run(
        run(
            sys.argv[1],
            given["MCP_CONFORMANCE_SCENARIO"],
            revision in MODERN_PROTOCOL_VERSIONS,
            json.loads(given.get("MCP_CONFORMANCE_CONTEXT", "{}")),
        )
    )
