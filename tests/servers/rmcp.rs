//! Visits all that the servers of a plan offer, with the Rust SDK (rmcp), and says what it saw as JSON. It speaks to a
//! server's standard input and output, Streamable HTTP, or raw TCP to the gateway, whose port has every dialect.

#![allow(deprecated)] // Sampling and roots are deprecated in 2026-07-28, and still served.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult, ErrorData,
    GetPromptRequestParams, Implementation, ListRootsResult, ProgressNotificationParam, ProtocolVersion,
    ReadResourceRequestParams,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longest for one request.
const DEADLINE: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let plan = std::env::args().nth(1).ok_or("which plan?")?;
    let servers: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(plan)?)?;
    let mut saw = serde_json::Map::new();
    for server in &servers {
        let name = server["name"].as_str().ok_or("a server without a name")?;
        saw.insert(name.into(), visit(server).await?);
    }
    println!("{}", Value::Object(saw));
    Ok(())
}

/// What the SDK asks of a client, answered as all clients of these tests do.
struct Agent {
    roots: Value,
    progress: Arc<Mutex<Vec<f64>>>,
}

impl ClientHandler for Agent {
    fn get_info(&self) -> ClientConfig {
        let capabilities = json!({"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}});
        let capabilities: ClientCapabilities = serde_json::from_value(capabilities).unwrap_or_default();
        ClientConfig::new(capabilities, Implementation::new("rmcp", "1"))
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        fixed(json!({"role":"assistant","model":"test","content":{"type":"text","text":"a sample"}}))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let by_url = serde_json::to_value(&params).is_ok_and(|params| params["mode"] == "url");
        fixed(match by_url {
            true => json!({"action":"accept"}),
            false => json!({"action":"accept","content":{"name":"Ada","check":true}}),
        })
    }

    async fn list_roots(&self, _context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        let uris = self.roots.as_array().into_iter().flatten();
        fixed(json!({"roots":uris.map(|uri| json!({"uri":uri,"name":"test"})).collect::<Vec<_>>()}))
    }

    async fn on_progress(&self, step: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.progress.lock().expect("progress").push(step.progress);
    }
}

fn fixed<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, ErrorData> {
    serde_json::from_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn connect(to: &Value, agent: Agent) -> Result<(RunningService<RoleClient, Agent>, Option<Child>), Error> {
    if let Some(url) = to["http"].as_str() {
        let transport = StreamableHttpClientTransport::from_uri(url);
        return Ok((agent.serve_with_lifecycle(transport, ClientLifecycleMode::Initialize).await?, None));
    }
    if let Some(address) = to["tcp"].as_str() {
        let socket = TcpStream::connect(address).await?;
        return Ok((agent.serve_with_lifecycle(socket, ClientLifecycleMode::Initialize).await?, None));
    }
    let command: Vec<String> = serde_json::from_value(to["stdio"].clone())?;
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = (child.stdout.take().ok_or("no output")?, child.stdin.take().ok_or("no input")?);
    Ok((agent.serve_with_lifecycle(pipes, ClientLifecycleMode::Initialize).await?, Some(child)))
}

async fn visit(server: &Value) -> Result<Value, Error> {
    let progress = Arc::new(Mutex::new(Vec::new()));
    let agent = Agent { roots: server["roots"].clone(), progress: Arc::clone(&progress) };
    let (client, _child) = connect(&server["connect"], agent).await?;
    let peer = client.peer();
    let tools = peer.list_all_tools().await?;
    let (mut calls, mut gets, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for call in server["calls"].as_array().into_iter().flatten() {
        let (name, arguments) = (call[0].as_str().unwrap_or_default().to_owned(), &call[1]);
        if !tools.iter().any(|tool| tool.name == name) {
            continue;
        }
        progress.lock().expect("progress").clear();
        let params =
            CallToolRequestParams::new(name.clone()).with_arguments(serde_json::from_value(arguments.clone())?);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let handle = peer.send_cancellable_request(request, PeerRequestOptions::with_timeout(DEADLINE)).await?;
        let mut answer = told(handle.await_response().await);
        answer["name"] = json!(name);
        answer["args"] = arguments.clone();
        answer["progress"] = json!(*progress.lock().expect("progress"));
        calls.push(answer);
    }
    let offered = serde_json::to_value(client.peer_info().map(|info| info.capabilities.clone()))?;
    let mut saw = json!({"tools":tools,"prompts":[]});
    if offered["prompts"].is_object() {
        saw["prompts"] = json!(peer.list_all_prompts().await?);
        for get in server["prompts"].as_array().into_iter().flatten() {
            let params: GetPromptRequestParams = serde_json::from_value(json!({"name":get[0],"arguments":get[1]}))?;
            let mut answer = told(peer.get_prompt(params).await);
            answer["name"] = get[0].clone();
            gets.push(answer);
        }
    }
    if offered["resources"].is_object() {
        let resources = json!(peer.list_all_resources().await?);
        saw["templates"] = json!(peer.list_all_resource_templates().await?);
        let listed = resources.as_array().into_iter().flatten().map(|resource| resource["uri"].clone());
        for uri in listed.chain(server["reads"].as_array().into_iter().flatten().cloned()) {
            let params: ReadResourceRequestParams = serde_json::from_value(json!({"uri":uri}))?;
            let mut answer = told(peer.read_resource(params).await);
            answer["uri"] = uri;
            reads.push(answer);
        }
        saw["resources"] = resources;
    }
    saw["calls"] = json!(calls);
    saw["gets"] = json!(gets);
    saw["reads"] = json!(reads);
    client.cancel().await?;
    Ok(saw)
}

/// The answer as the other clients of these tests write it.
fn told(answer: Result<impl Serialize, ServiceError>) -> Value {
    match answer {
        Ok(result) => json!({"result": result}),
        Err(ServiceError::McpError(error)) => json!({"error": {"code": error.code, "message": error.message}}),
        Err(error) => json!({"error": {"code": "rmcp", "message": error.to_string()}}),
    }
}
