// The TypeScript SDK of MCP (v1) over WebSocket, Streamable HTTP or HTTP+SSE, as the URL in $GATEWAY says (ws://, /mcp
// or /sse), in each revision it can speak. The SDK checks every answer against its zod schemas, and structured content
// against the tool's output schema.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { WebSocket } from 'ws';

// Node 20 has none of its own.
globalThis.WebSocket = WebSocket;

const TOOLS = ['add', 'blob', 'echo', 'sleep', 'stats'];
const REVISIONS = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25'];
const DEADLINE = { timeout: 20_000 };

const url = new URL(process.env.GATEWAY);
const overWebSocket = url.protocol === 'ws:';
const overHttp = url.pathname === '/sse' ? SSEClientTransport : StreamableHTTPClientTransport;

/** Asks for a revision of our choice: the SDK always asks for its newest. */
class Transport extends (overWebSocket ? WebSocketClientTransport : overHttp) {
    constructor(revision) {
        super(url);
        this.revision = revision;
    }

    /** The SDK tells its transport what was agreed on. */
    setProtocolVersion(agreed) {
        this.agreed = agreed;
        super.setProtocolVersion?.(agreed);
    }

    send(message, options) {
        return super.send(
            message.method === 'initialize'
                ? { ...message, params: { ...message.params, protocolVersion: this.revision } }
                : message,
            options,
        );
    }
}

/** Runs `body` with a client; what the SDK could not read, or nobody waited for, is a failure. */
async function withClient(revision, body) {
    const client = new Client({ name: 'typescript-test', version: '1' });
    const transport = new Transport(revision);
    const complaints = [];
    // The SDK tells of its own GET, which closing ends.
    client.onerror = (error) => error.name === 'AbortError' || complaints.push(error);
    await client.connect(transport, DEADLINE);
    try {
        await body(client, transport);
    } finally {
        await client.close();
    }
    assert.deepEqual(complaints, []);
}

const call = (client, name, args, options = {}) =>
    client.callTool({ name, arguments: args }, CallToolResultSchema, { ...DEADLINE, ...options });

const text = (result) => {
    assert.notEqual(result.isError, true, JSON.stringify(result));
    return result.content[0].text;
};

const stats = async (client) => JSON.parse(text(await call(client, 'stats', {})));

for (const revision of REVISIONS) {
    const structured = revision >= '2025-06-18';
    const it = (name, body) => test(name, DEADLINE, () => withClient(revision, body));

    describe(revision, () => {
        it('initialize agrees on the revision and the subprotocol', async (client, transport) => {
            assert.equal(transport.agreed, revision);
            if (overWebSocket) assert.equal(transport._socket.protocol, 'mcp');
            assert.equal(client.getServerVersion().name, 'lakh');
            assert.equal(client.getServerVersion().title !== undefined, structured);
            assert.ok(client.getServerCapabilities().tools);
            assert.ok(client.getInstructions().length > 0);
        });

        it('tools are listed with what the revision has', async (client) => {
            const { tools } = await client.listTools(undefined, DEADLINE);
            assert.deepEqual(tools.map((tool) => tool.name).sort(), TOOLS);
            const add = tools.find((tool) => tool.name === 'add');
            assert.equal(add.outputSchema !== undefined, structured);
            assert.equal(add.annotations?.readOnlyHint, revision >= '2025-03-26' ? true : undefined);
        });

        it('each tool answers', async (client) => {
            await client.listTools(undefined, DEADLINE);
            const words = 'line\nbreak "quote" \u{1f980} \u0000 \u2028 end';
            assert.equal(text(await call(client, 'echo', { text: words })), words);
            const sum = await call(client, 'add', { a: 2, b: 0.5 });
            assert.deepEqual(JSON.parse(text(sum)), { sum: 2.5 });
            assert.deepEqual(sum.structuredContent, structured ? { sum: 2.5 } : undefined);
            for (const bytes of [0, 1, 125, 126, 65_535, 65_536, 1_048_576]) {
                assert.equal(text(await call(client, 'blob', { bytes })).length, bytes);
            }
            assert.ok((await stats(client)).connections >= 1);
        });

        it('a large argument comes back whole', async (client) => {
            const words = 'x'.repeat(1_000_000);
            assert.equal(text(await call(client, 'echo', { text: words })), words);
        });

        it('mistakes are errors the SDK understands', async (client) => {
            await assert.rejects(call(client, 'no-such-tool', {}), { code: -32602 });
            await assert.rejects(client.listPrompts(undefined, DEADLINE), { code: -32601 });
            const wrong = call(client, 'add', { a: 'one', b: 2 });
            if (revision >= '2025-11-25') {
                assert.equal((await wrong).isError, true);
            } else {
                await assert.rejects(wrong, { code: -32602 });
            }
        });

        it('progress comes in order, and before the result', async (client) => {
            const seen = [];
            const result = await call(client, 'sleep', { ms: 300, progressEvery: 50 }, {
                onprogress: (progress) => seen.push(progress),
            });
            assert.equal(text(result).includes('300'), true);
            assert.deepEqual(seen.map((progress) => progress.progress), [50, 100, 150, 200, 250]);
            assert.ok(seen.every((progress) => progress.total === 300));
            assert.equal(seen[0].message !== undefined, revision >= '2025-03-26');
        });

        it('a cancelled sleep ends at once', async (client) => {
            const abort = new AbortController();
            const slow = call(client, 'sleep', { ms: 15_000 }, { signal: abort.signal });
            const given_up = assert.rejects(slow, /stop/);
            while ((await stats(client)).callsInFlight === 0) await sleep(10);
            abort.abort('stop');
            await given_up;
            while ((await stats(client)).callsInFlight > 0) await sleep(10);
        });

        it('a slow call holds up no other, and ping is answered', async (client) => {
            const order = [];
            await Promise.all([
                call(client, 'sleep', { ms: 300 }).then(() => order.push('sleep')),
                call(client, 'echo', { text: 'fast' }).then(() => order.push('echo')),
                client.ping(DEADLINE).then(() => order.push('ping')),
            ]);
            assert.deepEqual(order.at(-1), 'sleep');
        });
    });
}
