//! HTTP+SSE of 2024-11-05: a stream that carries all answers, and a place to post messages to.

use super::request::Stop;
use super::{Http, Standing};
use crate::actor::{Desk, Sibling};
use crate::conn::Bench;
use crate::conn::Guest;
use crate::conn::connection::{Connection, Stage};
use crate::conn::service::Service;
use crate::pool::Key;
use crate::wire::http::{self, Manner, Refusal, Request, event};

impl<S: Service> Bench<S> {
    /// Opens a stream and the session that goes with it; its first event tells where to post.
    pub(super) fn open_old_stream(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        let opened = self.house.sessions.open(Guest::default(), conn.tenant, &self.house.pressure);
        let session = opened.map_err(|refusal| self.house.turned_down(refusal))?;
        let manner = Manner::of(request);
        http::open_events(&mut self.out, manner, "");
        event::write_endpoint(&mut self.out, manner.chunked, &self.house.config.http.messages_path, &session.id.text());
        let place = self.house.sessions.place(desk.inbox, key);
        let serial = place.serial;
        session.state().open_stream(place);
        conn.heard = desk.now;
        conn.stage = Stage::Http(Http::Streaming(Standing {
            session,
            serial,
            resumed: false,
            keep: manner.keep && manner.chunked,
            chunked: manner.chunked,
            old: true,
        }));
        Ok(())
    }

    /// A message for such a stream: it is handled there, and answered there.
    pub(super) fn post_old(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<(), Stop> {
        let name = request.query("sessionId").ok_or(Refusal::SessionMissing)?;
        let session = self.house.sessions.find(name).ok_or(Refusal::SessionUnknown)?;
        let text = crate::wire::utf8(body).ok_or(Refusal::InvalidUtf8)?;
        let mut state = session.state();
        let place = state.stream().cloned().ok_or(Refusal::SessionUnknown)?;
        if !state.post(self.house.config.http.posted_max) {
            return Err(Refusal::StreamBusy.into());
        }
        drop(state);
        place.tell(Sibling::Message(text.into()));
        self.answer_empty(conn, request, 202)
    }
}
