//! An HTTP server that does as its test says, liars included: a thread for each connection, and the bytes it is told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The server. Its threads end with the sockets of whoever talks to it.
pub struct Web {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Asked>>>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub verb: String,
    head: String,
    /// Nothing, if it had no body.
    pub message: Value,
}

/// What is done with a request.
pub enum Reply {
    /// Sends this, and serves the next request on the same connection.
    Keep(String),
    /// Sends this and closes.
    Close(String),
    /// Sends this and nothing more, until the client closes.
    Hold(String),
    /// Sends this, and then the other over and over until the client closes.
    Pour(String, String),
}

impl Web {
    /// `script` answers what it wants to answer; the rest is answered as by an honest server of 2025-11-25 with sessions `s0`,
    /// `s1` and so on, and one tool, `echo`.
    pub fn start(script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let heard = Arc::<Mutex<Vec<Asked>>>::default();
        let (all, script, sessions) = (Arc::clone(&heard), Arc::new(script), Arc::new(AtomicU32::new(0)));
        let accept = move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (all, script, sessions) = (Arc::clone(&all), Arc::clone(&script), Arc::clone(&sessions));
                let serve = move || {
                    // However its client leaves.
                    let _ = serve(socket, |asked| {
                        all.lock().expect("no panic before").push(asked.clone());
                        script(asked).unwrap_or_else(|| honest(asked, &sessions))
                    });
                };
                thread::Builder::new().spawn(serve).expect("a thread");
            }
        };
        thread::Builder::new().spawn(accept).expect("a thread");
        Self { address, heard }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// All that it was asked so far.
    pub fn heard(&self) -> Vec<Asked> {
        self.heard.lock().expect("no panic before").clone()
    }

    /// The sessions in which its tools were called, in order.
    pub fn called_in(&self) -> Vec<String> {
        let calls = self.heard().into_iter().filter(|asked| asked.is("tools/call"));
        calls.map(|asked| asked.line("mcp-session-id").unwrap_or_default().to_owned()).collect()
    }
}

impl Asked {
    /// Whether it is a message of this method.
    pub fn is(&self, method: &str) -> bool {
        self.message["method"] == method
    }

    /// A header line.
    pub fn line(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(line, _)| line.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The JSON-RPC text that answers it so.
    pub fn answer(&self, result: &Value) -> String {
        json!({"jsonrpc": "2.0", "id": self.message["id"], "result": result}).to_string()
    }

    /// The answer of `echo` to its call.
    pub fn echoed(&self) -> String {
        let text = &self.message["params"]["arguments"]["text"];
        self.answer(&json!({"content": [{"type": "text", "text": text}]}))
    }
}

impl Reply {
    /// An honest answer.
    pub fn json(text: &str) -> Self {
        Self::Keep(with_status("200 OK", "application/json", text))
    }
}

/// A whole answer with this status.
pub fn with_status(status: &str, media: &str, text: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// A stream of events that begins so, and ends with its connection.
pub fn events(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}")
}

fn honest(asked: &Asked, sessions: &AtomicU32) -> Reply {
    match (&*asked.verb, asked.message["method"].as_str()) {
        ("POST", Some("initialize")) => {
            let session = sessions.fetch_add(1, Ordering::Relaxed);
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "web", "version": "1"}});
            let answer = with_status("200 OK", "application/json", &asked.answer(&result));
            Reply::Keep(answer.replacen("\r\n", &format!("\r\nMcp-Session-Id: s{session}\r\n"), 1))
        }
        ("POST", Some("tools/list")) => {
            Reply::json(&asked.answer(&json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})))
        }
        ("POST", Some("tools/call")) => Reply::json(&asked.echoed()),
        ("POST", _) if asked.message["id"].is_null() => {
            Reply::Keep("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".into())
        }
        ("POST", _) => {
            let error = json!({"code": -32601, "message": "no such method"});
            Reply::json(&json!({"jsonrpc": "2.0", "id": asked.message["id"], "error": error}).to_string())
        }
        _ => Reply::Keep(with_status("405 Method Not Allowed", "text/plain", "")),
    }
}

fn serve(mut socket: TcpStream, answer: impl Fn(&Asked) -> Reply) -> io::Result<()> {
    let mut bytes = Vec::new();
    while let Some(asked) = hear(&mut socket, &mut bytes)? {
        match answer(&asked) {
            Reply::Keep(text) => socket.write_all(text.as_bytes())?,
            Reply::Close(text) => return socket.write_all(text.as_bytes()),
            Reply::Hold(text) => {
                socket.write_all(text.as_bytes())?;
                return io::copy(&mut socket, &mut io::sink()).map(drop);
            }
            Reply::Pour(text, more) => {
                socket.write_all(text.as_bytes())?;
                loop {
                    socket.write_all(more.as_bytes())?;
                }
            }
        }
    }
    Ok(())
}

/// The next request; none when the client has closed.
fn hear(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let verb = head.split(' ').next().unwrap_or_default().to_owned();
            let asked = Asked { verb, head, message: Value::Null };
            let whole = end + 4 + asked.line("content-length").map_or(0, |length| length.parse().expect("a number"));
            if bytes.len() >= whole {
                let message = serde_json::from_slice(&bytes[end + 4..whole]).unwrap_or_default();
                bytes.drain(..whole);
                return Ok(Some(Asked { message, ..asked }));
            }
        }
        let mut more = [0; 4096];
        match socket.read(&mut more)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&more[..read]),
        }
    }
}
