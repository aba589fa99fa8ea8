//! Links to real processes and real sockets, liars included.

use std::future::Future;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const REVISION: Revision = Revision::V2025_11_25;

fn limits() -> Limits {
    Limits { message_bytes_max: 1 << 20, connect: Duration::from_secs(10), http_connections_max: 64 }
}

fn shell(script: &str) -> Target {
    let args = vec!["-c".to_owned(), script.to_owned()];
    Target::Child { command: "sh".into(), args, env: vec![("GREETING".into(), "hello".into())], cwd: None }
}

async fn open(target: &Target) -> Link {
    Link::open(target, "tested", &limits()).await.expect("it opens")
}

fn request(number: u64, text: &[u8]) -> Outgoing<'_> {
    let purpose = Purpose::Request { number, method: "ping", name: None, params: &[], revision: REVISION };
    Outgoing { text, purpose }
}

/// All that comes, as text; troubles by their names; until `enough` things or the link's end.
async fn heard(link: &mut Link, enough: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < enough {
        if let Err(trouble) = link.fill().await {
            heard.push(format!("end: {trouble}"));
            return heard;
        }
        while let Some(arrived) = link.next() {
            heard.push(match arrived {
                Arrived { on: None, what: What::Message(text) } => String::from_utf8_lossy(text).into_owned(),
                Arrived { on: Some(on), what: What::Message(text) } => {
                    format!("{on}: {}", String::from_utf8_lossy(text))
                }
                Arrived { on, what: What::Failed(trouble) } => format!("{on:?} failed: {:?}", trouble.kind),
            });
        }
    }
    heard
}

/// A server on TCP: the connection is given to `serve`.
async fn tcp<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    #[allow(clippy::disallowed_methods)] // Ends with its test's runtime.
    tokio::spawn(async move { serve(listener.accept().await.expect("a client").0).await });
    Target::Tcp(address)
}

#[tokio::test]
async fn a_child_answers_many_messages_put_at_once() {
    let mut link = open(&shell("cat")).await;
    assert_eq!(link.kind(), Kind::Stdio);
    for number in 0..100 {
        link.put(request(number, format!("{{\"id\":{number}}}").as_bytes()));
    }
    let heard = heard(&mut link, 100).await;
    assert_eq!((heard.len(), &*heard[99]), (100, "{\"id\":99}"));
    assert_eq!(link.unsent(), 0);
    link.close().await;
}

#[tokio::test]
async fn a_child_has_its_environment_and_its_folder() {
    let Target::Child { command, args, env, .. } = shell("echo \"{\\\"$GREETING\\\":\\\"$PWD\\\"}\"") else { return };
    let mut link = open(&Target::Child { command, args, env, cwd: Some("/usr".into()) }).await;
    assert_eq!(heard(&mut link, 1).await, ["{\"hello\":\"/usr\"}"]);
}

#[tokio::test]
async fn garbage_and_blank_lines_are_skipped() {
    let mut link = open(&shell("echo listening on stdio; echo; printf '\\377\\n'; echo '  {\"id\":1}'; cat")).await;
    assert_eq!(heard(&mut link, 1).await, ["  {\"id\":1}"]);
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_fails_its_request_and_the_next_one_is_answered() {
    let script = "printf '{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"'; head -c 100000000 /dev/zero | tr '\\0' x; \
                  echo '\"}'; echo '{\"id\":8}'";
    let mut link = open(&shell(script)).await;
    assert_eq!(heard(&mut link, 2).await, ["Some(7) failed: TooLong", "{\"id\":8}"]);
}

#[tokio::test]
async fn death_in_the_middle_of_a_message_ends_the_link_by_name() {
    let mut link = open(&shell("echo '{\"id\":1}'; printf '{\"id\":2'; exit 3")).await;
    assert_eq!(heard(&mut link, 9).await, ["{\"id\":1}", "end: has ended: with exit code 3"]);
    let mut link = open(&shell("kill -9 $$")).await;
    assert_eq!(heard(&mut link, 9).await, ["end: has ended: signal: 9 (SIGKILL)"]);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_not_started() {
    let target = Target::Child { command: "no-such-command".into(), args: vec![], env: vec![], cwd: None };
    let trouble = Link::open(&target, "tested", &limits()).await.err().expect("refused");
    assert_eq!(trouble.kind, TroubleKind::NotStarted);
    assert!(trouble.is_safe_to_repeat());
}

#[tokio::test]
async fn a_child_that_reads_nothing_holds_nobody_up_and_fill_still_hears_it() {
    let mut link = open(&shell("sleep 0.3; echo '{\"id\":1}'; exec sleep 60")).await;
    link.put(request(1, &vec![b' '; 1 << 20]));
    assert_eq!(heard(&mut link, 1).await, ["{\"id\":1}"]);
    assert!(link.unsent() > 0);
    link.close().await;
}

#[tokio::test]
async fn two_sides_with_full_pipes_never_wait_for_each_other() {
    let mut link = open(&shell("cat")).await;
    let text = format!("{{\"id\":\"{}\"}}", "x".repeat(500_000));
    for number in 0..20 {
        link.put(request(number, text.as_bytes()));
    }
    assert!(heard(&mut link, 20).await.iter().all(|heard| *heard == text));
}

#[tokio::test]
async fn a_cancelled_fill_loses_nothing() {
    let mut link = open(&shell("cat")).await;
    for number in 0..200 {
        link.put(request(number, format!("{{\"id\":{number}}}").as_bytes()));
        // Polled once and dropped.
        tokio::select! { biased; _ = link.fill() => {}, () = std::future::ready(()) => {} }
    }
    let heard = heard(&mut link, 200).await;
    assert_eq!((heard.len(), &*heard[199]), (200, "{\"id\":199}"));
}

#[tokio::test]
async fn a_stubborn_child_and_its_own_child_are_gone_after_close() {
    let mut link = open(&shell("trap '' TERM; sleep 61 & echo \"{\\\"id\\\":$!}\"; wait; exec sleep 61")).await;
    let heard = heard(&mut link, 1).await;
    let pid: String = heard[0].chars().filter(char::is_ascii_digit).collect();
    link.close().await;
    // Killed, and gone as soon as the kernel comes to it.
    let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    for _ in 0..500 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pid} is still there");
}

#[tokio::test]
async fn tcp_carries_lines_both_ways() {
    let target = tcp(|mut socket| async move {
        let mut bytes = [0; 8];
        socket.read_exact(&mut bytes).await.expect("a message");
        assert_eq!(&bytes, b"{\"id\":1}");
        socket.write_all(b"{\"id\":1}\n{\"id\"").await.expect("sent");
        tokio::task::yield_now().await;
        socket.write_all(b":2}\n{\"id\":3").await.expect("sent");
    })
    .await;
    let mut link = open(&target).await;
    assert_eq!(link.kind(), Kind::Tcp);
    link.put(request(1, b"{\"id\":1}"));
    let heard = heard(&mut link, 9).await;
    assert_eq!(heard[..2], ["{\"id\":1}", "{\"id\":2}"]);
    assert!(heard[2].starts_with("end: connection lost before an answer"), "{heard:?}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused_and_safe_to_repeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = Target::Tcp(listener.local_addr().expect("its address").to_string());
    drop(listener);
    let trouble = Link::open(&target, "tested", &limits()).await.err().expect("refused");
    assert_eq!((trouble.kind, trouble.is_safe_to_repeat()), (TroubleKind::Refused, true));
}

#[test]
fn a_link_can_be_moved_between_threads_in_the_middle_of_everything() {
    fn is_send(_: impl Send) {}
    #[allow(dead_code)] // That it compiles is the test.
    fn all(target: &Target, mut link: Link) {
        is_send(Link::open(target, "tested", &limits()));
        is_send(link.fill());
        is_send(link.flush());
        is_send(link.close());
    }
}

#[tokio::test]
async fn a_tls_server_that_is_none_is_refused() {
    let Target::Tcp(address) = tcp(|mut socket| async move {
        let _ = socket.write_all(b"220 no TLS here\r\n").await;
        let _ = socket.read(&mut [0; 1024]).await;
    })
    .await
    else {
        return;
    };
    let target = Target::WebSocket { url: format!("wss://{address}/"), headers: vec![], ca_file: None };
    let trouble = Link::open(&target, "tested", &limits()).await.err().expect("refused");
    assert_eq!((trouble.kind, trouble.is_safe_to_repeat()), (TroubleKind::Refused, true), "{trouble}");
}
