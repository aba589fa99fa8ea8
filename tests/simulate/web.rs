//! A small MCP server over Streamable HTTP, written from the pages of 2025-11-25 and 2026-07-28, a thread per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// How the peer treats its third client; all others it treats well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// Each answer is a stream of events, for all clients.
    AnswersInEvents,
    ForgetsSession,
    EndsStream,
    HasNoStreams,
    NamesAnother,
    AcknowledgesNothing,
}

pub(crate) fn peer(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    super::named("web-peer", move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // A client that is gone ends its thread.
            super::named("web-peer-client", move || drop(attend(stream, number, manner)));
        }
    });
    address
}

struct Request {
    verb: String,
    session: Option<String>,
    revision: Option<String>,
    method_header: Option<String>,
    body: Value,
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        lines.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    let Some(verb) = lines.first().and_then(|line| line.split(' ').next()).map(str::to_owned) else { return Ok(None) };
    let header = |name: &str| {
        let (_, value) = lines.iter().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name)?;
        Some(value.to_owned())
    };
    let length = header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        verb,
        session: header("Mcp-Session-Id"),
        revision: header("MCP-Protocol-Version"),
        method_header: header("Mcp-Method"),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}

fn attend(mut stream: TcpStream, number: usize, manner: Manner) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let here = |manner: Manner| if number == 2 { manner } else { Manner::Honest };
    let own = format!("session-{number}");
    while let Some(request) = read(&mut reader)? {
        let modern = request.revision.as_deref() == Some("2026-07-28");
        let method = request.body["method"].as_str().unwrap_or_default().to_owned();
        let allowed = match (modern, method.as_str()) {
            (true, _) => request.method_header.as_ref() == Some(&method),
            (false, "initialize") => request.session.is_none(),
            _ => request.session.as_ref().is_some_and(|session| session.starts_with("session-")),
        };
        let forgotten = manner == Manner::ForgetsSession && request.session.as_deref() == Some("session-2");
        if !allowed || (forgotten && method == "ping") {
            write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        match (&*request.verb, &*method) {
            ("DELETE", _) => write!(stream, "HTTP/1.1 204 No Content\r\n\r\n")?,
            ("GET", _) if here(manner) == Manner::HasNoStreams => {
                write!(stream, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?;
            }
            ("GET", _) => return hold(stream, here(manner), "id: 1\nretry: 1000\ndata: \n\n"),
            (_, "subscriptions/listen") => {
                let id = if here(manner) == Manner::NamesAnother { json!(7) } else { request.body["id"].clone() };
                let acknowledged = json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/subscriptions/acknowledged",
                    "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": id}, "notifications": {"toolsListChanged": true}}
                });
                let first = format!("data: {acknowledged}\n\n");
                let first = if here(manner) == Manner::AcknowledgesNothing { ": wait\n\n" } else { &first };
                return hold(stream, here(manner), first);
            }
            (_, "notifications/initialized") => write!(stream, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?,
            _ => {
                let session = if method == "initialize" { format!("Mcp-Session-Id: {own}\r\n") } else { String::new() };
                let answer =
                    json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result(&method, &request.body)});
                answer_with(&mut stream, &session, &answer.to_string(), manner == Manner::AnswersInEvents)?;
            }
        }
    }
    Ok(())
}

fn result(method: &str, request: &Value) -> Value {
    match method {
        "initialize" => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "peer", "version": "1"}})
        }
        "tools/call" => json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]}),
        _ => json!({}),
    }
}

fn answer_with(stream: &mut TcpStream, session: &str, answer: &str, in_events: bool) -> io::Result<()> {
    if in_events {
        let event = format!("event: message\r\ndata: {answer}\r\n\r\n");
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{session}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
            event.len()
        );
    }
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{session}Content-Length: {length}\r\n\r\n{answer}"
    )
}

/// The rest of the connection is a stream; a client that takes leave ends it.
fn hold(mut stream: TcpStream, manner: Manner, first: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n{first}")?;
    thread::sleep(Duration::from_millis(20));
    if manner == Manner::EndsStream {
        return Ok(());
    }
    write!(stream, ":\n\n")?;
    stream.read(&mut [0; 64]).map(drop)
}
