//! WebSocket links to servers on real sockets, liars included.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::upstream::link::{Arrived, Kind, Limits, Link, Outgoing, Purpose, Target, What};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::Config;
use crate::wire::http::{read_upgrade, write_switching};
use crate::wire::ws::{Decoder, Frame, Opcode, Role, Step, write_close, write_frame};

/// The server's end of an accepted WebSocket.
struct Server {
    socket: TcpStream,
    bytes: Vec<u8>,
    decoder: Decoder,
}

impl Server {
    /// The next frame, as its kind and payload.
    async fn hear(&mut self) -> (&'static str, Vec<u8>) {
        loop {
            let rules = Config::default().rules(Role::Server);
            if let Step::Frame { frame, consumed } = self.decoder.decode(&mut self.bytes, &rules).expect("no violation")
            {
                let heard = match frame {
                    Frame::Text(text) => ("text", text.as_bytes().to_vec()),
                    Frame::Pong(payload) => ("pong", payload.to_vec()),
                    Frame::Close(closing) => ("close", closing.map_or(0, |it| it.code).to_string().into_bytes()),
                    _ => ("other", Vec::new()),
                };
                self.bytes.drain(..consumed);
                return heard;
            }
            assert!(self.socket.read_buf(&mut self.bytes).await.expect("read") > 0, "closed without a goodbye");
        }
    }

    async fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut out = Vec::new();
        write_frame(&mut out, opcode, payload);
        self.raw(&out).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("sent");
    }
}

/// A server that does what `serve` does with its one connection.
async fn raw_server<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/mcp", listener.local_addr().expect("its address"));
    #[allow(clippy::disallowed_methods)] // Ends with its test's runtime.
    tokio::spawn(async move { serve(listener.accept().await.expect("a client").0).await });
    Target::WebSocket { url, headers: vec![], ca_file: None }
}

/// The same behind an accepted upgrade.
async fn server<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(Server) -> F + Send + 'static) -> Target {
    raw_server(|mut socket| async move {
        let (mut bytes, mut answer) = (Vec::new(), Vec::new());
        while answer.is_empty() {
            socket.read_buf(&mut bytes).await.expect("read");
            if let Some(upgrade) = read_upgrade(&bytes, &Config::default()).expect("an upgrade") {
                assert!(upgrade.offers.mcp);
                write_switching(&mut answer, &upgrade);
            }
        }
        socket.write_all(&answer).await.expect("sent");
        serve(Server { socket, bytes: Vec::new(), decoder: Decoder::default() }).await;
    })
    .await
}

async fn try_open(target: &Target) -> Result<Link, Trouble> {
    let limits = Limits { message_bytes_max: 1 << 20, connect: Duration::from_secs(10), http_connections_max: 1 };
    Link::open(target, "tested", &limits).await
}

fn message(text: &[u8]) -> Outgoing<'_> {
    Outgoing { text, purpose: Purpose::Response }
}

/// The next thing, or how the link ended.
async fn next(link: &mut Link) -> String {
    loop {
        if let Some(Arrived { on, what }) = link.next() {
            return match what {
                What::Message(text) => String::from_utf8_lossy(text).into_owned(),
                What::Failed(trouble) => format!("{on:?} failed: {:?}", trouble.kind),
            };
        }
        if let Err(trouble) = link.fill().await {
            return format!("end: {:?}: {}", trouble.kind, trouble.detail);
        }
    }
}

#[tokio::test]
async fn messages_go_both_ways_in_fragments_too_and_pings_are_answered() {
    let target = server(|mut server| async move {
        assert_eq!(server.hear().await, ("text", b"{\"id\":1}".to_vec()));
        server.say(Opcode::Ping, b"there?").await;
        assert_eq!(server.hear().await, ("pong", b"there?".to_vec()));
        server.raw(b"\x01\x05{\"id\"\x89\x00\x80\x03:2}").await;
        server.say(Opcode::Text, b"{\"id\":3}").await;
        server.say(Opcode::Binary, b"skipped").await;
        server.say(Opcode::Text, b"{\"id\":4}").await;
        assert_eq!(server.hear().await.0, "pong");
        assert_eq!(server.hear().await, ("close", b"1000".to_vec()));
        let mut goodbye = Vec::new();
        write_close(&mut goodbye, 1000, "");
        server.raw(&goodbye).await;
    })
    .await;
    let mut link = try_open(&target).await.expect("open");
    assert_eq!(link.kind(), Kind::WebSocket);
    link.put(message(b"{\"id\":1}"));
    for number in 2..=4 {
        assert_eq!(next(&mut link).await, format!("{{\"id\":{number}}}"));
    }
    link.close().await;
}

/// Of a call that the server has, nobody may say that it was not sent: it would be sent once more.
#[tokio::test]
async fn a_pong_that_waits_says_nothing_of_the_messages_that_were_sent() {
    let target = server(|mut server| async move {
        assert_eq!(server.hear().await.0, "text");
        // In one read, so that nothing is sent between the two.
        let mut both = Vec::new();
        write_frame(&mut both, Opcode::Ping, &[b'x'; 100]);
        write_frame(&mut both, Opcode::Text, b"{\"id\":2}");
        server.raw(&both).await;
        std::future::pending().await
    })
    .await;
    let mut link = try_open(&target).await.expect("open");
    assert_eq!(link.taken(), 0);
    link.put(message(b"{\"id\":1}"));
    let whole = link.unsent() as u64;
    assert_eq!(next(&mut link).await, "{\"id\":2}");
    assert!(link.unsent() >= 100, "the pong waits for the next turn");
    assert_eq!(link.taken(), whole);
}

#[tokio::test]
async fn a_message_over_the_limit_fails_its_request_and_the_next_one_comes() {
    let target = server(|mut server| async move {
        let long = format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{}"}}"#, "x".repeat(5 << 20));
        server.say(Opcode::Text, long.as_bytes()).await;
        server.say(Opcode::Text, "x".repeat(2 << 20).as_bytes()).await;
        server.say(Opcode::Text, b"{\"id\":8}").await;
        std::future::pending().await
    })
    .await;
    let mut link = try_open(&target).await.expect("open");
    assert_eq!(next(&mut link).await, "Some(7) failed: TooLong");
    assert_eq!(next(&mut link).await, "{\"id\":8}");
}

#[tokio::test]
async fn a_server_that_closes_or_breaks_the_protocol_ends_the_link_by_name() {
    let target = server(|mut server| async move {
        let mut goodbye = Vec::new();
        write_close(&mut goodbye, 1012, "restart");
        server.raw(&goodbye).await;
        assert_eq!(server.hear().await, ("close", b"1012".to_vec()));
    })
    .await;
    let mut link = try_open(&target).await.expect("open");
    assert_eq!(next(&mut link).await, "end: Lost: closed with 1012 restart");
    for (bytes, end) in [
        (b"\x81\x80abcd".as_slice(), "end: Garbage: it broke the WebSocket protocol: mask_unexpected"),
        (b"\x81\x01\xff", "end: NotUtf8: it broke the WebSocket protocol: text_not_utf8"),
        (b"\x81\x09{\"half\"", "end: Lost: closed without a goodbye"),
    ] {
        let target = server(move |mut server| async move { server.raw(bytes).await }).await;
        let mut link = try_open(&target).await.expect("open");
        assert_eq!(next(&mut link).await, end);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_refused_says_how() {
    for (answer, kind) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", TroubleKind::Handshake),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", TroubleKind::Unauthorized),
        ("HTTP/1.1 302 Found\r\n\r\n", TroubleKind::Redirected),
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", TroubleKind::Handshake),
        ("", TroubleKind::Handshake),
    ] {
        let target = raw_server(move |mut socket| async move {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        })
        .await;
        let trouble = try_open(&target).await.err().expect("refused");
        assert_eq!((trouble.kind, trouble.is_safe_to_repeat()), (kind, true), "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_the_upgrade_is_given_up() {
    let target = raw_server(|socket| async move {
        let _socket = socket;
        std::future::pending().await
    })
    .await;
    let limits = Limits { message_bytes_max: 1 << 20, connect: Duration::from_millis(50), http_connections_max: 1 };
    let trouble = Link::open(&target, "tested", &limits).await.err().expect("given up");
    assert_eq!(trouble.kind, TroubleKind::Refused);
}
