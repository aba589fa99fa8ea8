//! Links to HTTP servers on real sockets, liars included: each server is a function from a request to raw bytes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mcp::Revision;
use crate::upstream::link::{Arrived, Limits, Link, Outgoing, Purpose, Target, What};
use crate::upstream::trouble::{Trouble, TroubleKind};

mod framing;
mod words;

const LEGACY: Revision = Revision::V2025_11_25;
const MODERN: Revision = Revision::V2026_07_28;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

/// What a server does with a request.
enum Reply {
    /// Sends this, and serves the next request on the same connection.
    Keep(String),
    /// Sends this and closes.
    Close(String),
    /// Sends this and nothing more.
    Hold(String),
}

/// What a server has heard, in order.
type Heard = Arc<Mutex<Vec<String>>>;

/// Starts a server; `serve` gets the whole request as text, and how many came before it.
async fn server(serve: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> (Target, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("its address"));
    let heard = Heard::default();
    let (all, serve) = (Arc::clone(&heard), Arc::new(serve));
    #[allow(clippy::disallowed_methods)] // They end with their test's runtime.
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(socket, Arc::clone(&all), Arc::clone(&serve)));
        }
    });
    (Target::Http { url, headers: vec![("X-Key".into(), "k".into())], ca_file: None }, heard)
}

async fn connection(mut socket: TcpStream, all: Heard, serve: Arc<impl Fn(&str, usize) -> Reply>) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = request(&mut socket, &mut bytes).await else { return };
        let before = {
            let mut all = all.lock().expect("no panic before");
            all.push(request.clone());
            all.len() - 1
        };
        let (text, after) = match serve(&request, before) {
            Reply::Keep(text) => (text, 0),
            Reply::Close(text) => (text, 1),
            Reply::Hold(text) => (text, 2),
        };
        socket.write_all(text.as_bytes()).await.expect("sent");
        match after {
            0 => {}
            1 => return,
            _ => std::future::pending().await,
        }
    }
}

/// The next request, head and body; none when the client has closed.
async fn request(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = head.len() + 4 + length.map_or(0, |length| length.parse().expect("a number"));
            if bytes.len() >= whole {
                bytes.drain(..whole);
                return Some(text[..whole].to_owned());
            }
        }
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn json(status: &str, text: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

fn events(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}")
}

fn accepted() -> String {
    "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".into()
}

async fn open(target: &Target) -> Link {
    let limits = Limits { message_bytes_max: 1 << 20, connect: Duration::from_secs(10), http_connections_max: 8 };
    Link::open(target, "tested", &limits).await.expect("it opens")
}

/// A link behind its handshake.
async fn in_session(target: &Target) -> Link {
    let mut link = open(target).await;
    link.put(initialize());
    assert!(next(&mut link).await.1.is_ok());
    link.agreed(LEGACY);
    link.put(initialized());
    link
}

fn call(number: u64, revision: Revision) -> Outgoing<'static> {
    let purpose = Purpose::Request { number, method: "tools/call", name: Some("echo"), params: &[], revision };
    Outgoing { text: br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, purpose }
}

fn list(number: u64) -> Outgoing<'static> {
    let purpose = Purpose::Request { number, method: "tools/list", name: None, params: &[], revision: LEGACY };
    Outgoing { text: b"{}", purpose }
}

fn initialize() -> Outgoing<'static> {
    let purpose = Purpose::Request { number: 0, method: "initialize", name: None, params: &[], revision: LEGACY };
    Outgoing { text: b"{}", purpose }
}

fn initialized() -> Outgoing<'static> {
    let purpose = Purpose::Notification { method: "notifications/initialized", revision: LEGACY };
    Outgoing { text: b"{}", purpose }
}

/// The next thing: on which request, and the message or the trouble.
async fn next(link: &mut Link) -> (Option<u64>, Result<String, Trouble>) {
    loop {
        if let Some(Arrived { on, what }) = link.next() {
            return match what {
                What::Message(text) => (on, Ok(String::from_utf8_lossy(text).into_owned())),
                What::Failed(trouble) => (on, Err(trouble)),
            };
        }
        link.fill().await.expect("an HTTP link has no end of its own");
    }
}

/// How a call fails at a server that answers everything so.
async fn trouble(reply: &str) -> Trouble {
    let reply = reply.to_owned();
    let (target, _) = server(move |_, _| Reply::Close(reply.clone())).await;
    let mut link = open(&target).await;
    link.put(call(7, MODERN));
    let (on, came) = next(&mut link).await;
    assert_eq!(on, Some(7));
    came.expect_err("no answer")
}

#[tokio::test]
async fn an_answer_comes_as_json_and_the_connection_is_used_again() {
    let (target, heard) = server(|_, _| Reply::Keep(json("200 OK", ANSWER))).await;
    let mut link = open(&target).await;
    for number in 0..3 {
        link.put(call(number, MODERN));
        assert_eq!(next(&mut link).await, (Some(number), Ok(ANSWER.into())));
    }
    let heard = heard.lock().unwrap();
    for header in [
        "POST /mcp HTTP/1.1\r\n",
        "accept: application/json, text/event-stream\r\n",
        "content-type: application/json\r\n",
        "mcp-protocol-version: 2026-07-28\r\n",
        "mcp-method: tools/call\r\n",
        "mcp-name: echo\r\n",
        "x-key: k\r\n",
    ] {
        assert!(heard[0].contains(header), "{header} in {}", heard[0]);
    }
}

#[tokio::test]
async fn messages_before_the_answer_come_as_events_however_they_are_cut() {
    let (target, _) = server(|_, _| {
        Reply::Close(events(&format!(
            ": hello\n\ndata: {{\"method\":\"x\"}}\r\n\r\nevent: message\ndata: {ANSWER}\n\n"
        )))
    })
    .await;
    let mut link = open(&target).await;
    link.put(call(1, MODERN));
    assert_eq!(next(&mut link).await, (Some(1), Ok(r#"{"method":"x"}"#.into())));
    assert_eq!(next(&mut link).await, (Some(1), Ok(ANSWER.into())));
}

#[tokio::test]
async fn a_stream_that_never_ends_behind_its_answer_holds_nobody_up() {
    let (target, _) = server(|_, _| Reply::Hold(events(&format!("data: {ANSWER}\n\n")))).await;
    let mut link = open(&target).await;
    for number in 0..20 {
        link.put(call(number, MODERN));
    }
    for _ in 0..20 {
        assert_eq!(next(&mut link).await.1, Ok(ANSWER.into()));
    }
}

#[tokio::test]
async fn more_requests_than_connections_wait_their_turn() {
    let (target, _) = server(|_, _| Reply::Keep(json("200 OK", ANSWER))).await;
    let mut link = open(&target).await;
    for number in 0..100 {
        link.put(call(number, MODERN));
    }
    assert!(link.unsent() > 0);
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(next(&mut link).await.0.expect("a request"));
    }
    all.sort_unstable();
    assert_eq!((all, link.unsent()), ((0..100).collect(), 0));
}

#[tokio::test]
async fn a_json_rpc_error_with_an_error_status_is_the_answer() {
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no"}}"#;
    let (target, _) = server(move |_, _| Reply::Keep(json("400 Bad Request", error))).await;
    let mut link = open(&target).await;
    link.put(call(1, MODERN));
    assert_eq!(next(&mut link).await, (Some(1), Ok(error.into())));
}

#[tokio::test]
async fn liars_fail_their_request_by_name() {
    let html = "HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>";
    assert_eq!((trouble(html).await.kind, trouble(html).await.status), (TroubleKind::HttpStatus, Some(500)));
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>";
    assert_eq!(trouble(page).await.kind, TroubleKind::NotMcp);
    let moved = "HTTP/1.1 307 Moved\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    let moved = trouble(moved).await;
    assert_eq!((moved.kind, &*moved.detail), (TroubleKind::Redirected, "http://elsewhere/"));
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let busy = trouble(busy).await;
    assert_eq!((busy.kind, busy.retry_after), (TroubleKind::Overloaded, Some(Duration::from_secs(7))));
    assert_eq!(trouble(&json("200 OK", "hello")).await.kind, TroubleKind::Garbage);
    assert_eq!(trouble(&json("200 OK", &"[".repeat(2 << 20))).await.kind, TroubleKind::TooLong);
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        trouble(&format!("{chunked}{}", format!("8000\r\n{}\r\n", "[".repeat(0x8000)).repeat(40))).await.kind,
        TroubleKind::TooLong
    );
    assert_eq!(trouble(&format!("{chunked}5\r\n{{\"id")).await.kind, TroubleKind::Lost);
    assert_eq!(trouble(&events(&format!("data: {}\n\n", "x".repeat(2 << 20)))).await.kind, TroubleKind::TooLong);
    assert_eq!(trouble(&events("data: {\"half\n")).await.kind, TroubleKind::Lost);
    assert_eq!(trouble("SMTP ready\r\n").await.kind, TroubleKind::Lost);
    let early = trouble("").await;
    assert_eq!((early.kind, early.is_safe_to_repeat()), (TroubleKind::Lost, false));
}

#[tokio::test]
async fn a_request_that_crosses_the_close_of_a_kept_connection_is_repeated_unless_it_is_a_call() {
    // Each connection says that it is kept, and is closed with the second request on it unanswered.
    let (target, heard) = server(|_, before| match before {
        1 | 4 => Reply::Close(String::new()),
        _ => Reply::Keep(json("200 OK", ANSWER)),
    })
    .await;
    let mut link = open(&target).await;
    link.put(list(1));
    assert!(next(&mut link).await.1.is_ok());
    link.put(list(2));
    assert!(next(&mut link).await.1.is_ok());
    assert_eq!(heard.lock().unwrap().len(), 3, "sent twice");
    link.put(list(3));
    assert!(next(&mut link).await.1.is_ok());
    link.put(call(4, LEGACY));
    let trouble = next(&mut link).await.1.unwrap_err();
    assert_eq!((trouble.kind, trouble.is_safe_to_repeat()), (TroubleKind::Lost, false));
    assert_eq!(heard.lock().unwrap().len(), 5, "sent once");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_request() {
    let (target, _) = server(|_, _| Reply::Close(json("200 OK", ANSWER))).await;
    let mut link = open(&target).await;
    for number in 0..5 {
        link.put(call(number, MODERN));
        assert_eq!(next(&mut link).await.1, Ok(ANSWER.into()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_fails_each_request_and_is_safe_to_repeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("its address"));
    drop(listener);
    let mut link = open(&Target::Http { url, headers: vec![], ca_file: None }).await;
    link.put(call(1, MODERN));
    let trouble = next(&mut link).await.1.unwrap_err();
    assert_eq!((trouble.kind, trouble.is_safe_to_repeat()), (TroubleKind::Refused, true));
}

/// A legacy server with a session; `serve` has the rest.
fn session(request: &str) -> Option<Reply> {
    if request.starts_with("DELETE") {
        return Some(Reply::Keep("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".into()));
    }
    let is_first = !request.contains("mcp-session-id: ");
    is_first.then(|| Reply::Keep(json("200 OK", ANSWER).replace("Content-Type", "Mcp-Session-Id: s1\r\nContent-Type")))
}

#[tokio::test]
async fn a_session_is_named_from_then_on_listened_to_and_ended() {
    let (target, heard) = server(|request, _| {
        session(request).unwrap_or_else(|| match request {
            get if get.starts_with("GET") => Reply::Hold(events("data: {\"method\":\"y\"}\n\n")),
            _ => Reply::Keep(accepted()),
        })
    })
    .await;
    let mut link = in_session(&target).await;
    assert_eq!(next(&mut link).await, (None, Ok("{\"method\":\"y\"}".into())));
    link.close().await;
    let heard = heard.lock().unwrap();
    assert!(!heard[0].contains("mcp-protocol-version"), "not agreed yet: {}", heard[0]);
    for (at, verb) in [(1, "POST /mcp"), (2, "GET /mcp"), (3, "DELETE /mcp")] {
        assert!(heard[at].starts_with(verb), "{}", heard[at]);
        assert!(heard[at].contains("mcp-session-id: s1\r\n"), "{}", heard[at]);
        assert!(heard[at].contains("mcp-protocol-version: 2025-11-25\r\n"), "{}", heard[at]);
    }
    assert!(heard[2].contains("accept: text/event-stream\r\n"), "{}", heard[2]);
}

#[tokio::test]
async fn nothing_overtakes_the_end_of_the_handshake() {
    let (target, heard) = server(|request, before| {
        session(request).unwrap_or_else(|| match before {
            1 => {
                std::thread::sleep(Duration::from_millis(50));
                Reply::Keep(accepted())
            }
            _ if request.starts_with("GET") => Reply::Keep("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".into()),
            _ => Reply::Keep(json("200 OK", ANSWER)),
        })
    })
    .await;
    let mut link = in_session(&target).await;
    link.put(list(1));
    assert!(link.unsent() > 0, "the list waits");
    assert_eq!(next(&mut link).await, (Some(1), Ok(ANSWER.into())));
    assert!(heard.lock().unwrap().len() >= 3);
}

#[tokio::test]
async fn an_unknown_session_is_a_lost_one_whatever_the_body_says() {
    let error = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#;
    let (target, _) =
        server(move |request, _| session(request).unwrap_or_else(|| Reply::Keep(json("404 Not Found", error)))).await;
    let mut link = open(&target).await;
    link.put(initialize());
    assert!(next(&mut link).await.1.is_ok());
    link.agreed(LEGACY);
    link.put(call(5, LEGACY));
    let (on, came) = next(&mut link).await;
    let trouble = came.unwrap_err();
    assert_eq!((on, trouble.kind, trouble.is_safe_to_repeat()), (Some(5), TroubleKind::SessionLost, true));
}

#[tokio::test]
async fn a_legacy_stream_that_breaks_is_taken_up_where_it_was() {
    let (target, heard) = server(|request, _| match request {
        get if get.contains("last-event-id: e1") => Reply::Close(events("id: e2\ndata: {\"method\":\"x\"}\n\n")),
        get if get.contains("last-event-id: e2") => Reply::Close(events(&format!("data: {ANSWER}\n\n"))),
        _ => Reply::Close(events("id: e1\nretry: 10\ndata:\n\ndata: {\"never\":\"ends")),
    })
    .await;
    let mut link = open(&target).await;
    link.put(call(1, LEGACY));
    assert_eq!(next(&mut link).await, (Some(1), Ok("{\"method\":\"x\"}".into())));
    assert_eq!(next(&mut link).await, (Some(1), Ok(ANSWER.into())));
    assert!(heard.lock().unwrap()[1].starts_with("GET /mcp"));
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_fails_in_the_end() {
    let (target, heard) = server(|_, _| Reply::Close(events("id: e1\nretry: 1\ndata:\n\n"))).await;
    let mut link = open(&target).await;
    link.put(call(1, LEGACY));
    assert_eq!(next(&mut link).await.1.unwrap_err().kind, TroubleKind::Lost);
    assert_eq!(heard.lock().unwrap().len(), 6);
    // Modern streams are not resumable.
    link.put(call(2, MODERN));
    assert_eq!(next(&mut link).await.1.unwrap_err().kind, TroubleKind::Lost);
    assert_eq!(heard.lock().unwrap().len(), 7);
}

#[tokio::test]
async fn a_modern_cancel_closes_the_stream_and_a_legacy_one_says_so_too() {
    let (target, heard) =
        server(
            |request, _| {
                if request.contains("cancelled") { Reply::Keep(accepted()) } else { Reply::Hold(events(": wait\n\n")) }
            },
        )
        .await;
    let mut link = open(&target).await;
    let text = br#"{"method":"notifications/cancelled"}"#;
    for (number, revision) in [(1, MODERN), (2, LEGACY)] {
        link.put(call(number, revision));
        while heard.lock().unwrap().len() < number as usize {
            let _ = tokio::time::timeout(Duration::from_millis(5), link.fill()).await;
        }
        link.put(Outgoing { text, purpose: Purpose::Cancel { number, revision } });
    }
    while heard.lock().unwrap().len() < 3 {
        let _ = tokio::time::timeout(Duration::from_millis(5), link.fill()).await;
    }
    assert!(heard.lock().unwrap()[2].contains("notifications/cancelled"));
}

#[tokio::test]
async fn the_standing_stream_is_opened_again_where_it_broke() {
    let (target, heard) = server(|request, _| {
        session(request).unwrap_or_else(|| match request {
            get if get.contains("last-event-id: g1") => Reply::Hold(events("data: {\"second\":1}\n\n")),
            get if get.starts_with("GET") => Reply::Close(events("retry: 5\nid: g1\ndata: {\"first\":1}\n\n")),
            _ => Reply::Keep(accepted()),
        })
    })
    .await;
    let mut link = in_session(&target).await;
    assert_eq!(next(&mut link).await, (None, Ok("{\"first\":1}".into())));
    assert_eq!(next(&mut link).await, (None, Ok("{\"second\":1}".into())));
    assert!(heard.lock().unwrap().len() >= 4);
}

#[tokio::test]
async fn a_server_of_2024_is_found_behind_its_refusal_and_everything_goes_its_way() {
    // What is posted has no answer of its own: it comes on the stream, which this server ends after the second message.
    let (target, heard) = server(|request, _| match request {
        post if post.starts_with("POST /mcp") => {
            Reply::Keep("HTTP/1.1 405 No\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n".into())
        }
        post if post.starts_with("POST /messages?id=1") => Reply::Keep(accepted()),
        _ => Reply::Close(events(&format!(
            "event: endpoint\ndata: /messages?id=1\n\ndata: {ANSWER}\n\ndata: {{\"second\":1}}\n\n"
        ))),
    })
    .await;
    let mut link = open(&target).await;
    link.put(initialize());
    assert_eq!(next(&mut link).await, (None, Ok(ANSWER.into())));
    link.agreed(Revision::V2024_11_05);
    link.put(initialized());
    assert_eq!(next(&mut link).await, (None, Ok("{\"second\":1}".into())));
    let ended = loop {
        if let Err(trouble) = link.fill().await {
            break trouble;
        }
    };
    assert_eq!(ended.kind, TroubleKind::Lost);
    let heard = heard.lock().unwrap();
    assert!(heard[1].starts_with("GET /mcp"), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_is_of_no_time_at_all_fails_by_what_it_said_first() {
    let (target, heard) = server(|request, _| {
        let status = if request.starts_with("GET") { "404 Not Found" } else { "405 Not Allowed" };
        Reply::Keep(format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"))
    })
    .await;
    let mut link = open(&target).await;
    link.put(initialize());
    let (on, came) = next(&mut link).await;
    assert_eq!((on, came.unwrap_err().status), (Some(0), Some(405)));
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_notification_that_is_answered_with_a_stream_holds_nobody_up() {
    let (target, _) = server(|request, before| {
        session(request).unwrap_or_else(|| match before {
            1 => Reply::Hold(events(": why not\n\n")),
            _ if request.starts_with("GET") => Reply::Keep("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".into()),
            _ => Reply::Keep(json("200 OK", ANSWER)),
        })
    })
    .await;
    let mut link = in_session(&target).await;
    link.put(list(1));
    assert_eq!(next(&mut link).await, (Some(1), Ok(ANSWER.into())));
}
