//! One connection's work: a POST at a time, its answer delivered as it comes, be it JSON or a stream of events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answer::{self, Body};
use super::order::{Common, Order};
use super::wire::Wire;
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
/// Longest body of an answer that nobody waits for, in bytes: behind a longer one the connection is not kept.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// What a lane is given to do.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) kind: JobKind,
    /// What all requests of the session have in common.
    pub(super) common: Arc<Common>,
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
                JobKind::Request { number, .. } => match self.request(&mut wire, &order, kind, &common).await {
                    Ok(last) => {
                        self.deliver(last.map_or(News::Nothing, |text| News::Message(Some(number), text)), true)
                    }
                    Err(trouble) => {
                        wire.hang_up();
                        self.deliver(News::Failed(Some(number), trouble), true)
                    }
                },
                JobKind::OneWay { is_initialized, request } => {
                    let outcome = timeout(ONE_WAY_MAX, self.one_way(&mut wire, &order, &common)).await;
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

    async fn one_way(&self, wire: &mut Wire, order: &Order, common: &Common) -> Result<(), Trouble> {
        let head = wire.ask(order).await?;
        match head.status {
            200..=299 => {
                // Commonly none; what a server says here is for nobody. A stream may stay open for ever.
                let is_stream = answer::judge(&head, false) == Ok(Body::Events);
                let is_over = !is_stream
                    && timeout(AFTER_ANSWER, collect(wire, UNREAD_BYTES_MAX)).await.is_ok_and(|rest| rest.is_ok());
                if !is_over {
                    wire.hang_up();
                }
                Ok(())
            }
            status => match answer::judge(&head, common.is_in_session) {
                Err(trouble) | Ok(Body::Refusal(trouble)) => Err(trouble),
                Ok(_) => Err(Trouble::new(TroubleKind::HttpStatus, "").with_status(status)),
            },
        }
    }

    /// Delivers what comes before the end of the answer, and gives the message that ends it, if that ends it.
    async fn request(
        &self,
        wire: &mut Wire,
        order: &Order,
        kind: JobKind,
        common: &Common,
    ) -> Result<Option<Bytes>, Trouble> {
        let JobKind::Request { is_initialize, .. } = kind else { return Ok(None) };
        let mut head = wire.ask(order).await?;
        let limit = self.endpoint.message_bytes_max;
        let session = head.session.take().filter(|_| is_initialize);
        match answer::judge(&head, common.is_in_session)? {
            Body::Json => {
                self.tell_session(session).await;
                let text = collect(wire, limit).await?;
                let is_message = matches!(text.trim_ascii_start(), [b'{' | b'[', ..]);
                if is_message { Ok(Some(text)) } else { Err(Trouble::new(TroubleKind::Garbage, excerpt(&text))) }
            }
            Body::Refusal(trouble) => {
                let text = collect(wire, limit).await?;
                if answer::is_error(&text) { Ok(Some(text)) } else { Err(trouble.because(excerpt(&text))) }
            }
            Body::Events => {
                self.tell_session(session.clone()).await;
                self.events(wire, kind, common, session).await.map(|()| None)
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
        common: &Common,
        session: Option<HeaderValue>,
    ) -> Result<(), Trouble> {
        let JobKind::Request { number, is_legacy, .. } = kind else { return Ok(()) };
        let mut decoder = Decoder::new(self.endpoint.message_bytes_max);
        let mut resumed = 0;
        loop {
            let heard = self.stream(wire, &mut decoder, number).await;
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
            let resumption = match &session {
                Some(_) => self.resume(wire, &common.with_agreed(session.as_ref(), None), &last).await,
                None => self.resume(wire, common, &last).await,
            };
            if let Err(trouble) = resumption {
                return Err(self.unresumed(trouble).await);
            }
            // What was begun on the old connection is not continued on the new one.
            decoder.restart();
        }
    }

    /// Why a request fails whose stream cannot be taken up again: whatever the server says now, it has begun with it.
    async fn unresumed(&self, trouble: Trouble) -> Trouble {
        let lost = Trouble::new(TroubleKind::Lost, trouble.to_string());
        if trouble.kind == TroubleKind::SessionLost {
            self.deliver(News::Failed(None, trouble), false).await;
        }
        lost
    }

    async fn resume(&self, wire: &mut Wire, common: &Common, last: &HeaderValue) -> Result<(), Trouble> {
        let order = common.listen(wire.target(), Some(last));
        let head = wire.ask(&order).await?;
        match answer::judge(&head, common.is_in_session)? {
            Body::Events => Ok(()),
            Body::Refusal(trouble) => Err(trouble),
            Body::Json => Err(Trouble::new(TroubleKind::NotMcp, "a stream was resumed as something else")),
        }
    }

    /// Delivers events until the stream or its connection ends.
    async fn stream(&self, wire: &mut Wire, decoder: &mut Decoder, number: u64) -> Result<Heard, Trouble> {
        let mut heard =
            Heard { is_answered: false, events: 0, ended: Trouble::new(TroubleKind::Lost, "the stream ended") };
        let mut over_at = None;
        loop {
            let piece = match over_at {
                None => wire.more().await,
                Some(over_at) => timeout_at(over_at, wire.more())
                    .await
                    .unwrap_or_else(|_| Err(Trouble::new(TroubleKind::Lost, "the stream did not end"))),
            };
            let mut rest = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(heard),
                Err(trouble) => {
                    wire.hang_up();
                    heard.ended = trouble;
                    return Ok(heard);
                }
            };
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
            if heard.is_answered && over_at.is_none() {
                over_at = Some(Instant::now() + AFTER_ANSWER);
            }
            // It may never end.
            if decoder.is_too_long() {
                return Err(Trouble::new(TroubleKind::TooLong, ""));
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
async fn collect(wire: &mut Wire, bytes_max: usize) -> Result<Bytes, Trouble> {
    let mut whole = Vec::new();
    while let Some(piece) = wire.more().await? {
        if whole.len() + piece.len() > bytes_max {
            return Err(Trouble::new(TroubleKind::TooLong, ""));
        }
        whole.extend_from_slice(piece);
    }
    Ok(whole.into())
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
