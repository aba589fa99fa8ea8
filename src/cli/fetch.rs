//! One plain GET from the admin address of a running gateway.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The port of the admin address where none is named.
const PORT: u16 = 7625;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longer than the gateway waits for anything before it says so.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// More than any answer of the gateway.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const HEADERS_MAX: usize = 32;

/// Where a gateway's admin face is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Host and port, as they are sent in `Host`.
    authority: String,
}

/// Why nothing was fetched, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unfetched {
    #[error("{0} is no admin address: write it as HOST:PORT or http://HOST:PORT")]
    Address(String),
    #[error(
        "nothing answers at {0}: {1}. Is lakh running? Start it with `lakh serve`, or name its admin address with --admin"
    )]
    Nobody(String, io::Error),
    #[error(
        "{0} does not answer as a lakh does: {1}. Is it the admin address (not that of the clients)? Name the right one with --admin"
    )]
    Broken(String, String),
    #[error(
        "{0} refuses with status {1} ({2}). Is it the admin address (not that of the clients)? Name the right one with --admin"
    )]
    Refused(String, u16, String),
}

impl Admin {
    /// Reads `HOST:PORT`, `HOST` or `http://HOST:PORT/`.
    ///
    /// # Errors
    /// When it is something else, an `https` URL or one with a path, say.
    pub fn parse(text: &str) -> Result<Self, Unfetched> {
        let wrong = || Unfetched::Address(text.to_owned());
        let host = text.strip_prefix("http://").unwrap_or(text);
        let host = host.strip_suffix('/').unwrap_or(host);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(wrong());
        }
        // The last colon parts the port off, unless it is one of an IPv6 address.
        let has_port = host.rfind(':').is_some_and(|colon| !host[colon..].contains(']'));
        let authority = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
        let (name, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let bare_ipv6 = name.contains(':') && !name.starts_with('[');
        if name.is_empty() || bare_ipv6 || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self { authority })
    }

    /// The body of the answer to `GET target`.
    ///
    /// # Errors
    /// When nothing answers in time, something else does, or the answer is a refusal.
    pub fn get(&self, target: &str) -> Result<String, Unfetched> {
        let nobody = |error| Unfetched::Nobody(self.authority.clone(), error);
        let broken = |why: String| Unfetched::Broken(self.authority.clone(), why);
        let mut socket = self.connect().map_err(nobody)?;
        let answer = self.ask(&mut socket, target).map_err(|error| broken(error.to_string()))?;
        let (status, body) = split(&answer).ok_or_else(|| broken("no HTTP, or cut short".into()))?;
        let body = String::from_utf8(body.to_vec()).map_err(|error| broken(error.to_string()))?;
        match status {
            200 => Ok(body),
            _ => Err(Unfetched::Refused(self.authority.clone(), status, body.trim().chars().take(200).collect())),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.authority.to_socket_addrs()? {
            match connect_to(&address) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask(&self, socket: &mut TcpStream, target: &str) -> io::Result<Vec<u8>> {
        // HTTP/1.0, so that the answer ends with the connection and is never chunked.
        let request = format!("GET {target} HTTP/1.0\r\nHost: {}\r\n\r\n", self.authority);
        socket.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn connect_to(address: &SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(address, CONNECT_WITHIN)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(socket)
}

/// Status and body; nothing if the head is no HTTP or the body shorter than it says.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else { return None };
    let body = answer.get(length..)?;
    let promised = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let promised = promised.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    (promised.unwrap_or(0) <= body.len()).then_some((head.code?, body))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test's peers are bare threads, gone with the test.
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that gives this answer to whatever comes, and then closes.
    fn answering(answer: &'static str) -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut request = [0; 512];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(answer.as_bytes());
        });
        Admin::parse(&address.to_string()).expect("an address")
    }

    #[test]
    fn addresses_are_read_with_and_without_their_trimmings() {
        for (text, authority) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://gateway.example/", "gateway.example:7625"),
            ("[::1]", "[::1]:7625"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(Admin::parse(text).expect(text).authority, authority);
        }
        for text in ["", "https://localhost:1", "localhost:1/tree", "::1", "host:99999", "a b", ":80", "http://"] {
            assert!(matches!(Admin::parse(text), Err(Unfetched::Address(_))), "{text}");
        }
    }

    #[test]
    fn a_good_answer_is_its_body() {
        let admin = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(admin.get("/profile").expect("answered"), "hello");
    }

    #[test]
    fn each_way_to_fail_says_what_to_do() {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let nobody = Admin::parse(&format!("127.0.0.1:{port}")).expect("an address").get("/").expect_err("closed");
        let text = nobody.to_string();
        assert!(
            text.contains("`lakh serve`") && text.contains("--admin") && text.contains(&port.to_string()),
            "{text}"
        );
        for answer in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut short"] {
            let broken = answering(answer).get("/").expect_err(answer);
            assert!(matches!(broken, Unfetched::Broken(..)), "{broken}");
        }
        let refused = answering("HTTP/1.1 503 Busy\r\n\r\nask again\n").get("/").expect_err("refused");
        assert!(matches!(&refused, Unfetched::Refused(_, 503, why) if why == "ask again"), "{refused}");
    }
}
