// The TypeScript SDK 2.x as the client of visit.js: it speaks the newest revision that the server has.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { DEADLINE, elicited, main, rootsOf, sampled } from './visit.js';

const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };
const options = { timeout: DEADLINE };

function transport({ stdio, http }) {
    return stdio
        ? new StdioClientTransport({ command: stdio[0], args: stdio.slice(1), stderr: 'ignore' })
        : new StreamableHTTPClientTransport(new URL(http));
}

await main(async (server) => {
    const negotiation = { versionNegotiation: { mode: 'auto' } };
    const client = new Client({ name: 'typescript-2', version: '1' }, { capabilities, ...negotiation });
    client.setRequestHandler('elicitation/create', (request) => elicited(request.params));
    client.setRequestHandler('sampling/createMessage', () => sampled);
    client.setRequestHandler('roots/list', () => rootsOf(server));
    await client.connect(transport(server.connect), options);
    return {
        client: {
            tools: (params) => client.listTools(params, options),
            prompts: (params) => client.listPrompts(params, options),
            resources: (params) => client.listResources(params, options),
            templates: (params) => client.listResourceTemplates(params, options),
            call: (params, onprogress) => {
                // What the SDK reports of its own rounds of input is none of the server's.
                const told = (it) => it.message?.startsWith('Fulfilling input required') || onprogress(it);
                return client.callTool(params, { ...options, onprogress: told });
            },
            prompt: (params) => client.getPrompt(params, options),
            read: (params) => client.readResource(params, options),
        },
        capabilities: client.getServerCapabilities(),
        close: () => client.close(),
    };
});
