// The TypeScript SDK 1.x as the client of visit.js.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
    CallToolResultSchema,
    CreateMessageRequestSchema,
    ElicitRequestSchema,
    ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { DEADLINE, elicited, main, rootsOf, sampled } from './visit.js';

const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };
const options = { timeout: DEADLINE };

function transport({ stdio, http, sse }) {
    if (stdio) {
        return new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), stderr: 'ignore' });
    }
    return http ? new StreamableHTTPClientTransport(new URL(http)) : new SSEClientTransport(new URL(sse));
}

await main(async (server) => {
    const client = new Client({ name: 'typescript-1', version: '1' }, { capabilities });
    client.setRequestHandler(ElicitRequestSchema, (request) => elicited(request.params));
    client.setRequestHandler(CreateMessageRequestSchema, () => sampled);
    client.setRequestHandler(ListRootsRequestSchema, () => rootsOf(server));
    await client.connect(transport(server.connect), options);
    return {
        client: {
            tools: (params) => client.listTools(params, options),
            prompts: (params) => client.listPrompts(params, options),
            resources: (params) => client.listResources(params, options),
            templates: (params) => client.listResourceTemplates(params, options),
            call: (params, onprogress) => client.callTool(params, CallToolResultSchema, { ...options, onprogress }),
            prompt: (params) => client.getPrompt(params, options),
            read: (params) => client.readResource(params, options),
        },
        capabilities: client.getServerCapabilities(),
        close: () => client.close(),
    };
});
