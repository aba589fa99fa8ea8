//! A raw HTTP client: requests as text, answers and event streams as they come.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, is_end, request};

/// One connection.
pub struct Http {
    socket: BufReader<TcpStream>,
    host: String,
    /// Sent as `Mcp-Session-Id`.
    pub session: Option<String>,
    /// Sent as `MCP-Protocol-Version`.
    pub version: Option<String>,
    /// Further header lines, each with its end.
    pub lines: String,
    /// The stream that is read has chunks.
    chunked: bool,
    /// What is left of the chunk, and of the stream, that is read.
    text: Vec<u8>,
}

/// The head of an answer, and its body where that has a length.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub retry: Option<u64>,
    pub data: Option<String>,
    /// It is a comment.
    pub comment: bool,
}

impl Http {
    pub fn connect(to: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        let (session, version) = (None, None);
        let lines = String::new();
        Self {
            socket: BufReader::new(socket),
            host: to.to_string(),
            session,
            version,
            lines,
            chunked: false,
            text: Vec::new(),
        }
    }

    /// A client with a session in this revision.
    pub fn open(to: SocketAddr, revision: &str) -> Self {
        Self::capable(to, revision, &json!({}))
    }

    /// The same, of a client that can be asked things.
    pub fn capable(to: SocketAddr, revision: &str, capabilities: &Value) -> Self {
        let mut client = Self::connect(to);
        let info = json!({"name": "peer", "version": "1"});
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info});
        let answer = client.post(&request(0, "initialize", &params));
        assert_eq!(answer.json()["result"]["protocolVersion"], revision, "{answer:?}");
        client.session = Some(answer.line("mcp-session-id").expect("a session id").to_owned());
        client.version = Some(revision.to_owned());
        let answer = client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        assert_eq!((answer.status, &*answer.body), (202, ""));
        client
    }

    /// Another connection of the same session.
    pub fn sibling(&self) -> Self {
        let to = self.socket.get_ref().peer_addr().expect("an address");
        let mut other = Self::connect(to);
        (other.session, other.version) = (self.session.clone(), self.version.clone());
        other
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("the gateway takes it");
    }

    fn head(&self, first: &str, more: &str) -> String {
        let session = self.session.as_ref().map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        let version = self.version.as_ref().map(|is| format!("MCP-Protocol-Version: {is}\r\n")).unwrap_or_default();
        format!("{first} HTTP/1.1\r\nHost: {}\r\n{session}{version}{}{more}\r\n", self.host, self.lines)
    }

    /// The text of a POST to the MCP endpoint.
    pub fn post_text(&self, body: &str) -> String {
        self.post_text_to("/mcp", body)
    }

    fn post_text_to(&self, path: &str, body: &str) -> String {
        let more = format!(
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        self.head(&format!("POST {path}"), &more) + body
    }

    /// Posts a message without waiting for the answer.
    pub fn say(&mut self, message: &Value) {
        let text = self.post_text(&message.to_string());
        self.send(text.as_bytes());
    }

    /// Posts what is no JSON.
    pub fn say_nonsense(&mut self) {
        let text = self.post_text("{nonsense");
        self.send(text.as_bytes());
    }

    /// Posts a message and gives the answer.
    pub fn post(&mut self, message: &Value) -> Answer {
        self.say(message);
        self.answer()
    }

    pub fn post_to(&mut self, path: &str, message: &Value) -> Answer {
        let text = self.post_text_to(path, &message.to_string());
        self.send(text.as_bytes());
        self.answer()
    }

    /// A request of 2026-07-28, its header lines made from it.
    pub fn post_modern(&mut self, id: u64, method: &str, params: &Value) -> Answer {
        self.say_modern(id, method, params);
        self.answer()
    }

    pub fn say_modern(&mut self, id: u64, method: &str, params: &Value) {
        let mut params = params.clone();
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        self.version = Some("2026-07-28".into());
        self.lines = format!("Mcp-Method: {method}\r\n");
        if let Some(name) = params["name"].as_str() {
            self.lines += &format!("Mcp-Name: {name}\r\n");
        }
        self.say(&request(id, method, &params));
    }

    /// A request without a body.
    pub fn ask(&mut self, first: &str, more: &str) -> Answer {
        let text = self.head(first, more);
        self.send(text.as_bytes());
        self.answer()
    }

    /// Opens the stream of the session; the answer's head.
    pub fn get(&mut self, more: &str) -> Answer {
        self.ask("GET /mcp", &format!("Accept: text/event-stream\r\n{more}"))
    }

    /// The next answer; the events of a stream are to be read with [`Self::event`].
    pub fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.socket.read_line(&mut head).expect("a head") > 0, "the head ends early: {head:?}");
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.line("content-length").map_or(0, |length| length.parse().expect("a length"));
        self.chunked = answer.line("transfer-encoding").is_some();
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).expect("the body");
        answer.body = String::from_utf8(body).expect("text");
        answer
    }

    /// The next event; nothing at the end of the stream.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let text = std::mem::replace(&mut self.text, rest);
                return Some(Event::read(std::str::from_utf8(&text).expect("text")));
            }
            if !self.more_text() {
                assert!(self.text.is_empty(), "half an event: {:?}", String::from_utf8_lossy(&self.text));
                return None;
            }
        }
    }

    /// The message of the next event that is neither a comment nor a priming event.
    pub fn event_message(&mut self) -> Value {
        loop {
            let event = self.event().expect("an event");
            if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                return serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data:?} is no JSON"));
            }
        }
    }

    fn more_text(&mut self) -> bool {
        if !self.chunked {
            let mut line = Vec::new();
            let read = match self.socket.read_until(b'\n', &mut line) {
                Err(error) if is_end(&error) => 0,
                read => read.expect("an event"),
            };
            self.text.extend(line);
            return read > 0;
        }
        let mut line = String::new();
        self.socket.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("{line:?} is no size"));
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).expect("a whole chunk");
        assert!(chunk.ends_with(b"\r\n"));
        self.text.extend(&chunk[..size]);
        size > 0
    }

    /// Whether nothing at all is heard for this time.
    pub fn hears_nothing(&mut self, time: Duration) -> bool {
        self.socket.get_ref().set_read_timeout(Some(time)).expect("a timeout");
        let nothing = matches!(self.socket.fill_buf(), Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        nothing
    }

    /// Whether the gateway closes the connection, with nothing more said.
    pub fn is_closed(&mut self) -> bool {
        match self.socket.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => is_end(&error),
        }
    }
}

impl Answer {
    /// The value of a header line.
    pub fn line(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(line, _)| line.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?} is no JSON"))
    }

    /// The status and the code of its error.
    pub fn error(&self) -> (u16, i64) {
        (self.status, self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("{self:?} is no error")))
    }

    pub fn is_stream(&self) -> bool {
        self.line("content-type") == Some("text/event-stream")
    }
}

impl Event {
    fn read(text: &str) -> Self {
        let mut event = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => event.comment = true,
                "id" => event.id = Some(value),
                "event" => event.name = Some(value),
                "retry" => event.retry = Some(value.parse().expect("a time")),
                "data" => event.data = Some(value),
                other => panic!("a field {other}"),
            }
        }
        event
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}
