//! Asks all shards for their largest and busiest connections, and does not wait for one that hangs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::actor::{Inbox, Mail, Order, Resident};
use crate::meter::ShardMeter;

/// How long a healthy shard may need to come round and to look through 100,000 connections.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(2);

/// The questions that are out, at most one for each shard: whoever asks often must not fill the inbox of a shard that
/// hangs.
#[derive(Default)]
pub(super) struct Census {
    asked: Mutex<Vec<Option<Receiver<Vec<Resident>>>>>,
}

/// Who is large and who is busy.
#[derive(Serialize)]
pub(super) struct Standing {
    /// Connections open, by the shards' own gauges.
    open: u64,
    /// Those that take the most memory, the largest first.
    largest: Vec<Listed>,
    /// Those that sent the most messages, the busiest first.
    busiest: Vec<Listed>,
    /// Shards that did not answer in time.
    silent_shards: Vec<usize>,
}

#[derive(Clone, Serialize)]
struct Listed {
    #[serde(flatten)]
    resident: Resident,
    bytes_total: usize,
}

impl Census {
    /// Who is large and who is busy, `most` of each.
    pub(super) async fn take(&self, berths: &[(Arc<ShardMeter>, Arc<Inbox>)], most: usize) -> Standing {
        let mut asked = self.asked.lock().await;
        asked.resize_with(berths.len(), || None);
        for (question, (_, inbox)) in asked.iter_mut().zip(berths) {
            ask(question, inbox, most);
        }
        let until = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        let mut done = vec![false; berths.len()];
        loop {
            for (question, done) in asked.iter_mut().zip(&mut done) {
                if let Some(answer) = answered(question) {
                    *done = answer.is_some();
                    answers.extend(answer.into_iter().flatten());
                }
            }
            if asked.iter().all(Option::is_none) || Instant::now() >= until {
                break;
            }
            sleep(PAUSE).await;
        }
        let silent_shards = (0..done.len()).filter(|&shard| !done[shard]).collect();
        Standing::new(berths, answers, most, silent_shards)
    }
}

/// Asks, unless an earlier question still waits; an answer to that one came too late for who asked, and is thrown away.
fn ask(question: &mut Option<Receiver<Vec<Resident>>>, inbox: &Inbox, most: usize) {
    answered(question);
    if question.is_none() {
        let (reply, answer) = sync_channel(1);
        inbox.post(Mail::Order(Order::Census { most, reply }));
        *question = Some(answer);
    }
}

/// `Some(None)` if the shard died over the question. Either way the question is out no more.
fn answered(question: &mut Option<Receiver<Vec<Resident>>>) -> Option<Option<Vec<Resident>>> {
    let answer = match question.as_ref()?.try_recv() {
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Disconnected) => None,
        Ok(residents) => Some(residents),
    };
    *question = None;
    Some(answer)
}

impl Standing {
    fn new(
        berths: &[(Arc<ShardMeter>, Arc<Inbox>)],
        residents: Vec<Resident>,
        most: usize,
        silent_shards: Vec<usize>,
    ) -> Self {
        let mut largest: Vec<Listed> =
            residents.into_iter().map(|resident| Listed { bytes_total: resident.bytes.total(), resident }).collect();
        let mut busiest = largest.clone();
        largest.sort_by_key(|listed| std::cmp::Reverse(listed.bytes_total));
        busiest.sort_by_key(|listed| std::cmp::Reverse(listed.resident.messages_in));
        largest.truncate(most);
        busiest.truncate(most);
        let open = berths.iter().map(|(meter, _)| meter.open.get()).sum();
        Self { open, largest, busiest, silent_shards }
    }
}
