"""fastmcp's client as the client of visit.py."""

from contextlib import asynccontextmanager

import fastmcp
import mcp_types as types
import visit
from fastmcp.client.transports import StdioTransport


class Client:
    def __init__(self, client):
        self.client = client

    async def tools(self, cursor):
        return await self.client.list_tools_mcp(cursor=cursor)

    async def prompts(self, cursor):
        return await self.client.list_prompts_mcp(cursor=cursor)

    async def resources(self, cursor):
        return await self.client.list_resources_mcp(cursor=cursor)

    async def templates(self, cursor):
        return await self.client.list_resource_templates_mcp(cursor=cursor)

    async def call(self, name, arguments, note):
        return await self.client.call_tool_mcp(name, arguments, progress_handler=note)

    async def prompt(self, name, arguments):
        return await self.client.get_prompt_mcp(name, arguments)

    async def read(self, uri):
        return await self.client.read_resource_mcp(uri)


@asynccontextmanager
async def connect(server):
    async def elicit(message, response_type, params, context):
        return types.ElicitResult.model_validate(visit.elicited(params))

    async def sample(messages, params, context):
        return types.CreateMessageResult.model_validate(visit.SAMPLE)

    to = server["connect"]
    client = fastmcp.Client(
        StdioTransport(to["stdio"][0], to["stdio"][1:], keep_alive=False) if "stdio" in to else to["http"],
        roots=[types.Root.model_validate(it) for it in visit.roots_of(server)],
        elicitation_handler=elicit,
        sampling_handler=sample,
        timeout=visit.DEADLINE,
    )
    async with client:
        yield Client(client), client.server_capabilities


visit.main(connect)
