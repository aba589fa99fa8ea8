//! The webhook: posts what people are to be told, one after another, each until it is taken or given up.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::admin::Fullness;
use crate::config::Config;
use crate::meter::Named;
use crate::monitor::capacity::{News, Next, Posting, Tries};
use crate::upstream::life::jittered;
use crate::upstream::link::Destination;

/// News that may wait: as many as a house in every trouble at once makes. What comes beyond is in the log only.
const WAITING_MAX: usize = 64;
/// How long a receiver may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Where news are posted, and those that wait for it.
pub(super) struct Webhook {
    destination: Destination,
    tries: u32,
    sender: Sender<News>,
    /// Locked by the one who delivers, for as long as that lives.
    waiting: Mutex<Receiver<News>>,
    gateway: Gateway,
    fullness: Arc<Fullness>,
}

/// Whose news they are: a receiver may have many gateways.
#[derive(Serialize)]
struct Gateway {
    host: String,
    listen: String,
    version: &'static str,
}

/// What is posted.
#[derive(Serialize)]
struct Post<'p> {
    gateway: &'p Gateway,
    #[serde(flatten)]
    news: &'p News,
}

impl Webhook {
    pub(super) fn new(destination: Destination, config: &Config, fullness: &Arc<Fullness>) -> Self {
        let (sender, receiver) = channel(WAITING_MAX);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            destination,
            tries: config.alarms.webhook_tries,
            sender,
            waiting: Mutex::new(receiver),
            gateway: Gateway {
                host: host.trim().to_owned(),
                listen: config.listen.to_string(),
                version: env!("CARGO_PKG_VERSION"),
            },
            fullness: Arc::clone(fullness),
        }
    }

    /// Lets news wait for their turn; never blocks.
    pub(super) fn tell(&self, news: News) {
        if self.sender.try_send(news).is_err() {
            self.fullness.postings.add(Posting::Dropped);
        }
    }

    /// Delivers for as long as it is polled.
    pub(super) async fn deliver(&self) {
        let mut waiting = self.waiting.lock().await;
        while let Some(news) = waiting.recv().await {
            let post = serde_json::to_vec(&Post { gateway: &self.gateway, news: &news });
            self.post(post.unwrap_or_default().into()).await;
        }
    }

    async fn post(&self, body: bytes::Bytes) {
        let host = self.destination.host();
        let mut tries = Tries::new(self.tries);
        loop {
            let answer = self.destination.post(body.clone(), ANSWER_MAX).await;
            let next = tries.tried(answer.as_ref().ok().copied());
            let why = answer.map_or_else(|why| why, |status| format!("it answered {status}"));
            match next {
                Next::Again(pause) => {
                    self.fullness.postings.add(Posting::Retried);
                    tracing::debug!(host, why, "the webhook failed; it is tried again");
                    tokio::time::sleep(jittered(pause)).await;
                }
                Next::End(end) => {
                    self.fullness.postings.add(end);
                    if end != Posting::Taken {
                        tracing::warn!(host, why, outcome = end.name(), "an alarm was not delivered to the webhook");
                    }
                    return;
                }
            }
        }
    }
}
