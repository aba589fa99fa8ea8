//! A server of newline-delimited JSON with one tool, `echo`, in the bench's own process: well, slow or dead, as it is told.

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
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mood = Arc::new(AtomicU8::new(Mood::Well as u8));
        let shared = Arc::clone(&mood);
        Builder::new().name("moody".into()).spawn(move || {
            if let Err(error) = listen(listener, address, &shared) {
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

fn listen(listener: TcpListener, address: SocketAddr, mood: &Arc<AtomicU8>) -> Result<()> {
    let mut listener = Some(listener);
    loop {
        match &listener {
            _ if is(mood, Mood::Dead) => listener = None,
            None => listener = Some(TcpListener::bind(address)?),
            Some(listener) => {
                listener.set_nonblocking(true)?;
                if let Ok((stream, _)) = listener.accept() {
                    let mood = Arc::clone(mood);
                    // A connection that fails ends its thread; the gateway connects again.
                    Builder::new().name("moody-one".into()).spawn(move || drop(attend(stream, &mood)))?;
                    continue;
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn attend(mut stream: TcpStream, mood: &AtomicU8) -> Result<()> {
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
            let Some(answer) = answer(&request) else { continue };
            let answer = (answer.to_string() + "\n").into_bytes();
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

fn answer(request: &Value) -> Option<Value> {
    let id = request.get("id")?;
    let result = match request["method"].as_str()? {
        "tools/call" => json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]}),
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "moody", "version": "1"}
        }),
        "tools/list" => {
            let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
            json!({"tools": [{"name": "echo", "inputSchema": schema}]})
        }
        "ping" => json!({}),
        _ => return Some(json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "only tools"}})),
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}
