//! HTTP+SSE of 2024-11-05: all answers come on one GET stream, whose first event names where messages are posted to.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Uri;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::{self, Body};
use super::order::Common;
use super::standing::NO_LANE;
use super::wire::Wire;
use super::{Delivery, Endpoint, News};
use crate::upstream::link::address::origin_form;
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::sse::{Decoder, Step};

/// Whether a server that refuses `initialize` so may be of that time (spec 2026-07-28
/// basic/transports/streamable-http#http-sse-transport-2024-11-05).
pub(super) fn may_be(refusal: &Trouble) -> bool {
    refusal.kind == TroubleKind::HttpStatus && matches!(refusal.status, Some(400 | 404 | 405))
}

/// Opens the stream and delivers what comes on it, the endpoint first; without one, `initialize` has failed by `refusal`.
pub(super) async fn listen(
    endpoint: Arc<Endpoint>,
    common: Common,
    initialize: u64,
    refusal: Trouble,
    news: mpsc::Sender<Delivery>,
) {
    let last = match hear_out(&endpoint, &common, &news).await {
        Some(ended) => News::Over(ended),
        // Not of that time either: what it said first counts.
        None => News::Failed(Some(initialize), refusal),
    };
    tell(&news, last).await;
}

/// How the stream ended; none if it has named no endpoint.
async fn hear_out(endpoint: &Arc<Endpoint>, common: &Common, news: &mpsc::Sender<Delivery>) -> Option<Trouble> {
    let mut wire = Wire::new(Arc::clone(endpoint));
    let order = common.listen(wire.target(), None);
    // As long as a connection may take, the endpoint may.
    let head = timeout(endpoint.connect, wire.ask(&order)).await.ok()?.ok()?;
    if answer::judge(&head, false) != Ok(Body::Events) {
        return None;
    }
    let mut decoder = Decoder::new(endpoint.message_bytes_max);
    let mut is_named = false;
    loop {
        let piece = if is_named { wire.more().await } else { timeout(endpoint.connect, wire.more()).await.ok()? };
        let Ok(Some(mut rest)) = piece else {
            return is_named.then(|| Trouble::new(TroubleKind::Lost, "the event stream ended"));
        };
        loop {
            let what = match decoder.decode(&mut rest) {
                Step::More => break,
                Step::Event(event) if is_named && event.name == b"message" => {
                    News::Message(None, Bytes::copy_from_slice(event.data))
                }
                Step::Event(event) if !is_named && event.name == b"endpoint" => {
                    is_named = true;
                    News::FormerEndpoint(resolve(endpoint, event.data)?)
                }
                Step::TooLong | Step::Event(_) => continue,
            };
            if !tell(news, what).await {
                return None;
            }
        }
    }
}

/// False when the link is gone.
async fn tell(news: &mpsc::Sender<Delivery>, what: News) -> bool {
    news.send(Delivery { lane: NO_LANE, is_done: false, news: what }).await.is_ok()
}

/// The path that an endpoint event names, on the same server: our headers are for nobody else.
fn resolve(endpoint: &Endpoint, data: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(data).ok()?.trim();
    let uri: Uri = match text.split_once("://") {
        _ if text.starts_with("//") => return None,
        _ if text.starts_with('/') => text.parse().ok()?,
        Some((scheme, _)) => {
            let uri: Uri = text.parse().ok()?;
            let is_same = scheme == endpoint.address.scheme && uri.authority()?.as_str() == endpoint.address.host;
            if !is_same {
                return None;
            }
            uri
        }
        None => {
            let path = endpoint.target.split('?').next()?;
            let (folder, _) = path.rsplit_once('/')?;
            let is_query = text.starts_with('?');
            if is_query { format!("{path}{text}") } else { format!("{folder}/{text}") }.parse().ok()?
        }
    };
    Some(origin_form(&uri).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Address;
    use super::*;

    #[test]
    fn an_endpoint_is_on_the_same_server_or_none() {
        let address = Address::parse("http://127.0.0.1:9/a/sse", ["http", "https"], None).unwrap();
        let target = address.target.as_str().into();
        let endpoint = Endpoint { address, target, connect: Duration::ZERO, message_bytes_max: 1 };
        for (data, resolved) in [
            ("/messages?id=1", Some("/messages?id=1")),
            ("messages?id=1", Some("/a/messages?id=1")),
            ("?id=1", Some("/a/sse?id=1")),
            ("http://127.0.0.1:9/m", Some("/m")),
            ("http://127.0.0.1:10/m", None),
            ("https://127.0.0.1:9/m", None),
            ("//elsewhere/m", None),
            ("http://elsewhere/m", None),
        ] {
            assert_eq!(resolve(&endpoint, data.as_bytes()).as_deref(), resolved, "{data}");
        }
    }
}
