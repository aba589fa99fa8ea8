//! Where errands go while a link is served, opened or awaited: past the gate to the sessions of single clients, or back.

use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::front::{Gate, is_queued};
use super::handle::{Errand, Upstream};
use super::sessions::Sessions;
use super::trouble::{Trouble, TroubleKind};
use super::turn::Turns;

/// When who is refused while it is connected to may come again.
const SOON: Duration = Duration::from_secs(1);

/// Takes an errand to the session that it belongs to, past the gate; gives back what is for the shared link.
pub(super) fn route(sessions: &mut Option<Sessions>, gate: &mut Gate, errand: Errand, now: Instant) -> Option<Errand> {
    match (sessions, errand) {
        (Some(sessions), errand) => sessions.route_past(gate, errand, now),
        (None, Errand::Cancel { slot }) if is_queued(slot) => {
            gate.cancel(slot);
            None
        }
        (None, errand) => Some(errand),
    }
}

/// Sends what has waited at the gate to the sessions that it belongs to, and refuses what has waited for too long; when
/// there will be more, though nothing happens.
pub(super) fn release(sessions: &mut Option<Sessions>, gate: &mut Gate, now: Instant) -> Option<Instant> {
    let Some(sessions) = sessions else {
        // What is for the shared link is sent where that is.
        gate.lapse(now);
        return gate.lapses();
    };
    sessions.release(gate, now);
    gate.due()
}

/// Waits until then, if ever. Cancel-safe.
pub(super) async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// Waits for sessions to end. Cancel-safe.
pub(super) async fn ended(sessions: &mut Option<Sessions>) {
    match sessions {
        Some(sessions) => sessions.ended().await,
        None => pending().await,
    }
}

/// While the shared link is opened: sessions of single clients go on; other calls are refused once `hold` is over; what is
/// watched is put `aside`.
pub(super) async fn attend(
    upstream: &Upstream,
    sessions: &mut Option<Sessions>,
    gate: &mut Gate,
    hold: Duration,
    aside: &mut Vec<Errand>,
) -> Infallible {
    // Where there are sessions, no call is for the shared link.
    let held = Instant::now() + hold;
    while sessions.is_none() && Instant::now() < held {
        let due = release(sessions, gate, Instant::now());
        sleep_until(due.map_or(held, |due| due.min(held)).into()).await;
    }
    let trouble = Trouble::new(TroubleKind::Refused, "it is being connected to").unsent();
    let mut turns = Turns::default();
    loop {
        upstream.door().quiet();
        let mut now = Instant::now();
        while let Some(errand) = upstream.door().collect() {
            match route(sessions, gate, errand, now) {
                Some(errand @ Errand::Call(_)) => refuse(upstream, errand, &trouble, Some(SOON)),
                // Counted all the same: its client takes it back.
                Some(Errand::Watch { uri, task: Some((ticket, _)), client }) => {
                    upstream.refuse(ticket, &trouble, Some(SOON));
                    aside.push(Errand::Watch { uri, task: None, client });
                }
                Some(errand @ (Errand::Watch { .. } | Errand::Unwatch { .. })) => aside.push(errand),
                // About what the last link has taken along, or told the next one anyway.
                Some(_) | None => {}
            }
            if turns.pass().await {
                upstream.ring();
                now = Instant::now();
                break;
            }
        }
        let due = release(sessions, gate, now);
        tokio::select! {
            () = upstream.door().rung() => {}
            () = at(due) => {}
            () = ended(sessions) => {}
        }
    }
}

/// Tells whoever waits for an errand that it is not run.
pub(super) fn refuse(upstream: &Upstream, errand: Errand, trouble: &Trouble, down_for: Option<Duration>) {
    match errand {
        Errand::Call(task) => upstream.turn_down(task, trouble, down_for),
        Errand::Watch { task: Some((ticket, _)), .. } => upstream.refuse(ticket, trouble, down_for),
        _ => {}
    }
}
