"""What the fixture servers offer: the names that the official suite asks for, as plain JSON, with no SDK.

A tool or prompt is a function of a `Host`. Where it needs input from the client it asks for it with `host.ask`; a host
of the handshake era sends the requests and waits, a host of the modern era ends the call with them and runs the
function once more, from its first line, when the answers are there.
"""

import asyncio
import json
from collections import OrderedDict

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="
# Between two notifications of one tool, in seconds: the suite asks for some.
PAUSE = 0.05
INVALID_PARAMS = -32602
MISSING_CAPABILITY = -32021
# What a client must have declared to be asked this.
CAPABILITY = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


class Refusal(Exception):
    """Ends a request with a JSON-RPC error."""

    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class Host:
    """What a function may do while it runs. Each era and SDK has its own."""

    # What the client has declared, as JSON.
    capabilities = {}

    async def log(self, level, text):
        raise NotImplementedError

    async def progress(self, done, total, message):
        raise NotImplementedError

    async def ask(self, requests, stateful=False):
        """The client's answers, by the keys of `requests`. `stateful`: the server wants a state back with them."""
        raise NotImplementedError

    async def changed(self, what):
        """Tells those who listen that "tools", "prompts", "resources" or the resource of this URI changed."""
        raise NotImplementedError

    async def close_stream(self):
        """Closes the stream that the answer would come on, where one can be; the client comes back for it."""

    def need(self, method):
        """Refuses the request if the client has not declared what `method` needs."""
        name = CAPABILITY[method]
        if name not in self.capabilities:
            message = f"Missing required client capability: {name}"
            raise Refusal(MISSING_CAPABILITY, message, {"requiredCapabilities": {name: {}}})


TOOLS = {}
PROMPTS = {}
# How often a tool or prompt list was changed on purpose: part of a description, so that the change is real.
changes = {"tools": 0, "prompts": 0}
watched = {"version": 0}


def text(words):
    return {"type": "text", "text": words}


def image():
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri, mime, words):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": words}}


def form(message, properties, required=()):
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def sampling(words, limit):
    messages = [{"role": "user", "content": text(words)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": limit}}


ROOTS = {"method": "roots/list", "params": {}}
STRING = {"type": "string"}
NAME = form("What is your name?", {"name": STRING}, ["name"])


def tool(name, description, properties=None, required=(), **schema):
    """Registers a tool; its function gives a list of content, or a whole result."""

    def register(run):
        whole = {"type": "object", "properties": properties or {}, **schema}
        if required:
            whole["required"] = list(required)
        TOOLS[name] = ({"name": name, "description": description, "inputSchema": whole}, run)
        return run

    return register


def prompt(name, description, **arguments):
    """Registers a prompt; its function gives messages as (role, content)."""

    def register(run):
        listed = {"name": name, "description": description}
        if arguments:
            listed["arguments"] = [
                {"name": key, "description": words, "required": True} for key, words in arguments.items()
            ]
        PROMPTS[name] = (listed, run)
        return run

    return register


def answer_of(reply):
    """One line about an elicitation's answer."""
    return f"action={reply['action']}, content={json.dumps(reply.get('content') or {}, sort_keys=True)}"


# ---- tools that answer at once


@tool("test_simple_text", "Returns one text.")
async def simple_text(host, arguments):
    return [text("This is a simple text response for testing.")]


@tool("test_image_content", "Returns one picture.")
async def image_content(host, arguments):
    return [image()]


@tool("test_audio_content", "Returns one sound.")
async def audio_content(host, arguments):
    return [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]


@tool("test_embedded_resource", "Returns one embedded resource.")
async def embedded_resource(host, arguments):
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool("test_multiple_content_types", "Returns a text, a picture and a resource.")
async def multiple_content_types(host, arguments):
    mixed = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return [text("Multiple content types test:"), image(), mixed]


@tool("test_error_handling", "Fails, as a tool does.")
async def error_handling(host, arguments):
    return {"content": [text("This tool intentionally returns an error for testing")], "isError": True}


@tool(
    "test_region",
    "Says which region it was asked for; over HTTP a gateway can route by it.",
    {"region": {"type": "string", "x-mcp-header": "Region"}},
)
async def region(host, arguments):
    return [text(f"region={arguments.get('region')}")]


@tool(
    "json_schema_2020_12_tool",
    "Tool with JSON Schema 2020-12 features",
    {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    **{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {
            "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": STRING, "city": STRING}}
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def json_schema(host, arguments):
    return [text(json.dumps(arguments, sort_keys=True))]


# ---- tools that say something on their way


@tool("test_tool_with_logging", "Logs three times at info.")
async def with_logging(host, arguments):
    await host.log("info", "Tool execution started")
    await asyncio.sleep(PAUSE)
    await host.log("info", "Tool processing data")
    await asyncio.sleep(PAUSE)
    await host.log("info", "Tool execution completed")
    return [text("Logged three times.")]


@tool("test_logging_tool", "Logs once at info.")
async def logging_tool(host, arguments):
    await host.log("info", "One message")
    return [text("Logged once, to those who asked for it.")]


@tool("test_tool_with_progress", "Reports progress three times.")
async def with_progress(host, arguments):
    for done in (0, 50, 100):
        await host.progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(PAUSE)
    return [text("Done: 100 of 100.")]


@tool("test_reconnection", "Closes the stream of its answer, and answers on the next one.")
async def reconnection(host, arguments):
    await host.log("info", "Before the stream ends")
    await host.close_stream()
    await asyncio.sleep(4 * PAUSE)
    await host.log("info", "After the stream ended")
    return [text("Reconnection test completed")]


@tool("test_trigger_tool_change", "Changes the list of tools, in a description.")
async def trigger_tool_change(host, arguments):
    changes["tools"] += 1
    await host.changed("tools")
    return [text("The tools changed.")]


@tool("test_trigger_prompt_change", "Changes the list of prompts, in a description.")
async def trigger_prompt_change(host, arguments):
    changes["prompts"] += 1
    await host.changed("prompts")
    return [text("The prompts changed.")]


@tool("test_trigger_resource_update", "Changes the watched resource.")
async def trigger_resource_update(host, arguments):
    watched["version"] += 1
    await host.changed("test://watched-resource")
    return [text("The watched resource changed.")]


@tool("test_changing", "")
async def changing(host, arguments):
    return [text(f"The tools changed {changes['tools']} times.")]


# ---- tools that need the client


@tool("test_sampling", "Asks the client's model.", {"prompt": STRING}, ["prompt"])
async def test_sampling(host, arguments):
    host.need("sampling/createMessage")
    replies = await host.ask({"answer": sampling(arguments["prompt"], 100)})
    return [text(f"LLM response: {replies['answer']['content'].get('text', '')}")]


@tool("test_elicitation", "Asks the user.", {"message": STRING}, ["message"])
async def test_elicitation(host, arguments):
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    replies = await host.ask({"user": form(arguments["message"], fields, list(fields))})
    return [text(f"User response: {answer_of(replies['user'])}")]


@tool("test_elicitation_sep1034_defaults", "Asks the user, with a default for each kind of field.")
async def elicitation_defaults(host, arguments):
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    replies = await host.ask({"user": form("Please check these", fields)})
    return [text(f"Elicitation completed: {answer_of(replies['user'])}")]


@tool("test_elicitation_sep1330_enums", "Asks the user, with each way to write an enumeration.")
async def elicitation_enums(host, arguments):
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(["First", "Second"], 1)]
    names = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", **names},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    replies = await host.ask({"user": form("Please choose", fields)})
    return [text(f"Elicitation completed: {answer_of(replies['user'])}")]


@tool("test_missing_capability", "Needs a client that can sample.")
async def missing_capability(host, arguments):
    host.need("sampling/createMessage")
    # A gateway can sample for some of its clients: only the request itself shows that it cannot for this one.
    replies = await host.ask({"answer": sampling("Say something", 50)})
    return [text(replies["answer"]["content"].get("text", ""))]


@tool("test_streaming_elicitation", "Reports progress, then asks the user.")
async def streaming_elicitation(host, arguments):
    await host.progress(1, 2, "About to ask")
    replies = await host.ask({"user_name": NAME})
    return [text(answer_of(replies["user_name"]))]


@tool("test_input_required_result_elicitation", "Asks the user for a name.")
async def input_elicitation(host, arguments):
    reply = (await host.ask({"user_name": NAME}))["user_name"]
    return [text(f"Hello, {(reply.get('content') or {}).get('name', 'nobody')}!")]


@tool("test_input_required_result_sampling", "Asks the client's model for a capital.")
async def input_sampling(host, arguments):
    replies = await host.ask({"capital_question": sampling("What is the capital of France?", 100)})
    return [text(replies["capital_question"]["content"].get("text", ""))]


@tool("test_input_required_result_list_roots", "Asks the client for its roots.")
async def input_roots(host, arguments):
    replies = await host.ask({"client_roots": ROOTS})
    return [text(", ".join(root["uri"] for root in replies["client_roots"]["roots"]))]


@tool("test_input_required_result_request_state", "Asks the user to confirm, and wants its state back.")
async def input_state(host, arguments):
    await host.ask({"confirm": form("Please confirm", {"ok": {"type": "boolean"}}, ["ok"])}, stateful=True)
    return [text("state-ok")]


@tool("test_input_required_result_tampered_state", "The same; a changed state is refused.")
async def input_tampered(host, arguments):
    return await input_state(host, arguments)


@tool("test_input_required_result_multiple_inputs", "Asks for three things at once.")
async def input_multiple(host, arguments):
    requests = {"user_name": NAME, "greeting": sampling("Generate a greeting", 50), "client_roots": ROOTS}
    replies = await host.ask(requests, stateful=True)
    return [text(f"{len(replies)} answers: {', '.join(sorted(replies))}")]


@tool("test_input_required_result_multi_round", "Asks the user twice.")
async def input_rounds(host, arguments):
    first = await host.ask({"step1": form("Step 1: What is your name?", {"name": STRING}, ["name"])}, stateful=True)
    colour = form("Step 2: What is your favorite color?", {"color": STRING}, ["color"])
    second = await host.ask({"step2": colour}, stateful=True)
    return [text(f"{answer_of(first['step1'])}; {answer_of(second['step2'])}")]


@tool("test_input_required_result_capabilities", "Asks for all that the client can do, and for nothing else.")
async def input_capabilities(host, arguments):
    wanted = {"question": sampling("Say something", 50), "user_name": NAME, "client_roots": ROOTS}
    able = {key: it for key, it in wanted.items() if CAPABILITY[it["method"]] in host.capabilities}
    replies = await host.ask(able) if able else {}
    return [text(f"{len(replies)} answers")]


# ---- prompts


@prompt("test_simple_prompt", "One message.")
async def simple_prompt(host, arguments):
    return [text("This is a simple prompt for testing.")]


@prompt("test_prompt_with_arguments", "One message made of two arguments.", arg1="The first", arg2="The second")
async def prompt_with_arguments(host, arguments):
    return [text(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'")]


@prompt("test_prompt_with_embedded_resource", "A resource and a text.", resourceUri="The resource to embed")
async def prompt_with_resource(host, arguments):
    content = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
    return [content, text("Please process the embedded resource above.")]


@prompt("test_prompt_with_image", "A picture and a text.")
async def prompt_with_image(host, arguments):
    return [image(), text("Please analyze the image above.")]


@prompt("test_input_required_result_prompt", "Asks the user what it is about.")
async def prompt_with_input(host, arguments):
    question = form("What context should the prompt use?", {"context": STRING}, ["context"])
    reply = (await host.ask({"user_context": question}))["user_context"]
    return [text(f"Use this context: {(reply.get('content') or {}).get('context', 'none')}")]


# ---- the requests, by method


def list_tools():
    listed = [dict(tool) for tool, _ in TOOLS.values()]
    for it in listed:
        if it["name"] == "test_changing":
            it["description"] = f"The tools changed {changes['tools']} times."
    return {"tools": listed}


def list_prompts():
    listed = [dict(prompt) for prompt, _ in PROMPTS.values()]
    listed[0]["description"] = f"One message. The prompts changed {changes['prompts']} times."
    return {"prompts": listed}


def list_resources():
    return {
        "resources": [
            {"uri": "test://static-text", "name": "static-text", "description": "A text", "mimeType": "text/plain"},
            {"uri": "test://static-binary", "name": "static-binary", "description": "A dot", "mimeType": "image/png"},
            {"uri": "test://watched-resource", "name": "watched", "description": "Changes", "mimeType": "text/plain"},
        ]
    }


def list_templates():
    template = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    return {"resourceTemplates": [{**template, "description": "Data by id"}]}


def read_resource(uri, not_found):
    """`not_found` is the code of this era: -32002 once, -32602 since 2026-07-28."""
    head, _, rest = uri.partition("test://template/")
    if uri == "test://static-text":
        content = {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
    elif uri == "test://static-binary":
        content = {"mimeType": "image/png", "blob": PNG}
    elif uri == "test://watched-resource":
        content = {"mimeType": "text/plain", "text": f"Version {watched['version']} of the watched resource."}
    elif head == "" and rest.endswith("/data"):
        found = {"id": rest.removesuffix("/data"), "templateTest": True, "data": f"Data for ID: {rest[:-5]}"}
        content = {"mimeType": "application/json", "text": json.dumps(found)}
    else:
        raise Refusal(not_found, "Resource not found", {"uri": uri})
    return {"contents": [{"uri": uri, **content}]}


def complete(value):
    found = [it for it in ("paris", "park", "party") if it.startswith(value)]
    return {"completion": {"values": found, "hasMore": False}}


async def call_tool(host, name, arguments):
    if name not in TOOLS:
        raise Refusal(INVALID_PARAMS, f"Unknown tool: {name}")
    result = await TOOLS[name][1](host, arguments or {})
    return result if isinstance(result, dict) else {"content": result}


async def get_prompt(host, name, arguments):
    if name not in PROMPTS:
        raise Refusal(INVALID_PARAMS, f"Unknown prompt: {name}")
    listed, run = PROMPTS[name]
    missing = [it["name"] for it in listed.get("arguments", []) if it["name"] not in (arguments or {})]
    if missing:
        raise Refusal(INVALID_PARAMS, f"Missing arguments: {', '.join(missing)}")
    return {"messages": [{"role": "user", "content": it} for it in await run(host, arguments or {})]}


class Events:
    """An event store for either SDK: the last `limit` events, so that a client can come back for them."""

    def __init__(self, message_type, limit=10_000):
        self.message_type, self.limit = message_type, limit
        self.kept, self.count = OrderedDict(), 0

    async def store_event(self, stream, message):
        self.count += 1
        self.kept[str(self.count)] = (stream, message)
        if len(self.kept) > self.limit:
            self.kept.popitem(last=False)
        return str(self.count)

    async def replay_events_after(self, last, send):
        if last not in self.kept:
            return None
        stream = self.kept[last][0]
        for event, (of, message) in list(self.kept.items()):
            # A message of None is a priming event.
            if of == stream and int(event) > int(last) and message is not None:
                await send(self.message_type(message, event))
        return stream
