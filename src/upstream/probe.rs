//! Which era a server is of, and what it can do: the modern question first, the legacy handshake where that is not known
//! (spec 2026-07-28 basic/versioning#backward-compatibility-with-initialization-based-versions).

use crate::mcp::{Beyond, Era, Features, Revision, bridge};
use crate::upstream::mux::Heard;
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::json;

/// What to ask next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// `server/discover`.
    Discover,
    /// `initialize`; `unheard`: nothing came to `server/discover`.
    Initialize { unheard: bool },
    /// `server/discover` once more, as a server that refuses `initialize` may just have been slow to start.
    DiscoverAgain,
}

/// What is known after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Not enough.
    Ask(Question),
    /// All that is needed.
    Agreed(Box<Agreed>),
    /// It cannot be spoken with.
    Hopeless(Trouble),
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) revision: Revision,
    pub(super) features: Features,
    pub(super) beyond: Beyond,
    pub(super) server_info: Option<Box<str>>,
    pub(super) instructions: Option<Box<str>>,
}

/// Modern errors by which a server shows its era (spec 2026-07-28 basic/index#error-codes): a header that does not
/// match, a capability that is missing, a version that is not supported.
const MODERN_ERRORS: [i64; 3] = [-32020, -32021, -32022];

impl Question {
    /// The first one.
    pub(super) const fn first(era: Option<Era>) -> Self {
        match era {
            Some(Era::Legacy) => Self::Initialize { unheard: false },
            _ => Self::Discover,
        }
    }

    /// Whether silence is an answer, too: something else is asked then. Not where the era is known.
    pub(super) const fn is_probe(self, pinned: Option<Era>) -> bool {
        matches!((self, pinned), (Self::Discover, None))
    }

    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Discover | Self::DiscoverAgain => "server/discover",
            Self::Initialize { .. } => "initialize",
        }
    }

    /// The revision that it is asked in.
    pub(super) const fn revision(self) -> Revision {
        match self {
            Self::Discover | Self::DiscoverAgain => Revision::NEWEST,
            Self::Initialize { .. } => Revision::NEWEST_LEGACY,
        }
    }

    /// The members of its params, with what the clients behind it can do.
    pub(super) fn params(self, capabilities: &str) -> String {
        match self {
            Self::Discover | Self::DiscoverAgain => String::new(),
            Self::Initialize { .. } => format!(
                r#""protocolVersion":"{}","capabilities":{capabilities},"clientInfo":{}"#,
                Revision::NEWEST_LEGACY.as_str(),
                bridge::CLIENT_INFO
            ),
        }
    }
}

/// What an answer says. `pinned`: the era is known from elsewhere.
pub(super) fn judge(asked: Question, heard: &Heard, pinned: Option<Era>) -> Finding {
    match (asked, heard) {
        (Question::Initialize { .. }, Heard::Result(result)) => initialized(text(result)),
        (Question::Initialize { unheard: true }, Heard::Error(_)) => Finding::Ask(Question::DiscoverAgain),
        (Question::Initialize { unheard: true }, Heard::Failed(trouble))
            if is_a_no(trouble) && trouble.kind != TroubleKind::Mute =>
        {
            Finding::Ask(Question::DiscoverAgain)
        }
        (Question::Initialize { unheard: false }, Heard::Error(error)) => Finding::Hopeless(Trouble::new(
            TroubleKind::Garbage,
            format!("it refused initialize: {}", message(text(error))),
        )),
        (_, Heard::Result(result)) => match discovered(text(result)) {
            Some(finding) => finding,
            None => fall_back(asked, pinned, false, "its answer to server/discover makes no sense"),
        },
        (_, Heard::Error(error)) => {
            let code = bridge::code(text(error));
            if code.is_some_and(|code| MODERN_ERRORS.contains(&code)) {
                return Finding::Hopeless(Trouble::new(
                    TroubleKind::Garbage,
                    format!("it is of the modern era and does not speak 2026-07-28: {}", message(text(error))),
                ));
            }
            let why = format!("it has no server/discover: {}", message(text(error)));
            fall_back(asked, pinned, false, &why)
        }
        (Question::Discover, Heard::Failed(trouble)) if is_a_no(trouble) => {
            fall_back(asked, pinned, trouble.kind == TroubleKind::Mute, &trouble.to_string())
        }
        (_, Heard::Failed(trouble)) => Finding::Hopeless(trouble.clone()),
    }
}

/// What a late answer to `server/discover` says. None: nothing that helps, and the question asked since is waited for.
pub(super) fn late(heard: &Heard, pinned: Option<Era>) -> Option<Finding> {
    let Heard::Result(_) = heard else { return None };
    Some(judge(Question::DiscoverAgain, heard, pinned)).filter(|finding| matches!(finding, Finding::Agreed(_)))
}

/// Whether a failure means that the server does not know the question, rather than that it is not there.
const fn is_a_no(trouble: &Trouble) -> bool {
    match trouble.kind {
        TroubleKind::Mute | TroubleKind::NotMcp | TroubleKind::Garbage | TroubleKind::SessionLost => true,
        TroubleKind::HttpStatus => matches!(trouble.status, Some(400..500) | None),
        _ => false,
    }
}

fn fall_back(asked: Question, pinned: Option<Era>, unheard: bool, why: &str) -> Finding {
    let garbage = |why| Finding::Hopeless(Trouble::new(TroubleKind::Garbage, why));
    match (asked, pinned) {
        (Question::DiscoverAgain, _) => garbage(format!("it refused initialize, and {why}")),
        (_, Some(Era::Modern)) => garbage(format!("era = \"modern\", but {why}")),
        _ => Finding::Ask(Question::Initialize { unheard }),
    }
}

fn discovered(result: &str) -> Option<Finding> {
    let [versions, capabilities, instructions, meta] =
        json::pick(result, ["supportedVersions", "capabilities", "instructions", "_meta"]).ok()?;
    let mut versions = json::elements(versions?)?.filter_map(json::string);
    if !versions.any(|version| version == Revision::NEWEST.as_str()) {
        let why = "it is of the modern era and does not speak 2026-07-28";
        return Some(Finding::Hopeless(Trouble::new(TroubleKind::Garbage, why)));
    }
    let info = meta.and_then(|meta| json::pick(meta, ["io.modelcontextprotocol/serverInfo"]).ok()?[0]);
    Some(agreed(Revision::NEWEST, capabilities?, info, instructions))
}

fn initialized(result: &str) -> Finding {
    let picked = json::pick(result, ["protocolVersion", "capabilities", "serverInfo", "instructions"]);
    let Ok([version, capabilities, info, instructions]) = picked else {
        return Finding::Hopeless(Trouble::new(TroubleKind::Garbage, "its answer to initialize has a member twice"));
    };
    let version = version.and_then(json::string).unwrap_or_default();
    match Revision::parse(&version).filter(|revision| revision.era() == Era::Legacy) {
        Some(revision) => agreed(revision, capabilities.unwrap_or("{}"), info, instructions),
        None => {
            let why = format!("it wants to speak {version:?}, which is no revision that begins with initialize");
            Finding::Hopeless(Trouble::new(TroubleKind::Garbage, why))
        }
    }
}

fn agreed(revision: Revision, capabilities: &str, info: Option<&str>, instructions: Option<&str>) -> Finding {
    Finding::Agreed(Box::new(Agreed {
        revision,
        features: features(capabilities, revision),
        beyond: Beyond::read(capabilities),
        server_info: info.filter(|info| info.starts_with('{')).map(Into::into),
        instructions: instructions.and_then(json::string).map(Into::into),
    }))
}

/// What a server's capabilities say it can do.
fn features(capabilities: &str, revision: Revision) -> Features {
    let mut features = Features::NONE;
    for (key, value) in json::members(capabilities).into_iter().flatten() {
        let feature = match &*key {
            "tools" => Features::TOOLS,
            "prompts" => Features::PROMPTS,
            "resources" => {
                let tells = json::pick(value, ["subscribe"]).is_ok_and(|[tells]| tells == Some("true"));
                if tells { Features::RESOURCES.and(Features::SUBSCRIBE) } else { Features::RESOURCES }
            }
            "logging" => Features::LOGGING,
            "completions" => Features::COMPLETIONS,
            _ => continue,
        };
        features = features.and(feature);
    }
    // Completions had no capability of their own before (schema 2024-11-05 `ServerCapabilities`).
    if revision == Revision::V2024_11_05 && (features.has(Features::PROMPTS) || features.has(Features::RESOURCES)) {
        features = features.and(Features::COMPLETIONS);
    }
    features
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn message(error: &str) -> String {
    let message = json::pick(error, ["message"]).ok().and_then(|[message]| json::string(message?));
    message.map_or_else(String::new, |message| crate::mcp::fault::excerpt(&message).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIALIZE: Question = Question::Initialize { unheard: false };

    fn result(text: &str) -> Heard {
        Heard::Result(text.into())
    }

    fn error(code: i64) -> Heard {
        Heard::Error(format!(r#"{{"code":{code},"message":"no"}}"#).into())
    }

    #[test]
    fn a_server_that_discovers_is_modern_and_one_that_does_not_know_it_is_asked_to_initialize() {
        let modern = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},
            "resources":{"subscribe":true}},"instructions":"x","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#;
        let Finding::Agreed(agreed) = judge(Question::Discover, &result(modern), None) else { panic!("it is modern") };
        assert_eq!(agreed.revision, Revision::V2026_07_28);
        assert!(
            agreed.features.has(Features::TOOLS.and(Features::SUBSCRIBE)) && !agreed.features.has(Features::PROMPTS)
        );
        assert_eq!(agreed.server_info.as_deref(), Some(r#"{"name":"s"}"#));
        let mute = Heard::Failed(Trouble::new(TroubleKind::Mute, ""));
        for heard in [error(-32601), error(-32602), error(-32000), error(0), result("{}"), result("[]"), mute] {
            let unheard = matches!(heard, Heard::Failed(_));
            let next = Finding::Ask(Question::Initialize { unheard });
            assert_eq!(judge(Question::Discover, &heard, None), next, "{heard:?}");
        }
    }

    #[test]
    fn a_modern_error_is_no_reason_to_fall_back() {
        for code in MODERN_ERRORS {
            assert!(matches!(judge(Question::Discover, &error(code), None), Finding::Hopeless(_)), "{code}");
        }
        let other = result(r#"{"supportedVersions":["2030-01-01"],"capabilities":{}}"#);
        assert!(matches!(judge(Question::Discover, &other, None), Finding::Hopeless(_)));
    }

    #[test]
    fn a_pinned_era_is_not_left() {
        assert_eq!(Question::first(Some(Era::Legacy)), INITIALIZE);
        assert!(matches!(judge(Question::Discover, &error(-32601), Some(Era::Modern)), Finding::Hopeless(_)));
    }

    #[test]
    fn a_server_that_is_gone_is_not_taken_for_a_legacy_one() {
        for kind in [TroubleKind::Exited, TroubleKind::Lost, TroubleKind::Refused, TroubleKind::Unauthorized] {
            let heard = Heard::Failed(Trouble::new(kind, ""));
            assert!(matches!(judge(Question::Discover, &heard, None), Finding::Hopeless(_)), "{kind:?}");
        }
        let not_found = Heard::Failed(Trouble::new(TroubleKind::HttpStatus, "").with_status(404));
        assert_eq!(judge(Question::Discover, &not_found, None), Finding::Ask(INITIALIZE));
    }

    #[test]
    fn any_legacy_revision_is_agreed_to() {
        for revision in Revision::ALL {
            let answer = format!(r#"{{"protocolVersion":"{}","capabilities":{{"prompts":{{}}}}}}"#, revision.as_str());
            let finding = judge(INITIALIZE, &result(&answer), None);
            match finding {
                Finding::Agreed(agreed) => {
                    assert_eq!(agreed.revision, revision);
                    assert_eq!(agreed.features.has(Features::COMPLETIONS), revision == Revision::V2024_11_05);
                }
                other => assert!(revision.era() == Era::Modern && matches!(other, Finding::Hopeless(_))),
            }
        }
        assert!(matches!(judge(INITIALIZE, &result("7"), None), Finding::Hopeless(_)));
    }

    #[test]
    fn a_server_that_said_nothing_and_then_refuses_initialize_is_asked_to_discover_once_more() {
        let late = Question::Initialize { unheard: true };
        assert_eq!(judge(late, &error(-32601), None), Finding::Ask(Question::DiscoverAgain));
        assert!(matches!(judge(INITIALIZE, &error(-32601), None), Finding::Hopeless(_)));
        let modern = result(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#);
        assert!(matches!(judge(Question::DiscoverAgain, &modern, None), Finding::Agreed(_)));
        for status in [400, 404, 405] {
            let refused = Heard::Failed(Trouble::new(TroubleKind::HttpStatus, "").with_status(status));
            assert_eq!(judge(late, &refused, None), Finding::Ask(Question::DiscoverAgain), "{status}");
            assert!(matches!(judge(INITIALIZE, &refused, None), Finding::Hopeless(_)), "{status}");
        }
        for heard in [error(-32601), result("{}"), Heard::Failed(Trouble::new(TroubleKind::Mute, ""))] {
            assert!(matches!(judge(Question::DiscoverAgain, &heard, None), Finding::Hopeless(_)), "{heard:?}");
        }
        assert!(matches!(super::late(&modern, None), Some(Finding::Agreed(_))));
        for heard in [error(-32601), result("{}"), Heard::Failed(Trouble::new(TroubleKind::Lost, ""))] {
            assert_eq!(super::late(&heard, None), None, "{heard:?}");
        }
        assert!(Question::Discover.is_probe(None) && !Question::Discover.is_probe(Some(Era::Modern)));
    }
}
