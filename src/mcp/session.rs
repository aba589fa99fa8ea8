//! One client's MCP session as a pure machine: a message in, a verdict and the text of the answer out.

use std::borrow::Cow;
use std::sync::Arc;

use crate::mcp::answer;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::fault::{Fault, Refusal};
use crate::mcp::method::{Features, Level};
use crate::mcp::params::{Meta, Params, invalid, is_object};
use crate::mcp::profile::{Profile, Profiles};
use crate::mcp::progress;
use crate::mcp::request::{Call, Listen, Request, listen, serve, uri};
use crate::mcp::revision::Revision;
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
    /// The least level of log messages that the client wants, if it has said so (`logging/setLevel`).
    level: Option<Level>,
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
    /// A server is to be asked; whoever does so answers.
    Call(Call<'m>),
    /// A legacy client wants to be told of a resource's changes; whoever finds its server answers.
    Subscribe(Id<'m>, Cow<'m, str>),
    /// It wants that no longer. It is answered already.
    Unsubscribe(Cow<'m, str>),
    /// It wants log messages from this level on, of all servers. It is answered already.
    SetLevel(Level),
    /// A subscription; whoever finds the servers of its resources opens it, by [`answer::listen_acknowledged`] with those
    /// that have one. It ends when the client cancels its id, or by [`answer::listen_closed`].
    Listen(Listen<'m>),
    /// The request with this id is to be stopped and not to be answered, if it is still running.
    Cancel(Id<'m>),
    /// The client replies to what it was asked under this id: with a raw result, or with a raw error.
    Reply(Id<'m>, Result<&'m str, &'m str>),
    /// A step of the client towards its reply to what it was asked under this token: the members of `params` without that.
    Progress(&'m str, String),
    /// The client's roots have changed.
    RootsChanged,
    /// The message was taken note of.
    Nothing,
    /// The message means nothing here and has no answer.
    Ignored(Ignored),
    /// The request was refused; the error is in the buffer.
    Faulted(Fault),
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
        /// A cancellation of what is not waited for: answered meanwhile, or never asked.
        LateCancel = "late_cancel",
        /// A reply to a request that was never sent, or was replied to already.
        UnaskedReply = "unasked_reply",
        /// A progress notification without a token or `progress`.
        MalformedProgress = "malformed_progress",
        /// One about a request that was never sent, or was replied to already.
        UnaskedProgress = "unasked_progress",
        /// An error without an id: it answers nothing.
        NamelessError = "nameless_error",
    }
}

impl Session {
    /// A session in a phase that is known from elsewhere: a snapshot, or the headers of an HTTP request.
    #[must_use]
    pub fn resumed(phase: Phase, profile: Option<Arc<Profile>>, level: Option<Level>) -> Self {
        Self { profile, phase, level }
    }

    /// The least level of log messages that the client has asked for.
    #[must_use]
    pub const fn level(&self) -> Option<Level> {
        self.level
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
            Kind::Response { id: Some(id), result, error } => match (*result, *error) {
                (Some(result), _) => Verdict::Reply(*id, Ok(result)),
                (None, error) => Verdict::Reply(*id, Err(error.unwrap_or("{}"))),
            },
            Kind::Response { id: None, .. } => Verdict::Ignored(Ignored::NamelessError),
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
            ("logging/setLevel", Some(_)) if catalogue.features().has(Features::LOGGING) => {
                let level = params.level.and_then(json::string).and_then(|name| Level::parse(&name));
                let level = level.ok_or_else(|| invalid("level must be one of debug to emergency"))?;
                self.level = Some(level);
                answer::empty_result(out, request.id);
                Ok(Verdict::SetLevel(level))
            }
            ("resources/subscribe", Some(_)) if catalogue.features().has(Features::SUBSCRIBE) => {
                Ok(Verdict::Subscribe(request.id, uri(request, params)?))
            }
            ("resources/unsubscribe", Some(_)) if catalogue.features().has(Features::SUBSCRIBE) => {
                let uri = uri(request, params)?;
                answer::empty_result(out, request.id);
                Ok(Verdict::Unsubscribe(uri))
            }
            (_, Some(revision)) => {
                serve(request, params, revision, Some(self.level.unwrap_or(Level::UNSAID)), catalogue, out)
            }
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
            ("notifications/roots/list_changed", Phase::Ready(_)) => Verdict::RootsChanged,
            ("notifications/cancelled", _) => Params::read(params)
                .ok()
                .and_then(|params| Id::from_raw(params.request_id?).ok())
                .map_or(Verdict::Ignored(Ignored::MalformedCancel), Verdict::Cancel),
            ("notifications/progress", _) => params
                .and_then(progress::step)
                .map_or(Verdict::Ignored(Ignored::MalformedProgress), |(token, step)| Verdict::Progress(token, step)),
            _ => Verdict::Ignored(Ignored::UnknownNotification),
        }
    }
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
    if meta.log_level.is_some() && level(meta).is_none() {
        return Err(invalid("_meta \"io.modelcontextprotocol/logLevel\" must be one of debug to emergency"));
    }
    Ok(())
}

fn level(meta: &Meta<'_>) -> Option<Level> {
    meta.log_level.and_then(json::string).and_then(|name| Level::parse(&name))
}

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
        "subscriptions/listen" => listen(request, params, catalogue),
        _ => serve(request, params, revision, level(&params.meta), catalogue, out),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
