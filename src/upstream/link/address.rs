//! Where a server is on the network: a URL taken apart, and the connection to it, with TLS where the URL asks for it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// A URL of an upstream.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) scheme: String,
    /// `host:port`, to connect to.
    peer: String,
    /// For `Host`: the port only if it is not the scheme's own.
    pub(super) host: String,
    /// Path and query.
    pub(super) target: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Address {
    /// `plain` and `secure` are the schemes: `http` and `https`, or `ws` and `wss`. `ca_file` names the authorities that
    /// are trusted, if not those of the host.
    pub(super) fn parse(url: &str, [plain, secure]: [&str; 2], ca_file: Option<&Path>) -> Result<Self, Trouble> {
        let wrong = |why: &str| Trouble::new(TroubleKind::Refused, format!("{url}: {why}")).unsent();
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let is_secure = match uri.scheme_str() {
            Some(scheme) if scheme == plain => false,
            Some(scheme) if scheme == secure => true,
            _ => return Err(wrong(&format!("must begin with {plain}:// or {secure}://"))),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("has credentials in it; put them into a header"));
        }
        let usual = if is_secure { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(usual);
        let name = authority.host();
        let host = if port == usual { name.to_owned() } else { format!("{name}:{port}") };
        let tls = if is_secure {
            let bare = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(bare).map_err(|_| wrong("has a host that no certificate can name"))?;
            Some((tls::config(ca_file)?, name))
        } else {
            None
        };
        let target = origin_form(&uri);
        let scheme = if is_secure { secure } else { plain }.to_owned();
        Ok(Self { scheme, peer: format!("{name}:{port}"), host, target, tls })
    }

    pub(super) async fn connect(&self) -> Result<Stream, Trouble> {
        let socket = connect(&self.peer).await?;
        Ok(match &self.tls {
            None => Stream::Plain(socket),
            Some((config, name)) => {
                let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), socket).await;
                Stream::Tls(Box::new(tls.map_err(|error| tls::refused(&self.peer, &error))?))
            }
        })
    }
}

/// What of a URL stands in the first line of a request (RFC 9112, section 3.2.1): its path, `/` at least, and its query.
pub(super) fn origin_form(uri: &Uri) -> String {
    match uri.path_and_query().map_or("", |target| target.as_str()) {
        target if target.starts_with('/') => target.to_owned(),
        query => format!("/{query}"),
    }
}

/// A TCP connection that sends small messages at once.
pub(super) async fn connect(address: &str) -> Result<TcpStream, Trouble> {
    let refused = |error: io::Error| Trouble::new(TroubleKind::Refused, format!("{address}: {error}")).unsent();
    let socket = TcpStream::connect(address).await.map_err(refused)?;
    socket.set_nodelay(true).map_err(refused)?;
    Ok(socket)
}

/// An open connection, with TLS or without.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Result<(String, String, String), String> {
        let address = Address::parse(url, ["http", "https"], None).map_err(|trouble| trouble.detail)?;
        Ok((address.peer, address.host, address.target))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let of = |peer: &str, host: &str, target: &str| Ok((peer.into(), host.into(), target.into()));
        assert_eq!(parts("http://127.0.0.1:80"), of("127.0.0.1:80", "127.0.0.1", "/"));
        assert_eq!(parts("http://x?a=b"), of("x:80", "x", "/?a=b"));
        assert_eq!(parts("http://[::1]:8000/mcp?a=b"), of("[::1]:8000", "[::1]:8000", "/mcp?a=b"));
    }

    #[test]
    fn a_url_that_cannot_be_served_says_why() {
        assert!(parts("ftp://x/").unwrap_err().contains("must begin with http:// or https://"));
        assert!(parts("http://me:secret@x/").unwrap_err().contains("put them into a header"));
        assert!(parts("nonsense").is_err());
    }
}
