//! How talkative a legacy server is told to be: as much as clients want for good, and for a while more where a call does.

use std::time::{Duration, Instant};

use super::listen::OWN_WAIT;
use super::{Mux, Own, Sink};
use crate::mcp::{Era, Features, Level, Parcel};

/// How long the voice stays raised behind the last call that wanted so much: calls come one after another, and each would
/// be a word to raise it and one to lower it.
const CALM: Duration = Duration::from_secs(10);

/// What the server was told, and why.
#[derive(Default)]
pub(super) struct Voice {
    /// What legacy clients want for good, if any has said.
    wished: Option<Level>,
    /// What calls of modern clients want besides, and until when that is not reconsidered.
    raised: Option<(Level, Instant)>,
    /// What the server was told last, and whether it has not answered that yet.
    told: Option<Level>,
    is_telling: bool,
}

impl Voice {
    pub(super) const fn is_raised(&self) -> bool {
        self.raised.is_some()
    }

    /// The server has answered, whatever it has.
    pub(super) const fn heard(&mut self) {
        self.is_telling = false;
    }
}

impl Mux {
    /// The least level that any client wants for good: a modern server is told with each request.
    pub(in crate::upstream) fn set_level(&mut self, level: Level, now: Instant, sink: &mut impl Sink) {
        if self.is_told_before() {
            self.voice.wished = Some(level);
            self.settle_level(now, sink);
        }
    }

    /// A modern client says with each request how much it wants to hear; a legacy server is told before. What is too much
    /// for others is left out on the way to them.
    pub(super) fn raise_voice(&mut self, number: u64, now: Instant, sink: &mut impl Sink) {
        let wanted = self.pending.get(number).and_then(|pending| wanted(pending.parcel()?));
        let Some(wanted) = wanted.filter(|_| self.is_told_before()) else { return };
        if self.voice.raised.is_none_or(|(level, _)| wanted <= level) {
            self.voice.raised = Some((wanted, now + CALM));
            self.settle_level(now, sink);
        }
    }

    /// Some time after the last call that wanted more, the voice falls to what calls in flight and clients still want.
    pub(super) fn calm_down(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.voice.raised.is_some_and(|(_, until)| until <= now) {
            let wanted = self.pending.iter().filter_map(|(_, pending)| wanted(pending.parcel()?)).min();
            self.voice.raised = wanted.map(|level| (level, now + CALM));
            self.settle_level(now, sink);
        }
    }

    /// The next server has been told nothing.
    pub(super) fn hush(&mut self) {
        (self.voice, self.level) = (Voice::default(), None);
    }

    fn is_told_before(&self) -> bool {
        self.terms.revision.era() == Era::Legacy && self.terms.features.has(Features::LOGGING)
    }

    fn settle_level(&mut self, now: Instant, sink: &mut impl Sink) {
        let for_good = self.voice.wished.unwrap_or(Level::UNSAID);
        self.level = Some(self.voice.raised.map_or(for_good, |(level, _)| level.min(for_good)));
        self.tell_level(now, sink);
    }

    /// One word at a time: of those that came while the server was told one, it is told the last.
    pub(super) fn tell_level(&mut self, now: Instant, sink: &mut impl Sink) {
        if let Some(level) = self.level.filter(|_| !self.voice.is_telling && self.level != self.voice.told) {
            self.voice.told = Some(level);
            let params = format!("\"level\":\"{}\"", level.as_str());
            self.voice.is_telling = self.ask(Own::SetLevel, "logging/setLevel", &params, OWN_WAIT, now, sink).is_some();
        }
    }
}

/// The level that a modern client wants for this call.
fn wanted(parcel: &Parcel) -> Option<Level> {
    parcel.level.filter(|_| parcel.revision.era() == Era::Modern)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mcp::Revision;
    use crate::upstream::handle::{Client, Errand};
    use crate::upstream::mux::stage::{Stage, parcel};

    const LEGACY: Revision = Revision::V2025_11_25;

    #[test]
    fn levels_that_come_while_the_server_is_told_one_are_told_as_the_last() {
        let mut stage = Stage::new(LEGACY);
        for level in [Level::Debug, Level::Emergency, Level::Debug, Level::Error] {
            stage.errand(Errand::Level(level));
        }
        assert_eq!((stage.sent.texts.len(), &stage.last()["params"]["level"]), (1, &json!("debug")));
        stage.answers(stage.number(), "{}");
        assert_eq!((stage.sent.texts.len(), &stage.last()["params"]["level"]), (2, &json!("error")));
        stage.answers(stage.number(), "{}");
        assert_eq!(stage.sent.texts.len(), 2);
    }

    #[test]
    fn the_voice_falls_a_while_after_the_last_call_that_wanted_more_and_not_before() {
        let mut stage = Stage::new(LEGACY);
        let levels = |stage: &mut Stage| -> Vec<Value> {
            let told = stage.sent.texts.iter().filter(|text| text["method"] == "logging/setLevel");
            let told: Vec<(u64, Value)> =
                told.map(|text| (text["id"].as_u64().unwrap(), text["params"]["level"].clone())).collect();
            told.iter().for_each(|(number, _)| stage.answers(*number, "{}"));
            told.into_iter().map(|(_, level)| level).collect()
        };
        let wants = |level| Parcel { level: Some(level), ..parcel(Revision::V2026_07_28) };
        stage.errand(Errand::Level(Level::Error));
        assert_eq!(levels(&mut stage), ["error"]);
        let long = stage.call(wants(Level::Debug), Client::default());
        let number = stage.number();
        for _ in 0..20 {
            let short = stage.call(wants(Level::Warning), Client::default());
            stage.answers(stage.number(), "{}");
            stage.answer(short.call).unwrap();
            stage.passes(Duration::from_secs(1));
        }
        assert_eq!(levels(&mut stage), ["error", "debug"], "one that wants so much is in flight");
        stage.answers(number, "{}");
        stage.answer(long.call).unwrap();
        for _ in 0..30 {
            stage.passes(Duration::from_secs(1));
        }
        assert_eq!(levels(&mut stage), ["error", "debug", "error"]);
        assert!(stage.mux.deadline().is_none(), "nothing is raised any more");
    }
}
