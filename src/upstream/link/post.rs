//! A POST to a URL, on a connection of its own: for what is sent seldom, such as alarms.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::address::Address;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// Where posts go. Its path may hold a secret: it is never shown.
pub struct Destination {
    address: Address,
    target: Uri,
}

impl Destination {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn parse(url: &str) -> Result<Self, String> {
        // What is wrong follows the URL; of a long one there may be a part only, and nothing else.
        let wrong = |trouble: Trouble| match trouble.detail.strip_prefix(url) {
            Some(what) => what.trim_start_matches(": ").to_owned(),
            None if trouble.kind == TroubleKind::Untrusted => trouble.detail,
            None => "is no URL that can be posted to".to_owned(),
        };
        let address = Address::parse(url, ["http", "https"], None).map_err(wrong)?;
        let target = address.target.parse().map_err(|_| "has a path that is none".to_owned())?;
        Ok(Self { address, target })
    }

    /// The host, and its port where that is not the usual one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.address.host
    }

    /// Posts a JSON text, and waits for the status of the answer; the rest of it is not read.
    ///
    /// # Errors
    /// When there was none in this time, or no connection.
    pub async fn post(&self, body: Bytes, within: Duration) -> Result<u16, String> {
        let posting = async {
            let stream = self.address.connect().await.map_err(|trouble| trouble.detail.to_string())?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(self.target.clone())
                .header(HOST, self.host())
                .header(CONTENT_TYPE, "application/json")
                .header(USER_AGENT, concat!("lakh/", env!("CARGO_PKG_VERSION")))
                .body(Full::new(body))
                .map_err(|error| error.to_string())?;
            let mut answer = pin!(sender.send_request(request));
            let answer = tokio::select! {
                answer = &mut answer => answer,
                // It may have brought the answer before it ended.
                _ = connection => answer.await,
            };
            answer.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
        };
        timeout(within, posting).await.unwrap_or_else(|_| Err(format!("no answer within {within:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_it() {
        let long = format!("ftp://hooks.example/secret{}", "x".repeat(500));
        for url in ["ftp://hooks.example/secret", "https://me:secret@hooks.example/", "secret", "\tsecret", &long] {
            let why = Destination::parse(url).err().expect("no place to post to");
            assert!(!why.contains("secret") && !why.is_empty(), "{why}");
        }
        let place = Destination::parse("http://hooks.example:8080/services/secret?token=secret").expect("a URL");
        assert_eq!(place.host(), "hooks.example:8080");
    }
}
