//! One connection's work: a POST at a time, its answer delivered as it comes, be it JSON or a stream of events.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Response};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::answer::{self, Body};
use super::headers::{LAST_EVENT_ID, SESSION, listening};
use super::wire::{Order, Wire};
use super::{Delivery, Endpoint, News};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::sse::{Decoder, Step};

/// How long a notification, or an answer of ours, may take to be accepted.
const ONE_WAY_MAX: Duration = Duration::from_secs(30);
/// How long a response may go on behind the answer that should have ended it, so that its connection can be kept.
const AFTER_ANSWER: Duration = Duration::from_millis(300);
/// How often a broken stream is taken up again without an event in between.
const RESUMED_MAX: u32 = 5;
/// When to take it up again if the server does not say; and the longest that it may say.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// The shortest that it may say: with less, one that closes at once would be asked as fast as it goes.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Room made at once for a body that says how long it is, in bytes: the rest as it comes.
const TRUSTED_BYTES: usize = 64 << 10;

/// What a lane is given to do.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) kind: JobKind,
    /// What all requests of the session have in common.
    pub(super) common: Arc<HeaderMap>,
}

/// What is expected of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JobKind {
    /// An answer. A legacy stream that breaks may be resumed; `initialize` may bring a session.
    Request { number: u64, is_legacy: bool, is_initialize: bool },
    /// That it is accepted. Nothing else is sent before `notifications/initialized` is. The answer to a request of
    /// 2024-11-05 comes elsewhere, unless it is not accepted.
    OneWay { is_initialized: bool, request: Option<u64> },
}

impl Job {
    /// Whether it is a word that nobody answers, nor waits for.
    pub(super) const fn is_word(&self) -> bool {
        matches!(self.kind, JobKind::OneWay { is_initialized: false, request: None })
    }

    /// Whether it ends the handshake.
    pub(super) const fn is_initialized(&self) -> bool {
        matches!(self.kind, JobKind::OneWay { is_initialized: true, .. })
    }
}

/// A lane's end of things.
pub(super) struct Lane {
    pub(super) number: u64,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) news: mpsc::Sender<Delivery>,
}

impl Lane {
    /// Works until there will be no more jobs.
    pub(super) async fn run(self, mut jobs: mpsc::Receiver<Box<Job>>) {
        let mut wire = Wire::new(Arc::clone(&self.endpoint));
        while let Some(job) = wire.idle(jobs.recv()).await {
            let Job { order, kind, common } = *job;
            let done = match kind {
                JobKind::Request { number, .. } => match self.request(&mut wire, order, kind, &common).await {
                    Ok(last) => {
                        self.deliver(last.map_or(News::Nothing, |text| News::Message(Some(number), text)), true)
                    }
                    Err(trouble) => {
                        wire.hang_up();
                        self.deliver(News::Failed(Some(number), trouble), true)
                    }
                },
                JobKind::OneWay { is_initialized, request } => {
                    let outcome = timeout(ONE_WAY_MAX, self.one_way(&mut wire, order, &common)).await;
                    let outcome = outcome.unwrap_or_else(|_| Err(Trouble::new(TroubleKind::Mute, "")));
                    if outcome.is_err() {
                        wire.hang_up();
                    }
                    let what = match (request, outcome) {
                        (Some(_), Err(trouble)) => News::Failed(request, trouble),
                        (_, outcome) => News::Sent { is_initialized, outcome },
                    };
                    self.deliver(what, true)
                }
            };
            if !done.await {
                return;
            }
        }
    }

    /// False when the link is gone.
    async fn deliver(&self, news: News, is_done: bool) -> bool {
        self.news.send(Delivery { lane: self.number, is_done, news }).await.is_ok()
    }

    async fn one_way(&self, wire: &mut Wire, order: Order, common: &HeaderMap) -> Result<(), Trouble> {
        let response = wire.ask(order).await?;
        match response.status().as_u16() {
            200..=299 => {
                // Commonly none; what a server says here is for nobody. A stream may stay open for ever.
                let is_stream = answer::judge(&response, false) == Ok(Body::Events);
                let is_over = !is_stream
                    && timeout(AFTER_ANSWER, collect(wire, response.into_body(), TRUSTED_BYTES))
                        .await
                        .is_ok_and(|rest| rest.is_ok());
                if !is_over {
                    wire.hang_up();
                }
                Ok(())
            }
            status => match answer::judge(&response, common.contains_key(SESSION)) {
                Err(trouble) | Ok(Body::Refusal(trouble)) => Err(trouble),
                Ok(_) => Err(Trouble::new(TroubleKind::HttpStatus, "").with_status(status)),
            },
        }
    }

    /// Delivers what comes before the end of the answer, and gives the message that ends it, if that ends it.
    async fn request(
        &self,
        wire: &mut Wire,
        order: Order,
        kind: JobKind,
        common: &HeaderMap,
    ) -> Result<Option<Bytes>, Trouble> {
        let JobKind::Request { is_initialize, .. } = kind else { return Ok(None) };
        let response = wire.ask(order).await?;
        let limit = self.endpoint.message_bytes_max;
        match answer::judge(&response, common.contains_key(SESSION))? {
            Body::Json => {
                let session = response.headers().get(SESSION).filter(|_| is_initialize).cloned();
                self.tell_session(session).await;
                let text = collect(wire, response.into_body(), limit).await?;
                let is_message = matches!(text.trim_ascii_start(), [b'{' | b'[', ..]);
                if is_message { Ok(Some(text)) } else { Err(Trouble::new(TroubleKind::Garbage, excerpt(&text))) }
            }
            Body::Refusal(trouble) => {
                let text = collect(wire, response.into_body(), limit).await?;
                if answer::is_error(&text) { Ok(Some(text)) } else { Err(trouble.because(excerpt(&text))) }
            }
            Body::Events => {
                let session = response.headers().get(SESSION).filter(|_| is_initialize).cloned();
                self.tell_session(session.clone()).await;
                self.events(wire, kind, common, response, session).await.map(|()| None)
            }
        }
    }

    async fn tell_session(&self, session: Option<HeaderValue>) {
        if let Some(session) = session {
            self.deliver(News::Session(session), false).await;
        }
    }

    /// Delivers the events of an answer, over as many connections as the server likes (spec 2025-11-25
    /// basic/transports#sending-messages-to-the-server).
    async fn events(
        &self,
        wire: &mut Wire,
        kind: JobKind,
        common: &HeaderMap,
        response: Response<Incoming>,
        session: Option<HeaderValue>,
    ) -> Result<(), Trouble> {
        let JobKind::Request { number, is_legacy, .. } = kind else { return Ok(()) };
        let mut decoder = Decoder::new(self.endpoint.message_bytes_max);
        let (mut response, mut resumed) = (response, 0);
        loop {
            let heard = self.stream(wire, response, &mut decoder, number).await;
            let ended = match heard {
                Ok(Heard { is_answered: true, .. }) => return Ok(()),
                Ok(Heard { events, ended, .. }) => {
                    resumed = if events > 0 { 0 } else { resumed };
                    ended
                }
                Err(trouble) => return Err(trouble),
            };
            let last = decoder.last_id().filter(|_| is_legacy).and_then(|id| HeaderValue::from_bytes(id).ok());
            let Some(last) = last.filter(|_| resumed < RESUMED_MAX) else { return Err(ended) };
            resumed += 1;
            sleep(retry(decoder.retry_ms(), RETRY)).await;
            let mut headers = common.clone();
            if let Some(session) = &session {
                headers.insert(SESSION, session.clone());
            }
            response = self.resume(wire, headers, last).await?;
            // What was begun on the old connection is not continued on the new one.
            decoder.restart();
        }
    }

    async fn resume(
        &self,
        wire: &mut Wire,
        headers: HeaderMap,
        last: HeaderValue,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut headers = listening(headers);
        headers.insert(LAST_EVENT_ID, last);
        let in_session = headers.contains_key(SESSION);
        let target = wire.target();
        let order = Order { verb: Method::GET, target, headers, body: Bytes::new(), is_repeatable: true };
        let response = wire.ask(order).await?;
        match answer::judge(&response, in_session)? {
            Body::Events => Ok(response),
            Body::Refusal(trouble) => Err(trouble),
            Body::Json => Err(Trouble::new(TroubleKind::NotMcp, "a stream was resumed as something else")),
        }
    }

    /// Delivers events until the stream or its connection ends.
    async fn stream(
        &self,
        wire: &mut Wire,
        response: Response<Incoming>,
        decoder: &mut Decoder,
        number: u64,
    ) -> Result<Heard, Trouble> {
        let mut body = response.into_body();
        let mut heard =
            Heard { is_answered: false, events: 0, ended: Trouble::new(TroubleKind::Lost, "the stream ended") };
        loop {
            let piece = if heard.is_answered {
                timeout(AFTER_ANSWER, wire.more(&mut body))
                    .await
                    .unwrap_or_else(|_| Err(Trouble::new(TroubleKind::Lost, "the stream did not end")))
            } else {
                wire.more(&mut body).await
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(heard),
                Err(trouble) => {
                    wire.hang_up();
                    heard.ended = trouble;
                    return Ok(heard);
                }
            };
            let mut rest = &*piece;
            loop {
                match decoder.decode(&mut rest) {
                    Step::More => break,
                    Step::TooLong => return Err(Trouble::new(TroubleKind::TooLong, "")),
                    Step::Event(event) if event.name == b"message" && !event.data.is_empty() => {
                        heard.events += 1;
                        heard.is_answered |= answer::is_answer(event.data);
                        let text = Bytes::copy_from_slice(event.data);
                        if !self.deliver(News::Message(Some(number), text), false).await {
                            return Err(heard.ended);
                        }
                    }
                    Step::Event(_) => {}
                }
            }
        }
    }
}

/// What a stream has brought.
struct Heard {
    is_answered: bool,
    events: u64,
    /// How it ended.
    ended: Trouble,
}

/// When to take a stream up again: as its server says, within reason, or else after `otherwise`.
pub(super) fn retry(said_ms: Option<u64>, otherwise: Duration) -> Duration {
    said_ms.map_or(otherwise, Duration::from_millis).clamp(RETRY_MIN, RETRY_MAX)
}

/// A whole body of at most `bytes_max` bytes.
pub(super) async fn collect(wire: &mut Wire, mut body: Incoming, bytes_max: usize) -> Result<Bytes, Trouble> {
    use hyper::body::Body as _;
    let too_long = || Trouble::new(TroubleKind::TooLong, "");
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_long());
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let Some(first) = wire.more(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > bytes_max {
        return Err(too_long());
    }
    // Commonly all of it, and not copied then.
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = wire.more(&mut body).await? else { return Ok(first) };
    let mut all = BytesMut::with_capacity((announced as usize).min(TRUSTED_BYTES).max(first.len() + second.len()));
    all.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(piece) = next {
        if all.len() + piece.len() > bytes_max {
            return Err(too_long());
        }
        all.extend_from_slice(&piece);
        next = wire.more(&mut body).await?;
    }
    Ok(all.freeze())
}

/// The first words of something that is no message.
fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(128)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_chooses_its_pause_within_reason() {
        assert_eq!(retry(None, RETRY), RETRY);
        assert_eq!(retry(Some(500), RETRY), Duration::from_millis(500));
        assert_eq!((retry(Some(0), RETRY), retry(Some(u64::MAX), RETRY)), (RETRY_MIN, RETRY_MAX));
    }
}
