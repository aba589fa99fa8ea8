// Visits all that the servers of a plan offer, with a client of either TypeScript SDK, and says what it saw as JSON.

import { readFileSync } from 'node:fs';

/** Longest for one request, in milliseconds. */
export const DEADLINE = 30_000;

/** Answers of the user, the model and the client. */
export const elicited = (params) =>
    params.mode === 'url' ? { action: 'accept' } : { action: 'accept', content: { name: 'Ada', check: true } };
export const sampled = { role: 'assistant', model: 'test', content: { type: 'text', text: 'a sample' } };
export const rootsOf = (server) => ({ roots: server.roots.map((uri) => ({ uri, name: 'test' })) });

async function listed(list, key) {
    const found = [];
    let cursor;
    do {
        const page = await list(cursor === undefined ? {} : { cursor });
        found.push(...page[key]);
        cursor = page.nextCursor;
    } while (cursor !== undefined);
    return found;
}

const told = (request) =>
    request.then(
        (result) => ({ result }),
        (error) => ({ error: { code: error.code, message: error.message } }),
    );

/** Visits one server. `client` has `tools`, `prompts`, `resources`, `templates`, `call`, `prompt` and `read`. */
async function visit(server, client, capabilities) {
    const saw = { tools: await listed(client.tools, 'tools'), calls: [], prompts: [], gets: [], reads: [] };
    const known = new Set(saw.tools.map((tool) => tool.name));
    for (const [name, args] of server.calls.filter(([name]) => known.has(name))) {
        const progress = [];
        const answer = await told(client.call({ name, arguments: args }, (it) => progress.push(it.progress)));
        saw.calls.push({ name, args, ...answer, progress });
    }
    if (capabilities.prompts) {
        saw.prompts = await listed(client.prompts, 'prompts');
        for (const [name, args] of server.prompts) {
            saw.gets.push({ name, ...(await told(client.prompt({ name, arguments: args }))) });
        }
    }
    if (capabilities.resources) {
        saw.resources = await listed(client.resources, 'resources');
        saw.templates = await listed(client.templates, 'resourceTemplates');
        for (const uri of [...saw.resources.map((it) => it.uri), ...server.reads]) {
            saw.reads.push({ uri, ...(await told(client.read({ uri }))) });
        }
    }
    return saw;
}

/** Visits every server of the plan, whose file is the first argument. */
export async function main(connect) {
    const saw = {};
    for (const server of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
        const { client, capabilities, close } = await connect(server);
        saw[server.name] = await visit(server, client, capabilities);
        await close();
    }
    process.stdout.write(JSON.stringify(saw), () => process.exit(0));
}
