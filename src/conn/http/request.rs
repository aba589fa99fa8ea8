//! A whole request: where it leads, and the refusals that need no look into its body.

use std::sync::Arc;

use super::Http;
use crate::actor::Desk;
use crate::conn::connection::{Connection, Stage};
use crate::conn::serve::Step;
use crate::conn::service::Service;
use crate::conn::{Bench, House, Parting};
use crate::guard::{self, Pressure};
use crate::mcp::{Era, Revision};
use crate::pool::Key;
use crate::wire::http::{self, Manner, Method, Refusal, Request};
use crate::wire::ws;

/// Why a request is not served: an answer says so, or the connection ends.
pub(super) enum Stop {
    Refusal(Refusal),
    Parting(Parting),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Parting> for Stop {
    fn from(parting: Parting) -> Self {
        Self::Parting(parting)
    }
}

/// Where a request leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Upgrade,
    Post,
    /// The stream of a session.
    Get,
    Delete,
    /// A stream of 2024-11-05.
    OldStream,
    /// A message for one.
    OldMessage,
    Preflight,
}

impl From<guard::Refusal> for Refusal {
    fn from(refusal: guard::Refusal) -> Self {
        match refusal {
            guard::Refusal::Critical => Self::Critical,
            guard::Refusal::AddressFull => Self::AddressFull,
            guard::Refusal::TenantFull => Self::TenantFull,
            guard::Refusal::TooManyArrivals => Self::TooManyArrivals,
            guard::Refusal::SessionsFull => Self::SessionsFull,
            guard::Refusal::TenantSessionsFull => Self::TenantSessionsFull,
            // What is left of them is said in answers to messages.
            _ => Self::Full,
        }
    }
}

/// Header lines that a page may send, where its browser does not ask for more.
const PAGE_HEADERS: &str = "accept, authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, \
                            mcp-session-id";

impl<S: Service> Bench<S> {
    /// What the reader has found.
    ///
    /// # Errors
    /// When the connection is over; an answer is in `out`.
    pub(in crate::conn) fn request(
        &mut self,
        conn: &mut Connection<S::Session>,
        step: http::Step<'_>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<Step, Parting> {
        match step {
            http::Step::More => Ok(Step::More(0)),
            http::Step::Head(request) => {
                // Before its body has come; what is left of it would be taken for a request.
                self.know(conn, &request)
                    .and_then(|()| self.route(conn, &request))
                    .map_err(|refusal| self.refuse(refusal, Manner { keep: false, ..Manner::of(&request) }))?;
                if request.expects_continue {
                    http::write_continue(&mut self.out);
                }
                Ok(Step::More(0))
            }
            http::Step::Whole { request, body, consumed } => {
                conn.stage = Stage::Http(Http::waiting());
                let done = self.know(conn, &request).and_then(|()| self.route(conn, &request)).map_err(Stop::from);
                match done.and_then(|route| self.follow(conn, route, &request, body, desk, key)) {
                    Ok(()) => Ok(Step::Done(consumed)),
                    Err(Stop::Parting(parting)) => Err(parting),
                    Err(Stop::Refusal(refusal)) => {
                        let manner = Manner::of(&request);
                        // Whoever is not welcome is to leave; an upgrade that failed would be tried again as it is; and an
                        // answer to HEAD has no body (RFC 9110, section 9.3.2), so that this one would be taken for the next.
                        let plain = request.method != Method::Other && !request.wants_websocket;
                        let keep = manner.keep && !refusal.is_of_connections() && plain;
                        let parting = self.refuse(refusal, Manner { keep, ..manner });
                        if keep { Ok(Step::Done(consumed)) } else { Err(parting) }
                    }
                }
            }
        }
    }

    /// Finds out on whose account the request is made: by the first key in it that is somebody's.
    fn know(&self, conn: &mut Connection<S::Session>, request: &Request<'_>) -> Result<(), Refusal> {
        let rules = self.house.guards.rules();
        let accounts = &rules.accounts;
        let mut tenant = None;
        if accounts.has_keys() {
            request.each_line(|name, value| {
                let key =
                    std::str::from_utf8(value).ok().and_then(|value| key(&rules.api_key_header, name, value.trim()));
                tenant = tenant.or_else(|| accounts.find(key?));
            });
        }
        if conn.refused == Some(guard::Refusal::Critical) {
            self.let_back_in(conn, request);
        }
        Ok(self.recognize(conn, tenant.unwrap_or_default())?)
    }

    /// Who has a session is in, and stays so on a new connection, as long as there is a seat for it.
    fn let_back_in(&self, conn: &mut Connection<S::Session>, request: &Request<'_>) {
        let has_session = request.session.is_some_and(|name| self.house.sessions.find(name).is_some());
        if let Some(from) = conn.socket.peer_addr().ok().filter(|_| has_session)
            && let Ok(seat) = self.house.guards.admit(from.ip(), &Pressure::default())
        {
            (conn.seat, conn.refused) = (seat, None);
        }
    }

    /// Where the request leads, or why nowhere.
    fn route(&self, conn: &Connection<S::Session>, request: &Request<'_>) -> Result<Route, Refusal> {
        let house = &*self.house;
        let route = house.route(request)?;
        match route {
            _ if let Some(refusal) = conn.refused => Err(refusal.into()),
            Route::Preflight | Route::Upgrade => Ok(route),
            // A service of another kind has no sessions to keep.
            _ if S::guest(&mut S::Session::default()).is_none() => Err(Refusal::NotFound),
            Route::Post if !request.accepts_all && !request.accepts_both() => Err(Refusal::NotAcceptable),
            Route::Post | Route::OldMessage if !is_json(request.content_type) => Err(Refusal::ContentType),
            Route::Get | Route::OldStream if !request.accepts_events => Err(Refusal::NotAcceptable),
            Route::Get | Route::Delete => match request.version.map(Revision::parse) {
                // Streams and sessions are of the legacy era (spec 2026-07-28 basic/transports/streamable-http).
                Some(Some(revision)) if revision.era() == Era::Modern => Err(Refusal::MethodModern),
                Some(None) => Err(Refusal::ProtocolVersion),
                _ => Ok(route),
            },
            _ => Ok(route),
        }
    }

    fn follow(
        &mut self,
        conn: &mut Connection<S::Session>,
        route: Route,
        request: &Request<'_>,
        body: &[u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        match route {
            Route::Upgrade => {
                let upgrade = request.upgrade()?;
                http::write_switching(&mut self.out, &upgrade);
                conn.stage = Stage::WebSocket(ws::Decoder::default());
                Ok(())
            }
            Route::Post => self.post(conn, request, body, desk, key),
            Route::Get => self.open_stream(conn, request, desk, key),
            Route::Delete => {
                let session = request.session.ok_or(Refusal::SessionMissing)?;
                let session = self.house.sessions.find(session).ok_or(Refusal::SessionUnknown)?;
                self.house.sessions.remove(session.id);
                self.answer_empty(conn, request, 204)
            }
            Route::OldStream => self.open_old_stream(conn, request, desk, key),
            Route::OldMessage => self.post_old(conn, request, body),
            Route::Preflight => self.preflight(conn, request),
        }
    }

    fn preflight(&mut self, conn: &mut Connection<S::Session>, request: &Request<'_>) -> Result<(), Stop> {
        let manner = Manner::of(request);
        if request.origin.is_none() {
            http::write_empty(&mut self.out, 204, manner, "Allow: GET, POST, DELETE, OPTIONS\r\n");
        } else {
            let asked = request.line("access-control-request-headers")?;
            let plain = |list: &&str| {
                list.len() <= 1024 && list.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_, ".contains(&byte))
            };
            let headers = asked.filter(plain).unwrap_or(PAGE_HEADERS);
            http::write_preflight(&mut self.out, manner, "GET, POST, DELETE, OPTIONS", headers);
        }
        Ok(self.next_request(conn, manner.keep)?)
    }

    /// An answer without a body.
    pub(super) fn answer_empty(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        status: u16,
    ) -> Result<(), Stop> {
        http::write_empty(&mut self.out, status, Manner::of(request), "");
        Ok(self.next_request(conn, request.keeps_alive)?)
    }

    /// Refuses what could not be read, or did not come in time; `buf` is what has come of it. A page is let read why.
    pub(in crate::conn) fn refuse_unread(&mut self, refusal: Refusal, buf: &[u8]) -> Parting {
        let house = Arc::clone(&self.house);
        let origin = http::page_of(buf, &house.wire.origins_allowed);
        self.refuse(refusal, Manner { origin, ..Manner::default() })
    }

    /// Counts and writes a refusal; the parting if the connection ends with it.
    pub(in crate::conn) fn refuse(&mut self, refusal: Refusal, manner: Manner<'_>) -> Parting {
        self.write_refusal(refusal, manner);
        if refusal.is_of_connections() { Parting::Refused } else { Parting::HttpRefused }
    }

    pub(super) fn write_refusal(&mut self, refusal: Refusal, manner: Manner<'_>) {
        self.house.ledger.http_refusals.add(refusal);
        let seconds = self.house.retry_after_ms().div_ceil(1000);
        http::write_refusal(&mut self.out, refusal, u32::try_from(seconds).ok(), manner);
    }
}

impl House {
    /// Counts a refusal of the guards; what it is over HTTP.
    pub(super) fn turned_down(&self, refusal: guard::Refusal) -> Refusal {
        self.seats.refusals.add(refusal);
        refusal.into()
    }

    fn route(&self, request: &Request<'_>) -> Result<Route, Refusal> {
        let (path, http) = (request.path(), &self.config.http);
        let is_mcp = path == "/" || path == self.config.path;
        match request.method {
            _ if !is_mcp && path != http.sse_path && path != http.messages_path => Err(Refusal::NotFound),
            Method::Options => Ok(Route::Preflight),
            _ if request.wants_websocket && is_mcp => Ok(Route::Upgrade),
            Method::Post if is_mcp => Ok(Route::Post),
            Method::Get if is_mcp => Ok(Route::Get),
            Method::Delete if is_mcp => Ok(Route::Delete),
            Method::Get if path == http.sse_path => Ok(Route::OldStream),
            Method::Post if path == http.messages_path => Ok(Route::OldMessage),
            _ if is_mcp => Err(Refusal::Method),
            _ if path == http.sse_path => Err(Refusal::MethodOfOldStream),
            _ => Err(Refusal::MethodOfOldMessage),
        }
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let kind = content_type.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim_end().eq_ignore_ascii_case("application/json"))
}

/// What a header line shows of a tenant: a key (in the line of that name), a token, or one that a page had to hide among
/// subprotocols.
fn key<'v>(of_keys: &str, name: &str, value: &'v str) -> Option<&'v str> {
    if name.eq_ignore_ascii_case(of_keys) {
        return Some(value);
    }
    if name.eq_ignore_ascii_case("authorization") {
        let (scheme, token) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    let offers = name.eq_ignore_ascii_case("sec-websocket-protocol").then(|| value.split(','));
    offers?.find_map(|offer| offer.trim().strip_prefix("mcp.auth."))
}
