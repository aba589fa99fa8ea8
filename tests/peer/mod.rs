//! Clients on real sockets for the tests, well-behaved and not, and gateways to point them at.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each test binary uses its own part of this.

mod gateway;
pub mod http;
mod shard;
pub mod web;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

pub use gateway::{Gateway, Process, scripted};
pub use shard::{Shard, embedded, house, mcp};

/// Longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a client hears.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Message(Value),
    /// A WebSocket close frame with its code.
    Close(u16),
    /// The connection is over.
    End,
}

/// A client, over raw TCP or a WebSocket.
pub struct Peer {
    socket: BufReader<TcpStream>,
    websocket: bool,
}

impl Peer {
    /// A socket and nothing more: mute so far.
    pub fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&to, PATIENCE).expect("a connection"))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        Self { socket: BufReader::new(socket), websocket: false }
    }

    /// The same from another address of this machine.
    pub fn connect_from(source: [u8; 4], to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
        socket.connect_timeout(&to.into(), PATIENCE).expect("a connection");
        Self::over(socket.into())
    }

    /// A raw TCP client after its handshake, in the revision asked for.
    pub fn line_in(to: SocketAddr, revision: &str) -> Self {
        let mut peer = Self::connect(to);
        peer.initialize(revision);
        peer
    }

    /// A raw TCP client that can be asked things.
    pub fn capable(to: SocketAddr, capabilities: &Value) -> Self {
        let mut peer = Self::connect(to);
        peer.initialize_with("2025-11-25", capabilities);
        peer
    }

    /// A raw TCP client after its handshake.
    pub fn line(to: SocketAddr) -> Self {
        Self::line_in(to, "2025-11-25")
    }

    /// A WebSocket client after its upgrade, with nothing said in MCP.
    pub fn upgraded(to: SocketAddr) -> Self {
        let mut peer = Self::connect(to);
        peer.send(upgrade(to).as_bytes());
        peer.switched()
    }

    /// The same, with further header lines in the upgrade, each with its end.
    pub fn upgraded_with(to: SocketAddr, lines: &str) -> Self {
        let mut peer = Self::connect(to);
        peer.send(upgrade(to).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1).as_bytes());
        let mut peer = peer.switched();
        peer.initialize("2025-11-25");
        peer
    }

    /// The same, with the upgrade sent byte by byte.
    pub fn dribbling_upgrade(to: SocketAddr) -> Self {
        let mut peer = Self::connect(to);
        peer.dribble(upgrade(to).as_bytes());
        peer.switched()
    }

    fn switched(mut self) -> Self {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self.websocket = true;
        self
    }

    /// A WebSocket client after its handshake.
    pub fn websocket(to: SocketAddr) -> Self {
        let mut peer = Self::upgraded(to);
        peer.initialize("2025-11-25");
        peer
    }

    /// A WebSocket client that can be asked things.
    pub fn capable_websocket(to: SocketAddr, capabilities: &Value) -> Self {
        let mut peer = Self::upgraded(to);
        peer.initialize_with("2025-11-25", capabilities);
        peer
    }

    fn initialize(&mut self, revision: &str) {
        self.initialize_with(revision, &json!({}));
    }

    fn initialize_with(&mut self, revision: &str, capabilities: &Value) {
        let info = json!({"name": "peer", "version": "1"});
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": info});
        let answer = self.ask(&request(0, "initialize", &params));
        assert_eq!(answer["result"]["protocolVersion"], revision, "{answer}");
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }

    /// Sends one message in its dialect.
    pub fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    /// Sends one text, which may be no message.
    pub fn say_text(&mut self, text: &str) {
        if self.websocket {
            self.send(&frame(0x81, text.as_bytes()));
        } else {
            self.send(format!("{text}\n").as_bytes());
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the gateway takes it");
    }

    /// The same, where the gateway may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.get_mut().write_all(bytes)
    }

    /// Sends bytes one by one, with time enough to read them so.
    pub fn dribble(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// The next message, close frame or end. Pings are answered and not told.
    pub fn hear(&mut self) -> Heard {
        match if self.websocket { self.hear_frame() } else { self.hear_line() } {
            Ok(heard) => heard,
            Err(error) if is_end(&error) => Heard::End,
            Err(error) => panic!("nothing was heard: {error}"),
        }
    }

    /// The next message; anything else is a failure.
    pub fn hear_message(&mut self) -> Value {
        match self.hear() {
            Heard::Message(message) => message,
            other => panic!("{other:?} where a message was expected"),
        }
    }

    /// Says `message` and gives what is heard next.
    pub fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        self.hear_message()
    }

    /// The code and the id of the error that is heard next.
    pub fn hear_error(&mut self) -> (i64, Value) {
        let answer = self.hear_message();
        (answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer} is no error")), answer["id"].clone())
    }

    /// Whether a ping with this id is answered; false if the connection is over.
    pub fn is_answered(&mut self, id: u64) -> bool {
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string();
        let bytes = if self.websocket { frame(0x81, ping.as_bytes()) } else { format!("{ping}\n").into_bytes() };
        if self.try_send(&bytes).is_err() {
            return false;
        }
        match self.hear() {
            Heard::Message(answer) => answer == json!({"jsonrpc": "2.0", "id": id, "result": {}}),
            Heard::Close(_) | Heard::End => false,
        }
    }

    /// Whether nothing at all is heard for this time.
    pub fn hears_nothing(&mut self, time: Duration) -> bool {
        self.socket.get_ref().set_read_timeout(Some(time)).expect("a timeout");
        let heard = self.socket.fill_buf();
        let nothing =
            matches!(&heard, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        nothing
    }

    /// All that still comes, as text, until the end.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if is_end(&error) => {}
            Err(error) => panic!("the connection is not closed: {error}"),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// An HTTP head, up to and with its blank line.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.socket.read_line(&mut head).expect("a head") > 0, "the head ends early: {head}");
        }
        head
    }

    fn hear_line(&mut self) -> io::Result<Heard> {
        let mut line = String::new();
        match self.socket.read_line(&mut line)? {
            0 => Ok(Heard::End),
            _ => Ok(Heard::Message(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} is no JSON")))),
        }
    }

    fn hear_frame(&mut self) -> io::Result<Heard> {
        loop {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head)?;
            let mut length = u64::from(head[1]);
            if length >= 126 {
                let mut long = [0; 8];
                self.socket.read_exact(&mut long[if length == 126 { 6 } else { 0 }..])?;
                length = u64::from_be_bytes(long);
            }
            let mut payload = vec![0; usize::try_from(length).expect("a length")];
            self.socket.read_exact(&mut payload)?;
            match (head[0], &payload[..]) {
                (0x81, text) => return Ok(Heard::Message(serde_json::from_slice(text).expect("JSON in a text frame"))),
                (0x88, [high, low, ..]) => return Ok(Heard::Close(u16::from_be_bytes([*high, *low]))),
                (0x88, _) => return Ok(Heard::Close(1005)),
                (0x89, payload) => {
                    let pong = frame(0x8a, payload);
                    self.socket.get_mut().write_all(&pong)?;
                }
                (0x8a, _) => {}
                (other, _) => panic!("a frame that starts with {other:#x}"),
            }
        }
    }
}

impl Drop for Peer {
    /// Closing would not end it if a thread with a descriptor table of its own has inherited a copy.
    fn drop(&mut self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// A request of JSON-RPC.
pub fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A call of one of the embedded server's tools.
pub fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    request(id, "tools/call", &json!({"name": tool, "arguments": arguments}))
}

/// The text that a tool has answered.
pub fn text_of(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer} is no text"))
}

/// The head of a WebSocket upgrade.
pub fn upgrade(to: SocketAddr) -> String {
    format!(
        "GET /mcp HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame with this first byte. Its mask is zero, which masks nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Waits until `is_so`; false if it never is.
pub fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    is_so()
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
