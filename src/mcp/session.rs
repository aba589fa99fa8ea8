//! One client's MCP session as a pure machine: a message in, a verdict and the text of the answer out.

use std::borrow::Cow;
use std::sync::Arc;

use crate::mcp::answer;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::fault::{Fault, Refusal, excerpt};
use crate::mcp::params::{Meta, Params, invalid, is_object};
use crate::mcp::profile::{Profile, Profiles};
use crate::mcp::revision::{Era, Revision};
use crate::wire::envelope::{Envelope, Id, Kind};
use crate::wire::json;

/// The whole state of a session: what was agreed on, and with whom.
///
/// A request whose `_meta` names a modern revision leaves it as it is (spec 2026-07-28 basic/index#statelessness), but
/// for the profile, which serves display only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    profile: Option<Arc<Profile>>,
    phase: Phase,
}

/// 100,000 of them are held: what a session needs while something is unfinished belongs elsewhere.
const _: () = assert!(size_of::<Session>() <= 16);

/// How far the legacy handshake is (spec 2025-11-25 basic/lifecycle#initialization).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// No `initialize` so far; modern requests need none.
    #[default]
    New,
    /// `initialize` was answered, in this revision.
    Agreed(Revision),
    /// The client has said `notifications/initialized`.
    Ready(Revision),
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'m> {
    /// The answer is in the buffer.
    Answered,
    /// A tool is to be called; whoever does so answers.
    Call(Call<'m>),
    /// A subscription is open under this id and its acknowledgement is in the buffer. It ends when the client cancels the
    /// id, or by [`answer::listen_closed`].
    Listen(Id<'m>),
    /// The request with this id is to be stopped and not to be answered, if it is still running.
    Cancel(Id<'m>),
    /// The message was taken note of.
    Nothing,
    /// The message means nothing here and has no answer.
    Ignored(Ignored),
    /// The request was refused; the error is in the buffer.
    Faulted(Fault),
}

/// A `tools/call`, checked as far as no tool needs to be known for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'m> {
    /// The id to answer to.
    pub id: Id<'m>,
    /// The name of the tool.
    pub name: Cow<'m, str>,
    /// The raw JSON object of the arguments.
    pub arguments: Option<&'m str>,
    /// The raw JSON token to put into progress notifications; none are wanted without it.
    pub progress_token: Option<&'m str>,
    /// The revision to answer in.
    pub revision: Revision,
}

crate::named! {
    /// Why a message without an answer had no effect.
    pub enum Ignored {
        /// A notification we have no use for.
        UnknownNotification = "unknown_notification",
        /// `notifications/initialized` where it does not belong.
        UntimelyInitialized = "untimely_initialized",
        /// A cancellation without the id of a request (spec 2025-11-25 basic/utilities/cancellation#error-handling).
        MalformedCancel = "malformed_cancel",
        /// An answer to a request that was never sent.
        UnaskedResponse = "unasked_response",
    }
}

impl Session {
    /// A session in a phase that is known from elsewhere: a snapshot, or the headers of an HTTP request.
    #[must_use]
    pub fn resumed(phase: Phase, profile: Option<Arc<Profile>>) -> Self {
        Self { profile, phase }
    }

    /// How far the legacy handshake is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The legacy revision agreed on.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        match self.phase {
            Phase::New => None,
            Phase::Agreed(revision) | Phase::Ready(revision) => Some(revision),
        }
    }

    /// Who the client says it is, as far as it has said so.
    #[must_use]
    pub const fn profile(&self) -> Option<&Arc<Profile>> {
        self.profile.as_ref()
    }

    /// Whether a JSON array of messages may be taken apart; if not it is [`Fault::BatchNotAllowed`].
    ///
    /// False before `initialize`, which must not be part of a batch (spec 2025-03-26 basic/lifecycle#initialization).
    #[must_use]
    pub fn accepts_batches(&self) -> bool {
        self.revision().is_some_and(Revision::has_batches)
    }

    /// Handles one message of the client. `out` gets at most one JSON-RPC text, without framing, and only with the
    /// verdicts that say so.
    pub fn handle_message<'m>(
        &mut self,
        message: &Envelope<'m>,
        catalogue: &Catalogue,
        profiles: &mut Profiles,
        out: &mut Vec<u8>,
    ) -> Verdict<'m> {
        match &message.kind {
            Kind::Request { id, method } => {
                let request = Request { id: *id, method, params: message.params };
                self.handle_request(&request, catalogue, profiles, out).unwrap_or_else(|refusal| {
                    refusal.write(out, Some(*id));
                    Verdict::Faulted(refusal.fault)
                })
            }
            Kind::Notification { method } => self.handle_notification(method, message.params),
            Kind::Response { .. } => Verdict::Ignored(Ignored::UnaskedResponse),
        }
    }

    fn handle_request<'m>(
        &mut self,
        request: &Request<'m, '_>,
        catalogue: &Catalogue,
        profiles: &mut Profiles,
        out: &mut Vec<u8>,
    ) -> Result<Verdict<'m>, Refusal<'static>> {
        if request.method == "ping" && request.params.is_none() {
            answer::empty_result(out, request.id);
            return Ok(Verdict::Answered);
        }
        let params = Params::read(request.params)?;
        match params.meta.protocol_version {
            Some(version) if !self.has_agreed_to(version) => {
                check_modern(version, &params.meta)?;
                if self.profile.is_none() && params.meta.client_info.is_some() {
                    let profile = Profile::read(params.meta.client_info, params.meta.client_capabilities);
                    self.profile = Some(profiles.intern(profile));
                }
                handle_modern(request, &params, catalogue, out)
            }
            _ => self.handle_legacy(request, &params, catalogue, profiles, out),
        }
    }

    /// Whether a version in `_meta` is the one `initialize` agreed on, and so says nothing new.
    fn has_agreed_to(&self, version: &str) -> bool {
        self.revision().is_some_and(|agreed| json::string(version).is_some_and(|name| name == agreed.as_str()))
    }

    fn handle_legacy<'m>(
        &mut self,
        request: &Request<'m, '_>,
        params: &Params<'m>,
        catalogue: &Catalogue,
        profiles: &mut Profiles,
        out: &mut Vec<u8>,
    ) -> Result<Verdict<'m>, Refusal<'static>> {
        match (request.method, self.revision()) {
            // Allowed at any time, by either side (spec 2025-11-25 basic/lifecycle#initialization).
            ("ping", _) => {
                answer::empty_result(out, request.id);
                Ok(Verdict::Answered)
            }
            ("initialize", None) => {
                let revision = self.initialize(params, profiles)?;
                answer::result(out, request.id, catalogue.initialize(revision).as_bytes());
                Ok(Verdict::Answered)
            }
            ("initialize", Some(_)) => Err(Fault::AlreadyInitialized.into()),
            (_, None) => Err(Fault::NotInitialized.into()),
            ("tools/list", Some(revision)) => list_tools(request, params, revision, catalogue, out),
            ("tools/call", Some(revision)) => call_tool(request, params, revision),
            (method, Some(revision)) => Err(unknown_method(method, revision)),
        }
    }

    fn initialize(&mut self, params: &Params<'_>, profiles: &mut Profiles) -> Result<Revision, Refusal<'static>> {
        let version = params.protocol_version.and_then(json::string);
        let version =
            version.ok_or_else(|| invalid("initialize needs protocolVersion, a string like \"2025-11-25\""))?;
        for (name, value) in [("capabilities", params.capabilities), ("clientInfo", params.client_info)] {
            if !value.is_some_and(is_object) {
                return Err(invalid(&format!("initialize needs {name}, an object")));
            }
        }
        let revision = Revision::negotiate(&version);
        self.profile = Some(profiles.intern(Profile::read(params.client_info, params.capabilities)));
        self.phase = Phase::Agreed(revision);
        Ok(revision)
    }

    fn handle_notification<'m>(&mut self, method: &str, params: Option<&'m str>) -> Verdict<'m> {
        match (method, self.phase) {
            ("notifications/initialized", Phase::Agreed(revision)) => {
                self.phase = Phase::Ready(revision);
                Verdict::Nothing
            }
            ("notifications/initialized", _) => Verdict::Ignored(Ignored::UntimelyInitialized),
            ("notifications/cancelled", _) => Params::read(params)
                .ok()
                .and_then(|params| Id::from_raw(params.request_id?).ok())
                .map_or(Verdict::Ignored(Ignored::MalformedCancel), Verdict::Cancel),
            _ => Verdict::Ignored(Ignored::UnknownNotification),
        }
    }
}

struct Request<'m, 'a> {
    id: Id<'m>,
    method: &'a str,
    params: Option<&'m str>,
}

/// Checks the `_meta` of a modern request (spec 2026-07-28 basic/index#meta). The version comes first: another revision
/// may ask for other fields.
fn check_modern(version: &str, meta: &Meta<'_>) -> Result<(), Refusal<'static>> {
    let name = json::string(version)
        .ok_or_else(|| invalid("_meta \"io.modelcontextprotocol/protocolVersion\" must be a string"))?;
    match Revision::parse(&name) {
        Some(Revision::V2026_07_28) => {}
        Some(legacy) => {
            let message = format!(
                "Unsupported protocol version: {} is spoken after initialize, without a version in _meta; per request use one \
                 of data.supported",
                legacy.as_str()
            );
            return Err(Refusal { message: message.into(), ..Fault::unsupported_version(version) });
        }
        // What the client asked for is told back, but not at any length.
        None if version.len() > 64 => return Err(Fault::unsupported_version("\"(too long)\"")),
        None => return Err(Fault::unsupported_version(version)),
    }
    if !meta.client_capabilities.is_some_and(is_object) {
        return Err(invalid("_meta needs \"io.modelcontextprotocol/clientCapabilities\", an object"));
    }
    if meta.client_info.is_some_and(|info| !is_object(info)) {
        return Err(invalid("_meta \"io.modelcontextprotocol/clientInfo\" must be an object with name and version"));
    }
    if meta.log_level.is_some_and(|level| json::string(level).is_none_or(|level| !LOG_LEVELS.contains(&&*level))) {
        return Err(invalid("_meta \"io.modelcontextprotocol/logLevel\" must be one of debug to emergency"));
    }
    Ok(())
}

/// Spec 2026-07-28 server/utilities/logging#log-levels.
const LOG_LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Serves a request from itself alone. `initialize` and `ping` are unknown methods here (spec 2026-07-28 changelog,
/// basic/versioning#compatibility-matrix).
fn handle_modern<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    catalogue: &Catalogue,
    out: &mut Vec<u8>,
) -> Result<Verdict<'m>, Refusal<'static>> {
    let revision = Revision::V2026_07_28;
    match request.method {
        "server/discover" => {
            answer::result(out, request.id, catalogue.discover().as_bytes());
            Ok(Verdict::Answered)
        }
        "tools/list" => list_tools(request, params, revision, catalogue, out),
        "tools/call" => call_tool(request, params, revision),
        "subscriptions/listen" if params.notifications.is_some_and(is_object) => {
            answer::listen_acknowledged(out, request.id);
            Ok(Verdict::Listen(request.id))
        }
        "subscriptions/listen" => Err(invalid("subscriptions/listen needs notifications, an object")),
        method => Err(unknown_method(method, revision)),
    }
}

/// All tools are on one page, so no cursor was ever given out (spec 2025-11-25 server/utilities/pagination#error-handling).
fn list_tools<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    revision: Revision,
    catalogue: &Catalogue,
    out: &mut Vec<u8>,
) -> Result<Verdict<'m>, Refusal<'static>> {
    if params.cursor.is_some_and(|cursor| cursor != "null") {
        return Err(invalid("unknown cursor; list again without one"));
    }
    answer::result(out, request.id, catalogue.tools(revision).as_bytes());
    Ok(Verdict::Answered)
}

fn call_tool<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    revision: Revision,
) -> Result<Verdict<'m>, Refusal<'static>> {
    let name = params.name.and_then(json::string).ok_or_else(|| invalid("tools/call needs name, a string"))?;
    let arguments = params.arguments.filter(|&raw| raw != "null");
    if arguments.is_some_and(|raw| !is_object(raw)) {
        return Err(invalid("arguments must be an object"));
    }
    let progress_token = params.meta.progress_token;
    if progress_token.is_some_and(|token| Id::from_raw(token).is_err()) {
        return Err(invalid("progressToken must be a string or an integer of at most 256 bytes"));
    }
    Ok(Verdict::Call(Call { id: request.id, name, arguments, progress_token, revision }))
}

fn unknown_method(method: &str, revision: Revision) -> Refusal<'static> {
    let methods = match revision.era() {
        Era::Legacy => "initialize, ping, tools/list and tools/call",
        Era::Modern => "server/discover, tools/list, tools/call and subscriptions/listen",
    };
    let revision = revision.as_str();
    Fault::UnknownMethod
        .because(format!("Method not found: {}; in {revision} this server has {methods}", excerpt(method)))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
