//! Runs the embedded server's tools: four answer at once, straight into the caller's buffer, and one takes its time.

use std::sync::Arc;
use std::time::Duration;

use crate::mcp::catalogue::Part;
use crate::mcp::{Call, Catalogue, CatalogueConfig, Fault, Offer, Refusal, Revision, answer};
use crate::upstream::embedded::arguments::{self, Number, Wrong};
use crate::upstream::embedded::definitions::{self, Config};
use crate::wire::json;

/// The embedded server: pure but for what `stats` reads; share it by `Arc`.
pub struct Tools {
    config: Config,
    offer: Offer,
    catalogue: Arc<Catalogue>,
    stats: Box<dyn Fn() -> String + Send + Sync>,
}

/// What became of a call.
#[derive(Debug)]
pub enum Run {
    /// It is done; what was asked for is in the buffer.
    Done,
    /// It is done when this time is over; the buffer is untouched.
    Later(Sleep),
    /// It is refused.
    Refused(Refusal<'static>),
}

impl Tools {
    /// The embedded server. `stats` gives the text of one JSON object, without line breaks, whenever somebody asks.
    #[must_use]
    pub fn new(config: Config, stats: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let offer = definitions::offer(&config);
        let alone = Part { name: definitions::UPSTREAM, offer: &offer };
        let catalogue = Catalogue::new(&[alone], &CatalogueConfig::default());
        Self { config, offer, catalogue: Arc::new(catalogue), stats: Box::new(stats) }
    }

    /// What this server offers.
    #[must_use]
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The same, rendered.
    #[must_use]
    pub const fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Runs a call and appends the whole JSON-RPC response, also of a refusal; only [`Run::Later`] leaves it to the caller.
    pub fn answer(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Run {
        let from = out.len();
        answer::open_result(out, call.id);
        let run = self.run_into(call.target.name(), call.arguments, call.revision, out);
        match &run {
            Run::Done => answer::close_result(out),
            Run::Later(_) => out.truncate(from),
            Run::Refused(refusal) => {
                out.truncate(from);
                refusal.write(out, Some(call.id));
            }
        }
        match run {
            Run::Later(sleep) => {
                // Nobody would read its progress.
                let every = if call.progress_token.is_none() { u64::MAX } else { sleep.every };
                Run::Later(Sleep { every, asked: call.params.len(), ..sleep })
            }
            run => run,
        }
    }

    /// Runs a tool and appends its result alone; only [`Run::Done`] has appended anything.
    ///
    /// A tool we don't have is an invalid-params error. Wrong arguments are one too up to 2025-06-18, and a result with
    /// `isError` since (spec 2025-11-25 server/tools#error-handling).
    pub fn run_into(&self, name: &str, arguments: Option<&str>, revision: Revision, out: &mut Vec<u8>) -> Run {
        let from = out.len();
        let sheet = Sheet { opening: self.catalogue.result_opening(revision), revision, out };
        let run = match name {
            "echo" => echo(arguments, sheet),
            "add" => add(arguments, sheet),
            "sleep" => self.sleep(arguments, revision),
            "blob" => self.blob(arguments, sheet),
            "stats" => self.stats(arguments, sheet),
            _ => return Run::Refused(unknown_tool(name)),
        };
        run.unwrap_or_else(|Wrong(what)| {
            out.truncate(from);
            if !revision.has_argument_errors_in_results() {
                return Run::Refused(Fault::InvalidParams.because(format!("Invalid params: {what}")));
            }
            Sheet { opening: self.catalogue.result_opening(revision), revision, out }.mistake(&what);
            Run::Done
        })
    }

    fn sleep(&self, arguments: Option<&str>, revision: Revision) -> Result<Run, Wrong> {
        let Config { sleep_ms_max, progress_ms_min, .. } = self.config;
        let [ms, every] = arguments::take("sleep", arguments, ["ms", "progressEvery"])?;
        let ms = arguments::integer("sleep", "ms", ms, 0, sleep_ms_max)?;
        let every = match every {
            None => (ms / 10).max(progress_ms_min),
            some => arguments::integer("sleep", "progressEvery", some, progress_ms_min, u64::MAX)?,
        };
        let catalogue = Arc::clone(&self.catalogue);
        Ok(Run::Later(Sleep { ms, every: every.max(1), asked: 0, revision, catalogue }))
    }

    fn blob(&self, arguments: Option<&str>, sheet: Sheet<'_>) -> Result<Run, Wrong> {
        let [bytes] = arguments::take("blob", arguments, ["bytes"])?;
        let bytes = arguments::integer("blob", "bytes", bytes, 0, self.config.blob_bytes_max)?;
        sheet.text(|out| {
            out.push(b'"');
            out.resize(out.len() + bytes as usize, b'x');
            out.push(b'"');
        });
        Ok(Run::Done)
    }

    fn stats(&self, arguments: Option<&str>, sheet: Sheet<'_>) -> Result<Run, Wrong> {
        let [] = arguments::take("stats", arguments, [])?;
        sheet.structured(&(self.stats)());
        Ok(Run::Done)
    }
}

/// Hot: the string goes out as the very token that came in.
fn echo(arguments: Option<&str>, sheet: Sheet<'_>) -> Result<Run, Wrong> {
    let [text] = arguments::take("echo", arguments, ["text"])?;
    let text = arguments::string("echo", "text", text)?;
    sheet.text(|out| out.extend_from_slice(text.as_bytes()));
    Ok(Run::Done)
}

fn add(arguments: Option<&str>, sheet: Sheet<'_>) -> Result<Run, Wrong> {
    let [a, b] = arguments::take("add", arguments, ["a", "b"])?;
    let (a, b) = (Number::read("add", "a", a)?, Number::read("add", "b", b)?);
    let sum =
        a.plus(b).ok_or_else(|| Wrong("add: the sum is too large for a 64-bit float; add smaller numbers".into()))?;
    sheet.structured(&format!(r#"{{"sum":{sum}}}"#));
    Ok(Run::Done)
}

fn unknown_tool(name: &str) -> Refusal<'static> {
    let name = &name[..name.floor_char_boundary(64)];
    Fault::UnknownTool.because(format!("Unknown tool: {name}; this server has echo, add, sleep, blob and stats"))
}

/// A sleep that was asked for: whoever has a clock waits, tells the progress, and sends the result.
#[derive(Debug, Clone)]
pub struct Sleep {
    ms: u64,
    every: u64,
    asked: usize,
    revision: Revision,
    catalogue: Arc<Catalogue>,
}

impl Sleep {
    /// How long it takes.
    #[must_use]
    pub const fn total(&self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// Bytes of the parameters that asked for it.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// The time between two progress notifications, never zero; the last one comes before the end.
    #[must_use]
    pub const fn every(&self) -> Duration {
        Duration::from_millis(self.every)
    }

    /// The fragment for [`answer::progress`] at the `step`th notification, counted from 1; `None` when the sleep is over by
    /// then. It grows with every step (spec 2026-07-28 basic/patterns/progress).
    #[must_use]
    pub fn progress(&self, step: u64) -> Option<String> {
        let slept = self.every.saturating_mul(step);
        let message = || format!("slept {slept} of {} ms", self.ms);
        (slept < self.ms).then(|| answer::progress_fragment(self.revision, slept, self.ms, &message()))
    }

    /// Appends the result.
    pub fn result_into(&self, out: &mut Vec<u8>) {
        let opening = self.catalogue.result_opening(self.revision);
        Sheet { opening, revision: self.revision, out }.structured(&format!(r#"{{"sleptMs":{}}}"#, self.ms));
    }
}

/// Where one tool result is written.
struct Sheet<'o> {
    opening: &'o str,
    revision: Revision,
    out: &'o mut Vec<u8>,
}

impl Sheet<'_> {
    /// A result of one text; `write` appends it as a JSON string.
    fn text(self, write: impl FnOnce(&mut Vec<u8>)) {
        self.content(write).push(b'}');
    }

    /// A result that is a JSON object: as text for all, and as `structuredContent` where the revision has it (spec
    /// 2025-06-18 server/tools#structured-content).
    fn structured(self, object: &str) {
        let structured = self.revision.has_structured_content();
        let out = self.content(|out| json::write_string(out, object));
        if structured {
            out.extend_from_slice(br#","structuredContent":"#);
            out.extend_from_slice(object.as_bytes());
        }
        out.push(b'}');
    }

    /// A result that says what went wrong.
    fn mistake(self, what: &str) {
        self.content(|out| json::write_string(out, what)).extend_from_slice(br#","isError":true}"#);
    }
}

impl<'o> Sheet<'o> {
    fn content(self, write: impl FnOnce(&mut Vec<u8>)) -> &'o mut Vec<u8> {
        self.out.extend_from_slice(self.opening.as_bytes());
        self.out.extend_from_slice(br#""content":[{"type":"text","text":"#);
        write(self.out);
        self.out.extend_from_slice(b"}]");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::{Method, Target};
    use crate::wire::envelope::Id;
    use serde_json::{Value, json};

    fn tools() -> Tools {
        let config = Config { sleep_ms_max: 1000, progress_ms_min: 20, blob_bytes_max: 5000, ..Config::default() };
        Tools::new(config, || r#"{"clients":7}"#.to_owned())
    }

    /// The result of a tool that is done at once.
    #[track_caller]
    fn done(name: &str, arguments: &str, revision: Revision) -> Value {
        let mut out = Vec::new();
        let run = tools().run_into(name, Some(arguments), revision, &mut out);
        assert!(matches!(run, Run::Done), "{run:?}");
        serde_json::from_slice(&out).unwrap()
    }

    fn sleep(arguments: &str, revision: Revision) -> Sleep {
        let mut out = Vec::new();
        let Run::Later(sleep) = tools().run_into("sleep", Some(arguments), revision, &mut out) else {
            panic!("no sleep")
        };
        assert!(out.is_empty());
        sleep
    }

    const OLDEST: Revision = Revision::V2024_11_05;

    #[test]
    fn echo_returns_the_token_that_came() {
        let mut out = Vec::new();
        tools().run_into("echo", Some(r#"{"text":"\u0041\n\ud83d\ude00"}"#), OLDEST, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"content":[{"type":"text","text":"\u0041\n\ud83d\ude00"}]}"#);
    }

    /// Spec 2025-06-18 server/tools#structured-content; before, a result has text alone.
    #[test]
    fn add_gives_text_and_structure_where_the_revision_has_it() {
        let content = json!([{"type":"text","text":"{\"sum\":3.5}"}]);
        assert_eq!(done("add", r#"{"a":1,"b":2.5}"#, Revision::V2025_03_26), json!({"content":content}));
        let both = json!({"content":content,"structuredContent":{"sum":3.5}});
        assert_eq!(done("add", r#"{"a":1,"b":2.5}"#, Revision::V2025_06_18), both);
    }

    /// Spec 2026-07-28 basic/index#meta: every result says that it is complete and from whom.
    #[test]
    fn modern_results_are_complete_and_signed() {
        let result = done("echo", r#"{"text":""}"#, Revision::V2026_07_28);
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "lakh");
    }

    #[test]
    fn blob_has_the_size_asked_for_and_no_more_than_allowed() {
        let size = |n: u64| {
            done("blob", &json!({"bytes":n}).to_string(), OLDEST)["content"][0]["text"].as_str().unwrap().len()
        };
        assert_eq!((size(0), size(5000)), (0, 5000));
        let over = done("blob", r#"{"bytes":5001}"#, Revision::V2025_11_25);
        assert_eq!(over["isError"], true);
        assert_eq!(over["content"][0]["text"], "blob needs bytes, an integer from 0 to 5000");
    }

    #[test]
    fn stats_are_those_of_the_gateway() {
        let result = done("stats", "{}", Revision::V2025_11_25);
        assert_eq!(result["structuredContent"], json!({"clients":7}));
        assert_eq!(result["content"][0]["text"], r#"{"clients":7}"#);
    }

    #[test]
    fn sleep_tells_its_progress_in_tenths_or_as_asked_and_ends_with_a_result() {
        let slept = sleep(r#"{"ms":1000}"#, Revision::V2025_11_25);
        assert_eq!((slept.total(), slept.every()), (Duration::from_secs(1), Duration::from_millis(100)));
        let steps: Vec<_> = (1..).map_while(|step| slept.progress(step)).collect();
        assert_eq!(steps.len(), 9);
        assert_eq!(steps[8], r#""progress":900,"total":1000,"message":"slept 900 of 1000 ms""#);
        let mut out = Vec::new();
        slept.result_into(&mut out);
        let result: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(result["structuredContent"], json!({"sleptMs":1000}));
        assert_eq!(sleep(r#"{"ms":100,"progressEvery":30}"#, OLDEST).every(), Duration::from_millis(30));
        let none = sleep(r#"{"ms":0}"#, OLDEST);
        assert_eq!((none.total(), none.progress(1)), (Duration::ZERO, None));
    }

    /// Spec 2025-06-18 and 2025-11-25 server/tools#error-handling.
    #[test]
    fn wrong_arguments_are_an_error_of_the_kind_the_revision_asks_for() {
        let wrong = [
            ("echo", "{}", "echo needs text, a string"),
            ("echo", r#"{"text":7}"#, "echo needs text, a string"),
            ("echo", r#"{"txt":""}"#, "echo has no argument \"txt\"; it takes text"),
            ("add", r#"{"a":1}"#, "add needs b, a number that fits a 64-bit float"),
            ("add", r#"{"a":1e308,"b":1e308}"#, "add: the sum is too large for a 64-bit float; add smaller numbers"),
            ("sleep", r#"{"ms":1001}"#, "sleep needs ms, an integer from 0 to 1000"),
            ("stats", r#"{"of":"me"}"#, "stats takes no arguments; leave out \"of\""),
        ];
        for (name, arguments, what) in wrong {
            for revision in Revision::ALL.into_iter().filter(|&it| it >= Revision::V2025_11_25) {
                let result = done(name, arguments, revision);
                assert_eq!((&result["isError"], &result["content"][0]["text"]), (&json!(true), &json!(what)));
            }
            let mut out = Vec::new();
            let run = tools().run_into(name, Some(arguments), Revision::V2025_06_18, &mut out);
            let Run::Refused(refusal) = run else { panic!("{name} {arguments}: {run:?}") };
            assert_eq!(
                (refusal.fault, refusal.message.ends_with(what), out.is_empty()),
                (Fault::InvalidParams, true, true)
            );
        }
    }

    #[test]
    fn a_call_is_answered_whole_and_an_unknown_tool_named() {
        let call = |name: &'static str, arguments: Option<&'static str>| Call {
            id: Id::from_raw("\"c\"").unwrap(),
            method: Method::CallTool,
            target: Target::Tool(name.into()),
            params: "{}",
            arguments,
            meta: None,
            progress_token: None,
            request_state: None,
            level: None,
            revision: Revision::V2025_06_18,
        };
        let mut out = b"before\n".to_vec();
        assert!(matches!(tools().answer(&call("echo", Some(r#"{"text":"hi"}"#)), &mut out), Run::Done));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "before\n{\"jsonrpc\":\"2.0\",\"id\":\"c\",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}}"
        );
        let mut out = Vec::new();
        assert!(matches!(tools().answer(&call("sleep", Some(r#"{"ms":1}"#)), &mut out), Run::Later(_)));
        assert!(out.is_empty());
        assert!(matches!(tools().answer(&call("nope", None), &mut out), Run::Refused(_)));
        let error: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!("c"), &json!(-32602)));
        assert!(error["error"]["message"].as_str().unwrap().starts_with("Unknown tool: nope"));
    }
}
