"""The Python SDK 2.x as the client of visit.py: it speaks the newest revision that the server has."""

from contextlib import asynccontextmanager

import mcp
import mcp_types as types
import visit


class Client:
    def __init__(self, client):
        self.client = client

    async def tools(self, cursor):
        return await self.client.list_tools(cursor=cursor)

    async def prompts(self, cursor):
        return await self.client.list_prompts(cursor=cursor)

    async def resources(self, cursor):
        return await self.client.list_resources(cursor=cursor)

    async def templates(self, cursor):
        return await self.client.list_resource_templates(cursor=cursor)

    async def call(self, name, arguments, note):
        return await self.client.call_tool(name, arguments, progress_callback=note)

    async def prompt(self, name, arguments):
        return await self.client.get_prompt(name, arguments)

    async def read(self, uri):
        return await self.client.read_resource(uri)


@asynccontextmanager
async def connect(server):
    async def elicit(context, params):
        return types.ElicitResult.model_validate(visit.elicited(params))

    async def sample(context, params):
        return types.CreateMessageResult.model_validate(visit.SAMPLE)

    async def roots(context):
        return types.ListRootsResult.model_validate({"roots": visit.roots_of(server)})

    to = server["connect"]
    if "stdio" in to:
        target = mcp.StdioServerParameters(command=to["stdio"][0], args=to["stdio"][1:])
    else:
        target = to["http"]
    client = mcp.Client(
        target,
        read_timeout_seconds=visit.DEADLINE,
        elicitation_callback=elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
    )
    async with client:
        yield Client(client), client.server_capabilities


visit.main(connect)
