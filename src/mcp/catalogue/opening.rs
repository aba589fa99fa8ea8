//! What a client is told first: the results of `initialize` and `server/discover`, and how every modern result begins.

use std::sync::Arc;

use super::Part;
use super::view::{self, Members, What};
use crate::mcp::beyond::Beyond;
use crate::mcp::method::Features;
use crate::mcp::revision::{Era, Revision};
use crate::wire::json;

/// The texts that are the same for all clients.
#[derive(Debug)]
pub(super) struct Openings {
    /// By [`Revision::index`].
    pub(super) initialize: [Arc<str>; 5],
    pub(super) discover: Box<str>,
    /// The beginning of every modern result.
    pub(super) modern: Box<str>,
    /// The end of a modern list.
    pub(super) cache: Box<str>,
}

/// Longest `serverInfo`, and longest instructions of one server, in bytes: every client gets them, and a model has to read
/// the latter.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// How long lists may be kept where their server says nothing: it tells when they change, so this is for lost words only.
const FRESH_MS: u128 = 300_000;

impl Openings {
    pub(super) fn new(parts: &[Part<'_>], features: Features) -> Self {
        let info = info(parts);
        let beyond = Beyond::union(parts.iter().map(|part| &part.offer.beyond));
        let instructions = instructions(parts).map(|text| format!(r#","instructions":{}"#, quoted(&text)));
        let instructions = instructions.unwrap_or_default();
        let initialize = |revision: Revision| {
            let (info, name) = (seen(&info, revision), revision.as_str());
            let capabilities = capabilities(features, &beyond, revision);
            format!(r#"{{"protocolVersion":"{name}","capabilities":{capabilities},"serverInfo":{info}{instructions}}}"#)
                .into()
        };
        let legacy: [Arc<str>; 4] = std::array::from_fn(|at| initialize(Revision::ALL[at]));
        let newest = Revision::NEWEST;
        let modern = format!(
            r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/serverInfo":{}}},"#,
            seen(&info, newest)
        );
        let fresh = parts.iter().map(|part| part.offer.fresh.map_or(FRESH_MS, |fresh| fresh.as_millis())).min();
        let scope = if parts.iter().any(|part| part.offer.private) { "private" } else { "public" };
        let cache = format!(r#","ttlMs":{},"cacheScope":"{scope}"}}"#, fresh.unwrap_or(FRESH_MS));
        let discover = format!(
            r#"{modern}"supportedVersions":{},"capabilities":{}{instructions}{cache}"#,
            Revision::SUPPORTED_PER_REQUEST,
            capabilities(features, &beyond, newest)
        );
        // A modern revision has no `initialize`: it is answered as the newest legacy one.
        let initialize = std::array::from_fn(|at| Arc::clone(&legacy[at.min(3)]));
        Self { initialize, discover: discover.into(), modern: modern.into(), cache: cache.into() }
    }

    pub(super) fn bytes(&self) -> usize {
        let legacy = self.initialize[..4].iter().map(|text| text.len()).sum::<usize>();
        legacy + self.discover.len() + self.modern.len() + self.cache.len()
    }
}

/// Who answers: the one server, as if nobody stood in between; or the gateway.
fn info(parts: &[Part<'_>]) -> String {
    let own = match parts {
        [part] => part.offer.server_info.as_deref(),
        _ => None,
    };
    let valid = |info: &&str| info.starts_with('{') && info.len() <= WORDS_BYTES_MAX && json::check(info).is_ok();
    own.filter(valid).map_or_else(
        || format!(r#"{{"name":"lakh","title":"lakh, an MCP gateway","version":"{}"}}"#, env!("CARGO_PKG_VERSION")),
        str::to_owned,
    )
}

fn seen(info: &str, revision: Revision) -> String {
    let mut seen = Vec::new();
    let hidden = Members::unknown_to(revision).both(Members::of(info, What::Server));
    view::write(&mut seen, What::Server, info, hidden, None);
    String::from_utf8(seen).unwrap_or_default()
}

/// The one server's advice as it is; that of several under their names.
fn instructions(parts: &[Part<'_>]) -> Option<String> {
    let cut = |text: &str| text[..text.floor_char_boundary(WORDS_BYTES_MAX)].to_owned();
    let given = |part: &Part<'_>| part.offer.instructions.as_deref().filter(|text| !text.is_empty()).map(cut);
    if let [part] = parts {
        return given(part);
    }
    let all = parts.iter().filter_map(|part| Some(format!("# {}\n{}", part.name, given(part)?)));
    Some(all.collect::<Vec<_>>().join("\n\n")).filter(|text| !text.is_empty())
}

/// What all servers together can do (schemas `ServerCapabilities`). Lists can always change: servers come and go.
fn capabilities(features: Features, beyond: &Beyond, revision: Revision) -> String {
    let subscribe = if features.has(Features::SUBSCRIBE) { r#","subscribe":true"# } else { "" };
    let mut members: Vec<String> = beyond.members().collect();
    // The first revision has completions, and no word for them (spec 2024-11-05 server/utilities/completion).
    if features.has(Features::COMPLETIONS) && revision > Revision::V2024_11_05 {
        members.push(r#""completions":{}"#.to_owned());
    }
    if features.has(Features::LOGGING) {
        members.push(r#""logging":{}"#.to_owned());
    }
    if features.has(Features::PROMPTS) {
        members.push(r#""prompts":{"listChanged":true}"#.to_owned());
    }
    if features.has(Features::RESOURCES) {
        members.push(format!(r#""resources":{{"listChanged":true{subscribe}}}"#));
    }
    if features.has(Features::TOOLS) {
        members.push(r#""tools":{"listChanged":true}"#.to_owned());
    }
    format!("{{{}}}", members.join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How a result begins, of any revision.
pub(super) fn result_opening(openings: &Openings, revision: Revision) -> &str {
    match revision.era() {
        Era::Legacy => "{",
        Era::Modern => &openings.modern,
    }
}
