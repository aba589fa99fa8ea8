"""The Python SDK of MCP (1.x) over WebSocket, Streamable HTTP or HTTP+SSE, in each revision it can speak.

Which, the gateway's URL says: ws://, or a path of /mcp or /sse.

The SDK checks every answer against its pydantic models, and structured content against the tool's output schema.
"""

import asyncio
import json
import sys
import unittest
import warnings
from contextlib import asynccontextmanager
from datetime import timedelta
from unittest import mock

import websockets
from mcp import ClientSession, McpError, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

with warnings.catch_warnings():
    # It says that WebSocket leaves the SDK with 2.0.
    warnings.simplefilter("ignore")
    from mcp.client.websocket import websocket_client

TOOLS = ["add", "blob", "echo", "sleep", "stats"]
DEADLINE = 20
gateway = ""


def transport():
    if gateway.startswith("ws"):
        return websocket_client(gateway)
    return sse_client(gateway) if gateway.endswith("/sse") else streamable_http_client(gateway)


@asynccontextmanager
async def connect(revision):
    """A session in this revision. What the SDK could not read is raised."""
    strange = []

    async def note(message):
        if isinstance(message, Exception):
            strange.append(message)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streams = transport()
    async with streams as (read, write, *_):
        timeout = timedelta(seconds=DEADLINE)
        async with ClientSession(read, write, read_timeout_seconds=timeout, message_handler=note) as session:
            # The SDK always asks for its newest.
            with mock.patch.object(types, "LATEST_PROTOCOL_VERSION", revision):
                session.welcome = await session.initialize()
            yield session
    if strange:
        raise strange[0]


async def stats(session):
    return json.loads((await session.call_tool("stats", {})).content[0].text)


class Revision:
    """The tests; each revision is a class of its own below."""

    revision = ""

    async def asyncSetUp(self):
        self.structured = self.revision >= "2025-06-18"

    def text(self, result):
        self.assertFalse(result.isError, result)
        return result.content[0].text

    async def test_initialize_agrees_on_the_revision(self):
        async with connect(self.revision) as session:
            self.assertEqual(session.welcome.protocolVersion, self.revision)
            self.assertEqual(session.welcome.serverInfo.name, "lakh")
            self.assertIsNotNone(session.welcome.capabilities.tools)

    async def test_tools_are_listed_with_what_the_revision_has(self):
        async with connect(self.revision) as session:
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            self.assertEqual(sorted(tools), TOOLS)
            self.assertEqual(tools["add"].outputSchema is not None, self.structured)
            self.assertEqual(tools["add"].annotations is not None, self.revision >= "2025-03-26")

    async def test_each_tool_answers(self):
        async with connect(self.revision) as session:
            words = 'line\nbreak "quote" \U0001f980 \0 \u2028 end'
            self.assertEqual(self.text(await session.call_tool("echo", {"text": words})), words)
            total = await session.call_tool("add", {"a": 2, "b": 0.5})
            self.assertEqual(json.loads(self.text(total)), {"sum": 2.5})
            self.assertEqual(total.structuredContent, {"sum": 2.5} if self.structured else None)
            for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000]:
                self.assertEqual(len(self.text(await session.call_tool("blob", {"bytes": size}))), size)
            self.assertGreaterEqual((await stats(session))["connections"], 1)

    async def test_mistakes_are_errors_the_sdk_understands(self):
        async with connect(self.revision) as session:
            with self.assertRaises(McpError) as unknown:
                await session.call_tool("no-such-tool", {})
            self.assertEqual(unknown.exception.error.code, types.INVALID_PARAMS)
            with self.assertRaises(McpError) as missing:
                await session.list_prompts()
            self.assertEqual(missing.exception.error.code, types.METHOD_NOT_FOUND)

    async def test_progress_comes_in_order_and_before_the_result(self):
        seen = []

        async def note(progress, total, message):
            seen.append((progress, total, message is not None))

        async with connect(self.revision) as session:
            result = await session.call_tool("sleep", {"ms": 300, "progressEvery": 50}, progress_callback=note)
            self.text(result)
        told = self.revision >= "2025-03-26"
        self.assertEqual(seen, [(step, 300, told) for step in (50, 100, 150, 200, 250)])

    async def test_a_cancelled_sleep_ends_at_once(self):
        async with connect(self.revision) as session:
            slow = asyncio.ensure_future(session.call_tool("sleep", {"ms": 15_000}))
            # The SDK tells nobody the id of a request.
            await asyncio.sleep(0)
            number = session._request_id - 1
            while (await stats(session))["callsInFlight"] == 0:
                await asyncio.sleep(0.01)
            params = types.CancelledNotificationParams(requestId=number, reason="stop")
            cancelled = types.CancelledNotification(params=params)
            await session.send_notification(types.ClientNotification(cancelled))
            while (await stats(session))["callsInFlight"] > 0:
                await asyncio.sleep(0.01)
            self.assertFalse(slow.done(), "a cancelled request was answered")
            slow.cancel()

    async def test_a_slow_call_holds_up_no_other_and_ping_is_answered(self):
        order = []

        async def finish(name, work):
            await work
            order.append(name)

        async with connect(self.revision) as session:
            await asyncio.gather(
                finish("sleep", session.call_tool("sleep", {"ms": 300})),
                finish("echo", session.call_tool("echo", {"text": "fast"})),
                finish("ping", session.send_ping()),
            )
        self.assertEqual(sorted(order), ["echo", "ping", "sleep"])
        self.assertEqual(order[-1], "sleep")


for name in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]:
    title = "Revision_" + name.replace("-", "_")
    globals()[title] = type(title, (Revision, unittest.IsolatedAsyncioTestCase), {"revision": name})


class Handshake(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        if not gateway.startswith("ws"):
            self.skipTest("only over WebSocket")

    async def test_the_subprotocol_is_chosen_when_offered_and_only_then(self):
        async with websockets.connect(gateway, subprotocols=["mcp"]) as socket:
            self.assertEqual(socket.subprotocol, "mcp")
        async with websockets.connect(gateway) as socket:
            self.assertIsNone(socket.subprotocol)

    async def test_a_websocket_ping_is_answered(self):
        async with websockets.connect(gateway, subprotocols=["mcp"]) as socket:
            await asyncio.wait_for(await socket.ping(b"are you there"), DEADLINE)


if __name__ == "__main__":
    gateway = sys.argv.pop(1)
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    print(f"python: {result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed or result.testsRun == 0 else 0)
