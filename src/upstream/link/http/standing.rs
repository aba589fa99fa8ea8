//! The standing GET of a legacy session: what the server says unasked, taken up again whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::answer::{self, Body};
use super::lane::{RETRY, retry};
use super::order::Common;
use super::wire::Wire;
use super::{Delivery, Endpoint, News};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::sse::{Decoder, Step};

/// Longest wait between two tries, where the server asks for none.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Not a lane: nothing is ever given to it.
pub(super) const NO_LANE: u64 = u64::MAX;

/// Why a stream is over.
enum Over {
    /// The connection broke, or the server closed it: both may be, at any time.
    Broken,
    /// The server offers none, or there is nobody left to tell.
    Unwanted,
    /// Without our session nothing else works either.
    Fatal(Trouble),
}

/// Listens until the server says that it offers no such stream (405), or the session is lost.
pub(super) async fn listen(endpoint: Arc<Endpoint>, common: Arc<Common>, news: mpsc::Sender<Delivery>) {
    let mut last: Option<HeaderValue> = None;
    let mut wire = Wire::new(Arc::clone(&endpoint));
    let mut decoder = Decoder::new(endpoint.message_bytes_max);
    let mut backoff = RETRY;
    loop {
        let mut has_heard = false;
        match once(&mut wire, &common, last.as_ref(), &mut decoder, &news, &mut has_heard).await {
            Over::Unwanted => return,
            Over::Fatal(trouble) => {
                let _ = news.send(Delivery { lane: NO_LANE, is_done: false, news: News::Failed(None, trouble) }).await;
                return;
            }
            Over::Broken => {}
        }
        wire.hang_up();
        decoder.restart();
        last = decoder.last_id().and_then(|id| id.try_into().ok()).or(last);
        backoff = if has_heard { RETRY } else { (backoff * 2).min(BACKOFF_MAX) };
        let said = retry(decoder.retry_ms(), backoff);
        // Who says nothing is not asked more and more often, whatever pause it has named.
        sleep(if has_heard { said } else { said.max(backoff) }).await;
    }
}

async fn once(
    wire: &mut Wire,
    common: &Common,
    last: Option<&HeaderValue>,
    decoder: &mut Decoder,
    news: &mpsc::Sender<Delivery>,
    has_heard: &mut bool,
) -> Over {
    let order = common.listen(wire.target(), last);
    let Ok(head) = wire.ask(&order).await else { return Over::Broken };
    match answer::judge(&head, common.is_in_session) {
        Ok(Body::Events) => {}
        Err(trouble) if trouble.kind == TroubleKind::SessionLost => return Over::Fatal(trouble),
        Err(trouble) if trouble.kind == TroubleKind::Overloaded => return Over::Broken,
        Err(Trouble { status: Some(500..), .. }) | Ok(Body::Refusal(Trouble { status: Some(500..), .. })) => {
            return Over::Broken;
        }
        _ => return Over::Unwanted,
    }
    while let Ok(Some(mut rest)) = wire.more().await {
        loop {
            match decoder.decode(&mut rest) {
                Step::More => break,
                // Whose it was cannot be told; nobody waits for it.
                Step::TooLong => {}
                Step::Event(event) if event.name == b"message" && !event.data.is_empty() => {
                    *has_heard = true;
                    let news_of = News::Message(None, Bytes::copy_from_slice(event.data));
                    if news.send(Delivery { lane: NO_LANE, is_done: false, news: news_of }).await.is_err() {
                        return Over::Unwanted;
                    }
                }
                // Most likely just an id to go on from: it polls, and its pause is meant.
                Step::Event(_) => *has_heard = true,
            }
        }
    }
    Over::Broken
}
