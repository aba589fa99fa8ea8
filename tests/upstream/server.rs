//! An MCP server on its standard input and output that does as it is told: slow, talkative, curious, or a liar. Of the
//! legacy era, or, with `--modern`, of the modern one alone.

use std::collections::{BinaryHeap, HashMap};
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const REVISION: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";
/// What a retry must bring back to the byte.
const STATE: &str = "\u{e4}\u{1f980} \"state\"/\\";

/// What is to be written at its time; the earlier one is the greater one.
struct Due {
    at: Instant,
    order: u64,
    message: String,
    id: Value,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The server: one thread reads, this one does everything else.
struct Server {
    due: BinaryHeap<Due>,
    order: u64,
    /// Our own requests: to answer which call when the reply is there.
    asked: HashMap<u64, Value>,
    next_ask: u64,
    /// Replies to what was asked without a call, or taken back.
    unowned: Vec<Value>,
    /// Steps of clients towards their replies.
    steps: Vec<Value>,
    cancelled: Vec<Value>,
    grown: usize,
    watched: HashMap<String, u64>,
    levels: Vec<Value>,
    modern: bool,
    /// How many resources were read, and how often the tool `look` was called.
    reads: usize,
    looks: usize,
    /// What it was told with `initialize`.
    hello: Value,
    /// The `_meta` of the last call.
    meta: Value,
    /// The subscriptions that are open: their ids, and what each is to be told.
    listening: Vec<(Value, Value)>,
}

fn main() {
    let (tell, heard) = mpsc::sync_channel(10_000);
    // The one thread beside main; it ends with the process.
    #[allow(clippy::disallowed_methods)]
    std::thread::spawn(move || read(&tell));
    let mut server = Server {
        due: BinaryHeap::new(),
        order: 0,
        asked: HashMap::new(),
        next_ask: 0,
        unowned: Vec::new(),
        steps: Vec::new(),
        cancelled: Vec::new(),
        grown: 0,
        watched: HashMap::new(),
        levels: Vec::new(),
        reads: 0,
        looks: 0,
        modern: std::env::args().any(|argument| argument == "--modern"),
        hello: Value::Null,
        meta: Value::Null,
        listening: Vec::new(),
    };
    eprintln!("scripted server {} is there", std::process::id());
    server.serve(&heard);
}

fn read(tell: &SyncSender<Value>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str(&line) else { continue };
        if tell.send(message).is_err() {
            return;
        }
    }
}

impl Server {
    fn serve(&mut self, heard: &Receiver<Value>) {
        loop {
            let patience =
                self.due.peek().map_or(Duration::from_secs(3600), |due| due.at.duration_since(Instant::now()));
            match heard.recv_timeout(patience) {
                Ok(message) => self.handle(&message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let mut out = io::stdout().lock();
            while self.due.peek().is_some_and(|due| due.at <= now) {
                let due = self.due.pop().expect("it was there");
                if writeln!(out, "{}", due.message).is_err() {
                    return;
                }
            }
            if out.flush().is_err() {
                return;
            }
        }
    }

    fn write_in(&mut self, ms: u64, id: &Value, message: impl Into<String>) {
        self.order += 1;
        let at = Instant::now() + Duration::from_millis(ms);
        self.due.push(Due { at, order: self.order, message: message.into(), id: id.clone() });
    }

    fn answer_in(&mut self, ms: u64, id: &Value, result: &Value) {
        let mut result = result.clone();
        if self.modern {
            for (key, value) in
                [("resultType", json!("complete")), ("ttlMs", json!(60_000)), ("cacheScope", json!("public"))]
            {
                if result[key].is_null() {
                    result[key] = value;
                }
            }
        }
        self.write_in(ms, id, json!({"jsonrpc":"2.0","id":id,"result":result}).to_string());
    }

    fn tell(&mut self, method: &str, params: &Value) {
        self.write_in(0, &Value::Null, json!({"jsonrpc":"2.0","method":method,"params":params}).to_string());
    }

    fn refuse(&mut self, id: &Value, code: i64, message: &str) {
        let error = json!({"jsonrpc":"2.0","id":id,"error":{"code":code,"message":message}});
        self.write_in(0, id, error.to_string());
    }

    fn handle(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        let spoken = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if self.modern && message["method"].is_string() && !id.is_null() && spoken != MODERN {
            return self.refuse(id, -32602, "only 2026-07-28 is spoken here");
        }
        match message["method"].as_str() {
            Some("server/discover") if self.modern => {
                let capabilities = json!({"tools":{"listChanged":true},"prompts":{},"completions":{},
                    "extensions":{"io.modelcontextprotocol/tasks":{},"com.example/x":{"modern":true}},
                    "resources":{"listChanged":true,"subscribe":true}});
                let info = json!({"io.modelcontextprotocol/serverInfo":{"name":"scripted","version":"1.2.3"}});
                let result = json!({"supportedVersions":[MODERN],"capabilities":capabilities,"_meta":info});
                self.answer_in(0, id, &result);
            }
            Some("subscriptions/listen") if self.modern => {
                self.listening.push((id.clone(), params["notifications"].clone()));
                let meta = json!({"io.modelcontextprotocol/subscriptionId":id});
                let params = json!({"_meta":meta,"notifications":params["notifications"]});
                self.tell("notifications/subscriptions/acknowledged", &params);
            }
            Some("initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe")
                if self.modern =>
            {
                self.refuse(id, -32601, "no such method in 2026-07-28");
            }
            Some("initialize") => {
                self.hello = params.clone();
                let capabilities = json!({
                    "tools":{"listChanged":true},"prompts":{"listChanged":true},"logging":{},"completions":{},
                    "resources":{"listChanged":true,"subscribe":true},"experimental":{"told":{"by":"script"}},
                });
                let info = json!({"name":"scripted","version":"1.2.3","title":"Scripted"});
                let result = json!({
                    "protocolVersion":REVISION,"capabilities":capabilities,"serverInfo":info,"instructions":"As told.",
                });
                self.answer_in(0, id, &result);
            }
            Some("tools/list") => self.list_tools(id, params),
            Some("tools/call") => self.call(id, params),
            Some("notifications/cancelled") => {
                self.due.retain(|due| due.id != params["requestId"]);
                self.listening.retain(|(id, _)| *id != params["requestId"]);
                self.cancelled.push(params["requestId"].clone());
            }
            Some("notifications/progress") => self.steps.push(params.clone()),
            Some(method) if !id.is_null() => self.answer_rest(method, id, params),
            Some(_) => {}
            None => {
                let reply = if message["error"].is_null() { &message["result"] } else { &message["error"] };
                let Some(call) = id.as_u64().and_then(|id| self.asked.remove(&id)) else {
                    return self.unowned.push(reply.clone());
                };
                self.answer_in(0, &call, &text(&reply.to_string()));
            }
        }
    }

    /// Two pages, so that cursors are needed.
    fn list_tools(&mut self, id: &Value, params: &Value) {
        let tool = |name: &str| json!({"name":name,"description":format!("{name}, as told"),"inputSchema":{"type":"object"},"x-unknown":{"kept":[1.0]}});
        let first = ["echo", "lie", "ask", "log"].map(tool).to_vec();
        let result = if params["cursor"] == "behind log" {
            let mut second = ["touch", "grow", "told", "sleep"].map(tool).to_vec();
            if std::env::args().any(|argument| argument == "--looks") {
                let hints = json!({"readOnlyHint":true,"idempotentHint":true});
                second.push(json!({"name":"look","inputSchema":{"type":"object"},"annotations":hints}));
            }
            second.extend((0..self.grown).map(|number| tool(&format!("grown-{number}"))));
            json!({"tools":second})
        } else {
            json!({"tools":first,"nextCursor":"behind log"})
        };
        self.answer_in(0, id, &result);
    }

    fn answer_rest(&mut self, method: &str, id: &Value, params: &Value) {
        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
        self.reads += usize::from(method == "resources/read");
        let slow = uri.strip_prefix("test://slow/").and_then(|ms| ms.parse().ok());
        let ms: u64 = slow.filter(|_| method == "resources/read").unwrap_or(0);
        let result = match method {
            "ping" => json!({}),
            "prompts/list" => json!({"prompts":[{"name":"hello","arguments":[{"name":"who","required":true}]}]}),
            "prompts/get" => {
                let who = params["arguments"]["who"].as_str().unwrap_or("nobody");
                json!({"messages":[{"role":"user","content":{"type":"text","text":format!("Hello, {who}")}}]})
            }
            "resources/list" => {
                json!({"resources":[{"uri":"test://one","name":"one"},{"uri":"test://two","name":"two"}]})
            }
            "resources/templates/list" => {
                json!({"resourceTemplates":[{"uriTemplate":"test://item/{id}","name":"item"}]})
            }
            "resources/read" if uri.starts_with("test://") => {
                json!({"contents":[{"uri":uri,"text":format!("the text of {uri}")}]})
            }
            "resources/subscribe" => {
                *self.watched.entry(uri).or_default() += 1;
                json!({})
            }
            "resources/unsubscribe" => {
                self.watched.remove(&uri);
                json!({})
            }
            "logging/setLevel" => {
                self.levels.push(params["level"].clone());
                json!({})
            }
            "completion/complete" => {
                json!({"completion":{"values":[format!("{}-completed", params["argument"]["value"].as_str().unwrap_or_default())]}})
            }
            _ => {
                let (code, message) =
                    if method == "resources/read" { (-32002, "no such resource") } else { (-32601, "no such method") };
                let error = json!({"jsonrpc":"2.0","id":id,"error":{"code":code,"message":message,"data":{"uri":uri}}});
                return self.write_in(0, id, error.to_string());
            }
        };
        self.answer_in(ms, id, &result);
    }

    fn call(&mut self, id: &Value, params: &Value) {
        let arguments = &params["arguments"];
        self.meta = params["_meta"].clone();
        let ms = arguments["ms"].as_u64().unwrap_or(0);
        let words = arguments["text"].as_str().unwrap_or_default().to_owned();
        match params["name"].as_str().unwrap_or_default() {
            "echo" | "sleep" | "look" => {
                self.looks += usize::from(params["name"] == "look");
                let (token, steps) = (&params["_meta"]["progressToken"], arguments["progress"].as_u64().unwrap_or(0));
                for step in 1..=steps {
                    if !token.is_null() {
                        let params = json!({"progressToken":token,"progress":step,"total":steps,"message":words});
                        let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":params});
                        self.write_in(ms * step / (steps + 1), id, progress.to_string());
                    }
                }
                self.answer_in(ms, id, &text(&words));
            }
            "ask" if self.modern => self.require(id, params),
            "ask" => self.ask(id, arguments, ms, &words),
            "log" => {
                let method = arguments["method"].as_str().unwrap_or("notifications/message");
                let params = json!({"level":arguments["level"],"data":words});
                let line = json!({"jsonrpc":"2.0","method":method,"params":params}).to_string();
                // Behind the call, which it belongs to no more.
                self.write_in(arguments["later"].as_u64().unwrap_or(0), &Value::Null, line);
                self.answer_in(ms, id, &text("logged"));
            }
            "touch" => self.touch(id, arguments, ms),
            "grow" => {
                self.grown += 1;
                if !self.modern {
                    self.tell("notifications/tools/list_changed", &json!({}));
                }
                for (id, _) in self.listening.clone() {
                    let meta = json!({"io.modelcontextprotocol/subscriptionId":id});
                    self.tell("notifications/tools/list_changed", &json!({"_meta":meta}));
                }
                self.answer_in(0, id, &text("grown"));
            }
            "told" => {
                let told = json!({"cancelled":self.cancelled,"watched":self.watched,"levels":self.levels,"pending":self.due.len(),"meta":self.meta,"pid":std::process::id(),"listening":self.listening,"unowned":self.unowned,"steps":self.steps,"reads":self.reads,"looks":self.looks,"hello":self.hello});
                self.answer_in(0, id, &text(&told.to_string()));
            }
            "lie" => self.lie(arguments["how"].as_str().unwrap_or_default(), id),
            name => {
                let error =
                    json!({"jsonrpc":"2.0","id":id,"error":{"code":-32602,"message":format!("no tool {name}")}});
                self.write_in(0, id, error.to_string());
            }
        }
    }

    /// Asks the client, and may take it back; `later`: when the call is over.
    fn ask(&mut self, id: &Value, arguments: &Value, ms: u64, words: &str) {
        self.next_ask += 1;
        let (later, back) = (arguments["later"].as_u64(), arguments["back"].as_u64());
        let mut ask = json!({"jsonrpc":"2.0","id":self.next_ask,"method":"roots/list"});
        if later.is_none() {
            ask["method"] = json!(arguments["method"].as_str().unwrap_or("elicitation/create"));
            ask["params"] = json!({"message":words,"requestedSchema":{"type":"object","properties":{}}});
        }
        if !arguments["token"].is_null() {
            ask["params"]["_meta"] = json!({"progressToken":arguments["token"]});
        }
        if let Some(later) = later {
            self.answer_in(0, id, &text("asked later"));
            self.write_in(later, &Value::Null, ask.to_string());
        } else {
            self.write_in(ms, id, ask.to_string());
        }
        if let Some(back) = back {
            let params = json!({"requestId":self.next_ask,"reason":"no longer \"needed\""});
            let text = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":params});
            self.write_in(back, &Value::Null, text.to_string());
        }
        match (later, back) {
            (Some(_), _) => {}
            (None, Some(back)) => self.answer_in(back, id, &text("taken back")),
            (None, None) => drop(self.asked.insert(self.next_ask, id.clone())),
        }
    }

    /// The modern way to ask: a result that a retry answers.
    fn require(&mut self, id: &Value, params: &Value) {
        let reply = &params["inputResponses"]["q"];
        if !reply.is_null() && params["requestState"] == STATE {
            return self.answer_in(0, id, &text(&reply.to_string()));
        }
        let question =
            json!({"message":params["arguments"]["text"],"requestedSchema":{"type":"object","properties":{}}});
        let requests = json!({"q":{"method":"elicitation/create","params":question}});
        let result = json!({"resultType":"input_required","inputRequests":requests,"requestState":STATE});
        self.write_in(0, id, json!({"jsonrpc":"2.0","id":id,"result":result}).to_string());
    }

    /// A resource changes, or a part of it: whoever watches it is told.
    fn touch(&mut self, id: &Value, arguments: &Value, ms: u64) {
        let uri = arguments["uri"].clone();
        let watched = uri.as_str().unwrap_or_default();
        if self.watched.contains_key(watched) {
            // It, or a part of it.
            let touched = format!("{watched}{}", arguments["part"].as_str().unwrap_or_default());
            self.tell("notifications/resources/updated", &json!({"uri":touched}));
        }
        for (id, what) in self.listening.clone() {
            if what["resourceSubscriptions"].as_array().is_some_and(|uris| uris.contains(&uri)) {
                let meta = json!({"io.modelcontextprotocol/subscriptionId":id});
                self.tell("notifications/resources/updated", &json!({"uri":uri,"_meta":meta}));
            }
        }
        self.answer_in(ms, id, &text("touched"));
    }

    /// Everything that a server should not do; most of it is followed by a right answer.
    fn lie(&mut self, how: &str, id: &Value) {
        match how {
            "garbage" => self.write_in(0, id, "this is no JSON {{{\n\n[1,2\n\"half"),
            "nobody" => self.answer_in(0, &json!(4_000_000_000_000_000_u64), &text("for nobody")),
            "twice" => self.answer_in(0, id, &text("twice")),
            "string-id" => self.answer_in(0, &json!(id.to_string()), &text("an id of another type")),
            "null-id" => self.write_in(0, id, json!({"jsonrpc":"2.0","id":null,"result":{}}).to_string()),
            "nothing" => return,
            "failed" => return self.answer_in(0, id, &json!({"content":[],"isError":true})),
            "long" => self.write_in(0, id, format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}\"}}", "x".repeat(100 << 20))),
            "half" => {
                print!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"resu");
                let _ = io::stdout().flush();
                die();
            }
            "die" => die(),
            "ping" => return ping_without_end(),
            "long-answer" => {
                let x = "x".repeat(20 << 20);
                return self.write_in(0, id, format!(r#"{{"result":{{"x":"{x}"}},"id":{id},"jsonrpc":"2.0"}}"#));
            }
            "visit" => {
                let data =
                    json!({"elicitations":[{"mode":"url","elicitationId":"1","url":"https://a.test/","message":"m"}]});
                let error = json!({"code":-32042,"message":"Visit it first","data":data});
                return self.write_in(0, id, json!({"jsonrpc":"2.0","id":id,"error":error}).to_string());
            }
            "both" => self.write_in(
                0,
                id,
                json!({"jsonrpc":"2.0","id":id,"result":{},"error":{"code":1,"message":"x"}}).to_string(),
            ),
            "progress" => self.tell("notifications/progress", &json!({"progressToken":"not mine","progress":1})),
            _ => {}
        }
        self.answer_in(5, id, &text("the truth"));
    }
}

/// Reads nothing meanwhile.
fn ping_without_end() {
    let mut out = io::stdout().lock();
    let ping = json!({"jsonrpc":"2.0","id":"p".repeat(200),"method":"ping"}).to_string();
    while writeln!(out, "{ping}").is_ok() {}
}

fn text(text: &str) -> Value {
    json!({"content":[{"type":"text","text":text}]})
}

/// As a crash does it.
#[allow(clippy::disallowed_methods)]
fn die() -> ! {
    std::process::exit(3)
}
