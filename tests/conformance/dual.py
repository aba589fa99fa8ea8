"""The fixture server on the Python SDK 2.x, of both eras, or of the modern one only.

Usage: dual.py [--modern-only] stdio
       dual.py [--modern-only] http PORT     prints its address when it listens, on 127.0.0.1
"""

import json
import logging
import sys
import warnings
from functools import partial

import anyio
import catalogue
import mcp_types as types
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

# How soon a client may come back to a stream that was closed, in milliseconds.
RETRY = 100
NAME = "lakh-conformance-fixture"
bus = InMemorySubscriptionBus()
events = {"tools": ToolsListChanged(), "prompts": PromptsListChanged(), "resources": ResourcesListChanged()}


def plain(model):
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


class NeedsInput(Exception):
    """Ends a modern call with the requests that the client must answer first."""


class AnyHost(catalogue.Host):
    def __init__(self, ctx):
        self.ctx, self.session = ctx, ctx.session
        declared = ctx.session.client_capabilities
        self.capabilities = plain(declared) if declared else {}

    async def log(self, level, text):
        await self.session.send_log_message(level, text, "fixture", related_request_id=self.ctx.request_id)

    async def progress(self, done, total, message):
        await self.session.report_progress(done, total, message)

    async def changed(self, what):
        await bus.publish(events.get(what) or ResourceUpdated(what))
        if self.ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return
        tell = {
            "tools": self.session.send_tool_list_changed,
            "prompts": self.session.send_prompt_list_changed,
            "resources": self.session.send_resource_list_changed,
        }
        await tell.get(what, partial(self.session.send_resource_updated, what))()


class HandshakeHost(AnyHost):
    """Asks with requests of its own, and waits."""

    kinds = {
        "elicitation/create": (types.ElicitRequest, types.ElicitResult),
        "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
        "roots/list": (types.ListRootsRequest, types.ListRootsResult),
    }

    async def ask(self, requests, stateful=False):
        answers = {}
        related = ServerMessageMetadata(related_request_id=self.ctx.request_id)
        for key, request in requests.items():
            asked, answered = self.kinds[request["method"]]
            asked = asked.model_validate(request)
            answers[key] = plain(await self.session.send_request(asked, answered, metadata=related))
        return answers

    async def close_stream(self):
        if self.ctx.close_sse_stream:
            await self.ctx.close_sse_stream()


class ModernHost(AnyHost):
    """Ends the call with what it asks, unless the retry has brought the answers; earlier ones are in the state."""

    def __init__(self, ctx, params):
        super().__init__(ctx)
        self.answers = json.loads(params.request_state) if params.request_state else {}
        self.answers |= {key: plain(it) for key, it in (params.input_responses or {}).items()}
        self.known = {}

    async def ask(self, requests, stateful=False):
        missing = {key: it for key, it in requests.items() if key not in self.answers}
        if missing:
            for request in missing.values():
                self.need(request["method"])
            needs = {"resultType": "input_required", "inputRequests": missing}
            if stateful or self.known:
                needs["requestState"] = json.dumps(self.known)
            raise NeedsInput(needs)
        found = {key: self.answers[key] for key in requests}
        self.known |= found
        return found


async def run(function, result_type, ctx, params):
    """Runs a tool or a prompt for whichever era the request is of."""
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    host = ModernHost(ctx, params) if modern else HandshakeHost(ctx)
    try:
        return result_type.model_validate(await function(host, params.name, params.arguments))
    except NeedsInput as needs:
        return needs.args[0]
    except catalogue.Refusal as it:
        raise MCPError(it.code, it.message, it.data) from None


def made_by(make, result_type):
    async def handler(ctx, params):
        return result_type.model_validate(make())

    return handler


async def read_resource(ctx, params):
    try:
        modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        found = catalogue.read_resource(str(params.uri), catalogue.INVALID_PARAMS if modern else -32002)
        return types.ReadResourceResult.model_validate(found)
    except catalogue.Refusal as it:
        raise MCPError(it.code, it.message, it.data) from None


async def complete(ctx, params):
    return types.CompleteResult.model_validate(catalogue.complete(params.argument.value))


async def nothing(ctx, params):
    return types.EmptyResult()


async def only_modern(ctx, call_next):
    """Refuses the handshake era, naming what is served."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return await call_next(ctx)
    data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": (ctx.params or {}).get("protocolVersion", "")}
    raise MCPError(types.UNSUPPORTED_PROTOCOL_VERSION, "Only served without a handshake", data)


def build(modern_only):
    with warnings.catch_warnings():
        # It says that logging leaves the protocol.
        warnings.simplefilter("ignore")
        server = Server(
            NAME,
            version="1.0.0",
            instructions="A server for conformance tests.",
            cache_hints={"tools/list": CacheHint(ttl_ms=1000, scope="public")},
            on_list_tools=made_by(catalogue.list_tools, types.ListToolsResult),
            on_call_tool=partial(run, catalogue.call_tool, types.CallToolResult),
            on_list_resources=made_by(catalogue.list_resources, types.ListResourcesResult),
            on_list_resource_templates=made_by(catalogue.list_templates, types.ListResourceTemplatesResult),
            on_read_resource=read_resource,
            on_subscribe_resource=nothing,
            on_unsubscribe_resource=nothing,
            on_subscriptions_listen=ListenHandler(bus),
            on_list_prompts=made_by(catalogue.list_prompts, types.ListPromptsResult),
            on_get_prompt=partial(run, catalogue.get_prompt, types.GetPromptResult),
            on_completion=complete,
            on_set_logging_level=nothing,
        )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    if modern_only:
        server.middleware.append(only_modern)
    # Over HTTP, the SDK takes no options.
    options = server.create_initialization_options(NotificationOptions(True, True, True))
    server.create_initialization_options = lambda *_, **__: options
    return server


def refuse_handshakes(app):
    """Answers a POST without a modern version as the page on versions asks: 400, with what is served."""

    async def asgi(scope, receive, send):
        headers = dict(scope.get("headers") or [])
        version = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
        if scope["type"] != "http" or version in MODERN_PROTOCOL_VERSIONS or scope["method"] != "POST":
            if scope["type"] == "http" and scope["method"] != "POST":
                await send({"type": "http.response.start", "status": 405, "headers": [(b"allow", b"POST")]})
                await send({"type": "http.response.body", "body": b""})
                return
            await app(scope, receive, send)
            return
        body = b""
        while (part := await receive()).get("more_body"):
            body += part["body"]
        request = json.loads(body + part.get("body", b"") or b"{}")
        data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version or "2025-03-26"}
        error = {"code": types.UNSUPPORTED_PROTOCOL_VERSION, "message": "Unsupported protocol version", "data": data}
        answer = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return asgi


async def serve_stdio(server):
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(server, port, modern_only):
    app = server.streamable_http_app(event_store=catalogue.Events(EventMessage), retry_interval=RETRY)
    if modern_only:
        app = refuse_handshakes(app)
    http = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    async with anyio.create_task_group() as group:
        group.start_soon(http.serve)
        while not http.started:
            await anyio.sleep(0.02)
        port = http.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/mcp", flush=True)


def main(arguments):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    modern_only = "--modern-only" in arguments
    transport, *rest = [it for it in arguments if it != "--modern-only"] or ["stdio"]
    server = build(modern_only)
    if transport == "http":
        anyio.run(serve_http, server, int(rest[0]), modern_only)
    else:
        anyio.run(serve_stdio, server)


if __name__ == "__main__":
    main(sys.argv[1:])
