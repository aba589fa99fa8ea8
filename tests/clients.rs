//! The Rust SDK of MCP (rmcp) over raw TCP and over Streamable HTTP, in each revision it can speak, against a gateway of
//! the test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest, ErrorCode,
    Implementation, JsonObject, PingRequest, ProgressNotificationParam, ProtocolVersion, ServerResult,
    SubscriptionFilter,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestHandle, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError, object};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const LEGACY: [ProtocolVersion; 4] = [
    ProtocolVersion::V_2024_11_05,
    ProtocolVersion::V_2025_03_26,
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
];
const MODERN: ProtocolVersion = ProtocolVersion::V_2026_07_28;
/// How it comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Carrier {
    Tcp,
    Http,
}
const CARRIERS: [Carrier; 2] = [Carrier::Tcp, Carrier::Http];
/// Longest for all that one client does; many times what it needs.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest a client may send and get back whole, but for the few bytes around it.
const LARGE: usize = 1 << 20;

#[tokio::test]
async fn each_revision_is_agreed_on() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let server = client.peer().peer_info().expect("who the server is");
            assert_eq!(server.protocol_version, revision);
            assert_eq!(server.server_info.as_ref().expect("a name").name, "lakh");
            assert!(server.capabilities.tools.is_some());
            client.end().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_tries_the_modern_era_first_stays_there() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        let mode = ClientLifecycleMode::Auto { preferred_versions: vec![MODERN], legacy_version: None };
        let client = gateway.client_by(&ProtocolVersion::V_2025_11_25, mode).await;
        assert_eq!(client.peer().peer_info().expect("who the server is").protocol_version, MODERN);
        client.end().await;
    }
}

#[tokio::test]
async fn tools_are_listed_with_what_the_revision_has() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let list = client.peer().list_tools(None).await.expect("tools");
            // How long and for whom it may be kept: required of a modern answer, unknown to a legacy one.
            let modern = [list.result_type.is_some(), list.ttl_ms.is_some(), list.cache_scope.is_some()];
            assert_eq!(modern, [revision == MODERN; 3], "{revision}");
            let tools = list.tools;
            let mut names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
            names.sort_unstable();
            assert_eq!(names, ["add", "blob", "echo", "sleep", "stats"]);
            let add = tools.iter().find(|tool| tool.name == "add").expect("add");
            assert_eq!(add.output_schema.is_some(), has_structure(&revision), "{revision}");
            assert_eq!(add.annotations.is_some(), revision >= ProtocolVersion::V_2025_03_26, "{revision}");
            client.end().await;
        }
    }
}

#[tokio::test]
async fn each_tool_answers() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let words = "line\nbreak \"quote\" \u{1f980} \0 \u{2028} end";
            assert_eq!(client.text("echo", object!({ "text": words })).await, words);
            let sum = client.call("add", object!({ "a": 2, "b": 0.5 })).await.expect("a sum");
            assert_eq!(serde_json::from_str::<Value>(&text(&sum)).expect("JSON"), json!({ "sum": 2.5 }));
            assert_eq!(sum.structured_content, has_structure(&revision).then(|| json!({ "sum": 2.5 })), "{revision}");
            for bytes in [0, 1, LARGE] {
                assert_eq!(client.text("blob", object!({ "bytes": bytes })).await.len(), bytes);
            }
            let large = "x".repeat(LARGE);
            assert_eq!(client.text("echo", object!({ "text": large.as_str() })).await, large);
            if carrier == Carrier::Tcp {
                assert_eq!(client.stats().await["connections"], 1, "{revision}");
            }
            client.end().await;
        }
    }
}

#[tokio::test]
async fn mistakes_are_errors_of_the_revision() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let unknown = client.call("no-such-tool", object!({})).await;
            assert_eq!(code(unknown), ErrorCode::INVALID_PARAMS, "{revision}");
            assert_eq!(code(client.peer().list_prompts(None).await), ErrorCode::METHOD_NOT_FOUND, "{revision}");
            let wrong = client.call("add", object!({ "a": "one", "b": 2 })).await;
            if revision >= ProtocolVersion::V_2025_11_25 {
                assert_eq!(wrong.expect("an answer for the model").is_error, Some(true), "{revision}");
            } else {
                assert_eq!(code(wrong), ErrorCode::INVALID_PARAMS, "{revision}");
            }
            client.end().await;
        }
    }
}

#[tokio::test]
async fn ping_is_answered_where_there_is_one() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let ping = client.peer().send_request(ClientRequest::PingRequest(PingRequest::default())).await;
            if revision == MODERN {
                assert_eq!(code(ping), ErrorCode::METHOD_NOT_FOUND);
            } else {
                assert!(matches!(ping, Ok(ServerResult::EmptyResult(_))), "{revision}: {ping:?}");
            }
            client.end().await;
        }
    }
}

#[tokio::test]
async fn progress_comes_in_order_and_before_the_result() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let handle = client.begin("sleep", object!({ "ms": 300, "progressEvery": 50 })).await;
            let token = handle.progress_token.clone();
            handle.await_response().await.expect("a result");
            let seen = client.service().progress.lock().expect("progress").clone();
            let steps: Vec<f64> = seen.iter().map(|step| step.progress).collect();
            assert_eq!(steps, [50.0, 100.0, 150.0, 200.0, 250.0], "{revision}");
            assert!(seen.iter().all(|step| step.total == Some(300.0) && step.progress_token == token), "{revision}");
            assert_eq!(seen[0].message.is_some(), revision >= ProtocolVersion::V_2025_03_26, "{revision}");
            client.end().await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_sleep_ends_at_once() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        for revision in revisions() {
            let client = gateway.client(&revision).await;
            let handle = client.begin("sleep", object!({ "ms": 600_000 })).await;
            client.stats_until(|stats| stats["callsInFlight"] == 1).await;
            handle.cancel(Some("enough".to_owned())).await.expect("a notification sent");
            client.stats_until(|stats| stats["callsInFlight"] == 0).await;
            client.end().await;
        }
    }
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        let (slow, other) = (gateway.client(&MODERN).await, gateway.client(&ProtocolVersion::V_2025_11_25).await);
        let handle = slow.begin("sleep", object!({ "ms": 600_000 })).await;
        for client in [&slow, &other] {
            assert_eq!(client.text("echo", object!({ "text": "fast" })).await, "fast");
        }
        handle.cancel(None).await.expect("a notification sent");
        slow.end().await;
        other.end().await;
    }
}

#[tokio::test]
async fn a_subscription_is_acknowledged_and_can_be_cancelled() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        let client = gateway.client(&MODERN).await;
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        let mut subscription = client.peer().listen(filter).await.expect("an acknowledgement");
        subscription.cancel().await.expect("a notification sent");
        assert_eq!(client.text("echo", object!({ "text": "still here" })).await, "still here");
        client.end().await;
    }
}

#[tokio::test]
async fn two_clients_that_count_alike_get_their_own_answers() {
    for carrier in CARRIERS {
        let gateway = Gateway::start(carrier);
        let (one, two) = (gateway.client(&MODERN).await, gateway.client(&MODERN).await);
        for round in 0..100 {
            let (first, second) = (format!("one {round}"), format!("two {round}"));
            let answers = tokio::join!(
                one.text("echo", object!({ "text": first.as_str() })),
                two.text("echo", object!({ "text": second.as_str() }))
            );
            assert_eq!(answers, (first, second));
        }
        one.end().await;
        two.end().await;
    }
}

/// It died of a broken pipe once.
#[tokio::test]
async fn a_gateway_whose_greeting_nobody_reads_serves_all_the_same() {
    let mut process = Gateway::command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a gateway");
    drop(process.stdout.take());
    let log = process.stderr.take().expect("its log");
    let gateway = Gateway::known_by(process, log, |line| line.split_once("clients=").map(|(_, address)| address));
    let client = gateway.client(&MODERN).await;
    assert_eq!(client.text("echo", object!({ "text": "here" })).await, "here");
    client.end().await;
}

fn revisions() -> impl Iterator<Item = ProtocolVersion> {
    LEGACY.into_iter().chain([MODERN])
}

fn has_structure(revision: &ProtocolVersion) -> bool {
    *revision >= ProtocolVersion::V_2025_06_18
}

fn text(result: &CallToolResult) -> String {
    assert_ne!(result.is_error, Some(true), "{result:?}");
    result.content[0].as_text().expect("a text").text.clone()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, ServiceError>) -> ErrorCode {
    match outcome {
        Err(ServiceError::McpError(error)) => error.code,
        other => panic!("not an error of the server: {other:?}"),
    }
}

/// A gateway in a process of its own, ended when dropped.
struct Gateway {
    process: Child,
    /// Open for as long as it lives: it may have more to say.
    _output: Box<dyn BufRead>,
    clients: SocketAddr,
    carrier: Carrier,
}

impl Gateway {
    /// One whose clients come by this.
    fn start(carrier: Carrier) -> Self {
        let mut process = Self::command().stdout(Stdio::piped()).spawn().expect("a gateway");
        let output = process.stdout.take().expect("its output");
        let mut gateway = Self::known_by(process, output, |line| line.strip_prefix("clients  ")?.split(' ').next());
        gateway.carrier = carrier;
        gateway
    }

    fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--connections-max", "100"]);
        command
    }

    /// Waits until `address` finds in a line of its output where it is.
    fn known_by(process: Child, output: impl Read + 'static, address: impl Fn(&str) -> Option<&str>) -> Self {
        let mut output = BufReader::new(output);
        let clients = (&mut output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| address(&line)?.trim().parse().ok())
            .expect("the gateway says where it is");
        Self { process, _output: Box::new(output), clients, carrier: Carrier::Tcp }
    }

    async fn client(&self, revision: &ProtocolVersion) -> Client {
        let mode = match revision.has_initialize() {
            true => ClientLifecycleMode::Initialize,
            false => ClientLifecycleMode::Discover { preferred_versions: vec![revision.clone()] },
        };
        self.client_by(revision, mode).await
    }

    async fn client_by(&self, revision: &ProtocolVersion, mode: ClientLifecycleMode) -> Client {
        let agent = Agent { revision: revision.clone(), progress: Arc::default() };
        let running = match self.carrier {
            Carrier::Tcp => {
                let socket = TcpStream::connect(self.clients).await.expect("a connection");
                tokio::time::timeout(DEADLINE, agent.serve_with_lifecycle(socket, mode)).await
            }
            Carrier::Http => {
                let transport = StreamableHttpClientTransport::from_uri(format!("http://{}/mcp", self.clients));
                tokio::time::timeout(DEADLINE, agent.serve_with_lifecycle(transport, mode)).await
            }
        };
        Client(running.expect("an answer in time").expect("a handshake"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the SDK asks of a client: which revision it wants, and what to do with progress.
struct Agent {
    revision: ProtocolVersion,
    progress: Arc<Mutex<Vec<ProgressNotificationParam>>>,
}

impl ClientHandler for Agent {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("rmcp-test", "1"))
            .with_protocol_version(self.revision.clone())
    }

    async fn on_progress(&self, step: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.progress.lock().expect("progress").push(step);
    }
}

struct Client(RunningService<RoleClient, Agent>);

impl std::ops::Deref for Client {
    type Target = RunningService<RoleClient, Agent>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Client {
    /// Begins a call and leaves it open.
    async fn begin(&self, tool: &'static str, arguments: JsonObject) -> RequestHandle<RoleClient> {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let options = PeerRequestOptions::with_timeout(DEADLINE);
        self.peer().send_cancellable_request(request, options).await.expect("a request sent")
    }

    async fn call(&self, tool: &'static str, arguments: JsonObject) -> Result<CallToolResult, ServiceError> {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        tokio::time::timeout(DEADLINE, self.peer().call_tool(params)).await.expect("an answer in time")
    }

    async fn text(&self, tool: &'static str, arguments: JsonObject) -> String {
        text(&self.call(tool, arguments).await.expect("an answer"))
    }

    async fn stats(&self) -> Value {
        serde_json::from_str(&self.text("stats", object!({})).await).expect("stats are JSON")
    }

    /// Waits for the gateway's figures to be so.
    async fn stats_until(&self, so: impl Fn(&Value) -> bool) {
        let asked = async {
            while !so(&self.stats().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.expect("the gateway's figures change in time");
    }

    async fn end(self) {
        self.0.cancel().await.expect("a client that ends well");
    }
}
