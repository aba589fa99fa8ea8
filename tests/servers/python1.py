"""The Python SDK 1.x as the client of visit.py."""

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import visit
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


class Client:
    def __init__(self, session):
        self.session = session

    async def tools(self, cursor):
        return await self.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))

    async def prompts(self, cursor):
        return await self.session.list_prompts(params=types.PaginatedRequestParams(cursor=cursor))

    async def resources(self, cursor):
        return await self.session.list_resources(params=types.PaginatedRequestParams(cursor=cursor))

    async def templates(self, cursor):
        return await self.session.list_resource_templates(params=types.PaginatedRequestParams(cursor=cursor))

    async def call(self, name, arguments, note):
        return await self.session.call_tool(name, arguments, progress_callback=note)

    async def prompt(self, name, arguments):
        return await self.session.get_prompt(name, arguments)

    async def read(self, uri):
        return await self.session.read_resource(uri)


def transport(to):
    if "stdio" in to:
        return stdio_client(StdioServerParameters(command=to["stdio"][0], args=to["stdio"][1:]))
    return streamable_http_client(to["http"]) if "http" in to else sse_client(to["sse"])


@asynccontextmanager
async def connect(server):
    async def elicit(context, params):
        return types.ElicitResult.model_validate(visit.elicited(params))

    async def sample(context, params):
        return types.CreateMessageResult.model_validate(visit.SAMPLE)

    async def roots(context):
        return types.ListRootsResult.model_validate({"roots": visit.roots_of(server)})

    async with AsyncExitStack() as stack:
        read, write, *_ = await stack.enter_async_context(transport(server["connect"]))
        session = ClientSession(
            read,
            write,
            read_timeout_seconds=timedelta(seconds=visit.DEADLINE),
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
        )
        await stack.enter_async_context(session)
        welcome = await session.initialize()
        yield Client(session), welcome.capabilities


visit.main(connect)
