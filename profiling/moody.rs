//! A server of newline-delimited JSON whose tools echo, in the bench's own process: well, slow or dead, as it is told.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::Result;

/// How long a call takes while it is slow.
const SLOW: Duration = Duration::from_secs(1);
/// How soon it does what it is told, at the latest.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers at once.
    Well,
    /// Answers each call a second later; what is no call, at once.
    Slow,
    /// Closes what there is, and does not listen.
    Dead,
}

/// Its threads end with the process.
pub(crate) struct Moody {
    pub(crate) address: SocketAddr,
    mood: Arc<AtomicU8>,
}

impl Moody {
    /// One that offers so many tools, all of which echo.
    pub(crate) fn start(tools: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mood = Arc::new(AtomicU8::new(Mood::Well as u8));
        let (shared, tools) = (Arc::clone(&mood), Arc::from(list(tools)));
        Builder::new().name("moody".into()).spawn(move || {
            if let Err(error) = listen(listener, address, &shared, &tools) {
                eprintln!("the server at {address}: {error}");
            }
        })?;
        Ok(Self { address, mood })
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }
}

fn is(mood: &AtomicU8, wanted: Mood) -> bool {
    mood.load(Ordering::Relaxed) == wanted as u8
}

fn listen(listener: TcpListener, address: SocketAddr, mood: &Arc<AtomicU8>, tools: &Arc<str>) -> Result<()> {
    let mut listener = Some(listener);
    loop {
        match &listener {
            _ if is(mood, Mood::Dead) => listener = None,
            None => listener = Some(TcpListener::bind(address)?),
            Some(listener) => {
                listener.set_nonblocking(true)?;
                if let Ok((stream, _)) = listener.accept() {
                    let (mood, tools) = (Arc::clone(mood), Arc::clone(tools));
                    // A connection that fails ends its thread; the gateway connects again.
                    Builder::new().name("moody-one".into()).spawn(move || drop(attend(stream, &mood, &tools)))?;
                    continue;
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn attend(mut stream: TcpStream, mood: &AtomicU8, tools: &str) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    // By the time that they are due: all take equally long.
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    while !is(mood, Mood::Dead) {
        let mut out = Vec::new();
        let now = Instant::now();
        while late.front().is_some_and(|(due, _)| *due <= now) {
            late.pop_front().iter().for_each(|(_, answer)| out.extend_from_slice(answer));
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => heard.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let whole = heard.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        for line in heard[..whole].split_inclusive(|&byte| byte == b'\n') {
            let request: Value = serde_json::from_slice(line)?;
            let Some(answer) = answer(&request, tools) else { continue };
            let answer = (answer + "\n").into_bytes();
            if is(mood, Mood::Slow) && request["method"] == "tools/call" {
                late.push_back((now + SLOW, answer));
            } else {
                out.extend_from_slice(&answer);
            }
        }
        heard.drain(..whole);
        stream.write_all(&out)?;
    }
    Ok(())
}

/// `tools`: the raw JSON of their list.
fn answer(request: &Value, tools: &str) -> Option<String> {
    let id = request.get("id")?;
    let result = match request["method"].as_str()? {
        "tools/call" => json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]}),
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "moody", "version": "1"}
        }),
        // As it is: to write so many anew would keep the core from the load, and from the other server.
        "tools/list" => return Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":{tools}}}}}"#)),
        "ping" => json!({}),
        _ => {
            let error = json!({"code": -32601, "message": "only tools"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

/// The list of so many tools.
fn list(tools: usize) -> String {
    let tool = |name: String| {
        json!({
            "name": name,
            "description": "Says a text again, as all of them do; there are many, so that a list of them is long.",
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
            "annotations": {"readOnlyHint": true}
        })
    };
    let more = (1..tools).map(|number| tool(format!("echo-{number}")));
    Value::from_iter(std::iter::once(tool("echo".to_owned())).chain(more)).to_string()
}
