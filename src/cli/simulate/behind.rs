//! What is behind the gateway: nothing but its own server, a server in another process, or one here that changes,
//! or takes its time.

mod slow;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

pub(super) use self::slow::SlowCounts;
use self::slow::SlowServer;
use super::gateway::{Gateway, Serving};
use super::profile::Slow;

/// What [`Args::upstream`](super::Args::upstream) can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// The gateway's own server.
    Embedded,
    /// The own server of another lakh, in a process of its own, over raw TCP.
    Tcp,
    /// A server that runs already and speaks lines on raw TCP.
    At(SocketAddr),
}

impl FromStr for Behind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "tcp" => Ok(Self::Tcp),
            _ => text.parse().map(Self::At).map_err(|_| "write embedded, tcp, or IP:PORT of a server".into()),
        }
    }
}

/// The server behind the gateway, for as long as the gateway needs it.
pub(super) enum Server {
    Embedded,
    Process(Gateway),
    Elsewhere(SocketAddr),
    Changeable(Changeable),
    Slow(SlowServer),
}

impl Server {
    /// Starts what `behind` names; with `changes`, a server of ours instead whose list of tools can be changed.
    pub(super) fn start(behind: Behind, changes: bool, exe: &Path) -> io::Result<Self> {
        Ok(match behind {
            _ if changes => Self::Changeable(Changeable::start()?),
            Behind::Embedded => Self::Embedded,
            Behind::Tcp => Self::Process(Gateway::start(exe, &Serving::few())?),
            Behind::At(address) => Self::Elsewhere(address),
        })
    }

    /// Starts a server that takes its time.
    pub(super) fn start_slow(slow: Slow) -> io::Result<Self> {
        SlowServer::start(slow.slots, slow.service).map(Self::Slow)
    }

    /// What a slow server has seen since [`begin_count`](Self::begin_count).
    pub(super) fn slow_counts(&self) -> Option<SlowCounts> {
        if let Self::Slow(server) = self { Some(server.counts()) } else { None }
    }

    /// Lets a slow server count from nothing.
    pub(super) fn begin_count(&self) {
        if let Self::Slow(server) = self {
            server.begin_count();
        }
    }

    /// Where it is, if the gateway must be told.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded => None,
            Self::Process(server) => Some(server.clients),
            Self::Elsewhere(address) => Some(*address),
            Self::Changeable(server) => Some(server.address),
            Self::Slow(server) => Some(server.address),
        }
    }

    /// Whether the gateway is connected to it, as far as that can be seen from its side.
    pub(super) fn is_visited(&self) -> bool {
        match self {
            Self::Embedded | Self::Elsewhere(_) => true,
            Self::Process(server) => server.open_connections().is_some_and(|open| open > 0),
            Self::Changeable(server) => !server.house.connected().is_empty(),
            Self::Slow(server) => server.is_visited(),
        }
    }

    /// Changes the list of tools; false if it can't.
    pub(super) fn change(&self) -> bool {
        let Self::Changeable(server) = self else { return false };
        server.house.change();
        true
    }
}

/// A small server of MCP 2025-11-25 over lines: `echo`, and as many other tools as there were changes.
pub(super) struct Changeable {
    address: SocketAddr,
    house: Arc<House>,
}

/// What its connections share.
#[derive(Default)]
struct House {
    changes: AtomicU32,
    /// Who is told of changes; the gateway has one connection, or a few.
    connected: Mutex<Vec<TcpStream>>,
}

impl Changeable {
    /// Its threads end with the process.
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let house = Arc::new(House::default());
        let shared = Arc::clone(&house);
        std::thread::Builder::new().name("changeable".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let house = Arc::clone(&shared);
                // A connection that fails ends its thread; the gateway connects again.
                let attend = move || drop(house.attend(stream));
                if std::thread::Builder::new().name("changeable-one".into()).spawn(attend).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, house })
    }
}

impl House {
    fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let note = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n";
        self.connected().retain_mut(|stream| stream.write_all(note).is_ok());
    }

    fn connected(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attend(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            let request: Value = serde_json::from_str(&line?)?;
            let Some(mut answer) = self.answer(&request).map(|answer| answer.to_string()) else { continue };
            answer.push('\n');
            // Under the lock, so that a note never comes between the bytes of an answer.
            let mut connected = self.connected();
            stream.write_all(answer.as_bytes())?;
            if request["method"] == "initialize" {
                connected.push(stream.try_clone()?);
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Value) -> Option<Value> {
        answer(request, "changeable", &Value::Array(self.tools()))
    }

    fn tools(&self) -> Vec<Value> {
        let changes = self.changes.load(Ordering::SeqCst);
        let names = std::iter::once("echo".to_owned()).chain((1..=changes).map(|change| format!("change-{change}")));
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        names.map(|name| json!({"name": name, "inputSchema": schema})).collect()
    }
}

/// What a small server of MCP 2025-11-25 with `tools` says to a request; a call gives back its text.
fn answer(request: &Value, name: &str, tools: &Value) -> Option<Value> {
    let id = request.get("id")?;
    let result = match request["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": name, "version": "1"}
        }),
        "ping" => json!({}),
        "tools/list" => json!({"tools": tools}),
        "tools/call" => json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]}),
        _ => {
            let error = json!({"code": -32601, "message": "this server has only tools"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_read_and_others_are_explained() {
        assert_eq!("embedded".parse(), Ok(Behind::Embedded));
        assert_eq!("tcp".parse(), Ok(Behind::Tcp));
        assert_eq!("127.0.0.1:9".parse(), Ok(Behind::At(SocketAddr::from(([127, 0, 0, 1], 9)))));
        assert!("stdio".parse::<Behind>().expect_err("unknown").contains("IP:PORT"));
    }

    #[test]
    fn a_change_is_told_and_is_in_the_list() {
        let server = Server::start(Behind::Embedded, true, Path::new("unused")).expect("a port");
        let mut stream = TcpStream::connect(server.address().expect("known")).expect("connected");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let mut ask = |method: &str| {
            writeln!(stream, "{}", json!({"jsonrpc": "2.0", "id": "a", "method": method})).expect("sent");
            serde_json::from_str::<Value>(&lines.next().expect("a line").expect("read")).expect("JSON")
        };
        assert_eq!(ask("initialize")["result"]["capabilities"]["tools"]["listChanged"], true);
        assert_eq!(ask("tools/list")["result"]["tools"].as_array().map(Vec::len), Some(1));
        assert!(ask("server/discover")["error"].is_object());
        assert!(server.is_visited() && server.change());
        assert_eq!(ask("tools/list")["method"], "notifications/tools/list_changed");
        assert_eq!(ask("ping")["result"]["tools"].as_array().map(Vec::len), Some(2));
        assert!(!Server::Embedded.change());
    }
}
