"""The fixture server on the Python SDK 1.x: of the handshake era only.

Usage: legacy.py stdio
       legacy.py http PORT     prints its address when it listens, on 127.0.0.1
"""

import contextlib
import logging
import sys
from functools import partial

import anyio
import catalogue
import uvicorn
from mcp import McpError, types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.message import ServerMessageMetadata
from starlette.applications import Starlette
from starlette.routing import Route

# How soon a client may come back to a stream that was closed, in milliseconds.
RETRY = 100
# "Resource not found" until 2026-07-28.
NOT_FOUND = -32002


def plain(model):
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


class Host(catalogue.Host):
    """Asks with requests of its own, and waits."""

    answers = {
        "elicitation/create": types.ElicitResult,
        "sampling/createMessage": types.CreateMessageResult,
        "roots/list": types.ListRootsResult,
    }

    def __init__(self, ctx):
        self.ctx, self.session = ctx, ctx.session
        self.capabilities = plain(ctx.session.client_params.capabilities)

    async def log(self, level, text):
        await self.session.send_log_message(level, text, "fixture", related_request_id=self.ctx.request_id)

    async def progress(self, done, total, message):
        token = self.ctx.meta.progressToken if self.ctx.meta else None
        if token is not None:
            related = str(self.ctx.request_id)
            await self.session.send_progress_notification(token, done, total, message, related_request_id=related)

    async def ask(self, requests, stateful=False):
        found = {}
        related = ServerMessageMetadata(related_request_id=self.ctx.request_id)
        for key, request in requests.items():
            asked = types.ServerRequest.model_validate(request)
            answered = self.answers[request["method"]]
            found[key] = plain(await self.session.send_request(asked, answered, metadata=related))
        return found

    async def changed(self, what):
        tell = {
            "tools": self.session.send_tool_list_changed,
            "prompts": self.session.send_prompt_list_changed,
            "resources": self.session.send_resource_list_changed,
        }
        await tell.get(what, partial(self.session.send_resource_updated, what))()

    async def close_stream(self):
        if self.ctx.close_sse_stream:
            await self.ctx.close_sse_stream()


def build():
    server = Server("lakh-legacy-fixture", version="1.0.0", instructions="A server for conformance tests.")

    def on(request_type, result_type, make):
        """`make(host, params)` gives the result as JSON."""

        async def handler(request):
            try:
                found = await make(Host(server.request_context), request.params)
            except catalogue.Refusal as it:
                raise McpError(types.ErrorData(code=it.code, message=it.message, data=it.data)) from None
            return types.ServerResult(result_type.model_validate(found))

        server.request_handlers[request_type] = handler

    async def call(host, params):
        return await catalogue.call_tool(host, params.name, params.arguments)

    async def get(host, params):
        return await catalogue.get_prompt(host, params.name, params.arguments)

    async def read(host, params):
        return catalogue.read_resource(str(params.uri), NOT_FOUND)

    async def complete(host, params):
        return catalogue.complete(params.argument.value)

    async def made(make, host, params):
        return make()

    on(types.ListToolsRequest, types.ListToolsResult, partial(made, catalogue.list_tools))
    on(types.CallToolRequest, types.CallToolResult, call)
    on(types.ListResourcesRequest, types.ListResourcesResult, partial(made, catalogue.list_resources))
    on(types.ListResourceTemplatesRequest, types.ListResourceTemplatesResult, partial(made, catalogue.list_templates))
    on(types.ReadResourceRequest, types.ReadResourceResult, read)
    on(types.ListPromptsRequest, types.ListPromptsResult, partial(made, catalogue.list_prompts))
    on(types.GetPromptRequest, types.GetPromptResult, get)
    on(types.CompleteRequest, types.CompleteResult, complete)
    for nothing in (types.SubscribeRequest, types.UnsubscribeRequest, types.SetLevelRequest):
        on(nothing, types.EmptyResult, partial(made, dict))
    # The SDK says that nobody can subscribe, whoever handles it, and over HTTP it takes no options.
    options = server.create_initialization_options(NotificationOptions(True, True, True))
    options.capabilities.resources.subscribe = True
    server.create_initialization_options = lambda *_, **__: options
    return server


async def serve_stdio(server):
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(server, port):
    hosts = ["127.0.0.1:*", "localhost:*", "[::1]:*"]
    origins = [f"http://{it}" for it in hosts]
    security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
    store = catalogue.Events(EventMessage)
    manager = StreamableHTTPSessionManager(server, store, security_settings=security, retry_interval=RETRY)

    class Endpoint:
        async def __call__(self, scope, receive, send):
            await manager.handle_request(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with manager.run():
            yield

    app = Starlette(routes=[Route("/mcp", Endpoint())], lifespan=lifespan)
    http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    async with anyio.create_task_group() as group:
        group.start_soon(http.serve)
        while not http.started:
            await anyio.sleep(0.02)
        port = http.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/mcp", flush=True)


def main(arguments):
    # It tells of each session that ends as of an error.
    logging.disable(logging.ERROR)
    transport, *rest = arguments or ["stdio"]
    if transport == "http":
        anyio.run(serve_http, build(), int(rest[0]))
    else:
        anyio.run(serve_stdio, build())


if __name__ == "__main__":
    main(sys.argv[1:])
