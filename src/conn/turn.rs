//! One message's life: envelope -> session -> upstream -> answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Cache;
use tokio::sync::Notify;

use super::calls::{Pending, Work};
use super::interests::{Interests, Watch};
use super::service::{Caller, Message, Service, Talk};
use super::{House, Parting};
use crate::actor::{Letter, News, Reply, Serves, Ticket};
use crate::guard::{self, Seat, Toll};
use crate::mcp::{self, Call, Fault, Listen, Parcel, Profiles, Refusal, Session, Target, Verdict, fault};
use crate::upstream::embedded::Run;
use crate::upstream::{Client, Directories, Directory, Errand, Loudness, Server, Task, Upstream};
use crate::wire::envelope::{self, Batch, Envelope, Id, Incoming, Kind, Malformed};
use crate::wire::ws;

/// MCP as a shard's service.
pub struct Mcp {
    pub(super) house: Arc<House>,
    directory: Cache<Arc<Directories>, Arc<Directory>>,
    loudness: Arc<Loudness>,
    profiles: Profiles,
    /// The number of its shard.
    shard: usize,
    /// The number of the next ticket; never used twice, not even by the shard that takes this one's place.
    next_call: u64,
    next_batch: u32,
    /// Lists answered in this turn.
    lists: u64,
    /// Upstreams with calls of this turn, which they get all at once at its end.
    unrung: Vec<Arc<Upstream>>,
}

/// What is remembered of one client.
#[derive(Default)]
pub struct Guest {
    /// Its MCP session.
    pub(super) session: Session,
    /// What it wants to be told, and what it has going beyond its calls.
    pub(super) interests: Option<Box<Interests>>,
}

impl Guest {
    /// Whether `initialize` went well.
    pub(super) fn is_open(&self) -> bool {
        self.session.revision().is_some()
    }

    /// The legacy revision that was agreed on.
    pub(super) fn revision(&self) -> Option<mcp::Revision> {
        self.session.revision()
    }
}

impl Mcp {
    /// For the shard of this number in its life of that number: a ticket of an earlier one must not be taken for this one's,
    /// nor one of another shard, as a client over HTTP may be on several.
    pub fn new(
        house: Arc<House>,
        directories: Arc<Directories>,
        loudness: Arc<Loudness>,
        config: &mcp::Config,
        (shard, life): (usize, u32),
    ) -> Self {
        Self {
            next_call: (u64::from(life) * house.shards as u64 + shard as u64) << 40,
            house,
            shard,
            directory: Cache::new(directories),
            loudness,
            profiles: Profiles::new(config.profiles_max),
            next_batch: 0,
            lists: 0,
            unrung: Vec::new(),
        }
    }

    /// One message: its answer is appended to `out`, unless it comes later or there is none. `batch` is the batch it
    /// came in. Gives the answers of an earlier batch that it ended: a message of their own.
    #[inline]
    fn turn(
        &mut self,
        caller: &mut Caller<'_, Guest>,
        message: &Envelope<'_>,
        batch: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        if let Kind::Request { id, .. } = &message.kind
            && caller.active.as_ref().is_some_and(|active| active.calls.has(*id))
        {
            self.fault(out, Some(*id), Fault::DuplicateId);
            return None;
        }
        let catalogue = &self.directory.load().catalogue;
        match caller.session.session.handle_message(message, catalogue, &mut self.profiles, out) {
            Verdict::Answered => self.lists += u64::from(is_list(message)),
            Verdict::Nothing => {}
            Verdict::Call(call) => self.call(caller, &call, batch, out),
            Verdict::Subscribe(id, uri) => self.subscribe(caller, id, uri, batch, out),
            Verdict::Unsubscribe(uri) => {
                if let Some(interests) = &mut caller.session.interests {
                    interests.forget(&uri);
                }
            }
            Verdict::SetLevel(level) => {
                // The new wish first: or the servers fall silent in between.
                let loud = self.loudness.want(level);
                caller.interests().loud = Some(loud);
            }
            // Its acknowledgement is a notification, which has no place among the answers of a batch.
            Verdict::Listen(listen) if batch.is_some() => self.fault(out, Some(listen.id), Fault::BatchNotAllowed),
            Verdict::Listen(listen) => self.listen(caller, &listen, out),
            Verdict::Cancel(id) => return self.cancel(caller, id),
            Verdict::Reply(id, reply) => self.reply(caller, id, reply),
            Verdict::Progress(token, step) => self.progress(caller, token, step),
            Verdict::RootsChanged => {
                if let Some(interests) = &caller.session.interests {
                    interests.roots_changed();
                }
            }
            Verdict::Ignored(ignored) => self.house.ledger.ignored.add(ignored),
            Verdict::Faulted(fault) => self.house.ledger.faults.add(fault),
        }
        None
    }

    fn call(&mut self, caller: &mut Caller<'_, Guest>, call: &Call<'_>, batch: Option<u32>, out: &mut Vec<u8>) {
        let directory = Arc::clone(self.directory.load());
        match directory.route(&call.target) {
            Some((Server::Embedded(embedded), _)) => {
                let Some(toll) = self.admit(caller, call.id, None, out) else { return };
                match embedded.call(call, self.shard, out) {
                    Run::Done => {}
                    Run::Refused(refusal) => self.house.ledger.faults.add(refusal.fault),
                    Run::Later(sleep) => {
                        let cancelled = Arc::new(Notify::new());
                        let server = Arc::clone(&cancelled) as Arc<dyn Serves>;
                        let waits = self.wait(caller, (call.id, call.progress_token, batch), server, toll, out);
                        if let Some((ticket, place)) = waits {
                            embedded.serve(sleep, ticket, cancelled, place);
                        }
                    }
                }
            }
            Some((Server::Upstream(upstream), name)) => {
                let tool = matches!(call.target, Target::Tool(_)).then_some(name);
                let Some(toll) = self.admit(caller, call.id, Some((upstream, tool)), out) else { return };
                let server = Arc::clone(upstream) as Arc<dyn Serves>;
                let waits = self.wait(caller, (call.id, call.progress_token, batch), server, toll, out);
                if let Some((ticket, place)) = waits {
                    let share = self.house.guards.rules().accounts.of(caller.tenant).share;
                    let client = Client { tenant: caller.tenant, share, ..caller.client(upstream) };
                    let task = Task::new(Parcel::new(call, name), ticket, place, client);
                    upstream.push(Errand::Call(Box::new(task)));
                    if !self.unrung.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                        self.unrung.push(Arc::clone(upstream));
                    }
                }
            }
            None => {
                let refusal = unknown_target(call);
                self.house.ledger.faults.add(refusal.fault);
                refusal.write(out, Some(call.id));
            }
        }
    }

    /// Makes the client wait for an answer; nothing if it may not, which it is told in `out`.
    fn wait(
        &mut self,
        caller: &mut Caller<'_, Guest>,
        (id, progress_token, batch): (Id<'_>, Option<&str>, Option<u32>),
        server: Arc<dyn Serves>,
        toll: Toll,
        out: &mut Vec<u8>,
    ) -> Option<(Ticket, Seat)> {
        let place = self.place(caller, id, toll, out)?;
        let number = self.number();
        let (ticket, cancel) = Ticket::new(Arc::clone(caller.inbox), caller.key, number, server);
        let work = Work::Call { cancel, progress_token: progress_token.map(Into::into), watch: None };
        caller.calls().push(Pending { number, id: id.raw().into(), batch, work });
        Some((ticket, place))
    }

    fn subscribe(
        &mut self,
        caller: &mut Caller<'_, Guest>,
        id: Id<'_>,
        uri: Cow<'_, str>,
        batch: Option<u32>,
        out: &mut Vec<u8>,
    ) {
        let directory = Arc::clone(self.directory.load());
        let target = Target::Resource(uri);
        let Some((Server::Upstream(upstream), uri)) = directory.home(&target) else {
            self.house.ledger.faults.add(Fault::UnknownResource);
            // Only legacy clients ask so, and the code is the same in all their revisions.
            let revision = caller.session.revision().unwrap_or(mcp::Revision::V2025_11_25);
            return Fault::unknown_resource(target.name(), revision).write(out, Some(id));
        };
        if caller.interests().watches_at(upstream, uri) {
            return mcp::answer::empty_result(out, id);
        }
        if caller.watches() >= mcp::SUBSCRIPTIONS_MAX {
            return self.refuse(id, guard::Refusal::ClientWatches, None, out);
        }
        let Some(toll) = self.admit(caller, id, Some((upstream, None)), out) else { return };
        let Some(watched) = self.house.watches.take() else {
            self.house.guards.refund(toll);
            return self.refuse(id, guard::Refusal::WatchesFull, None, out);
        };
        let server = Arc::clone(upstream) as Arc<dyn Serves>;
        if let Some((ticket, place)) = self.wait(caller, (id, None, batch), server, toll, out) {
            let client = caller.watcher(upstream);
            let id = client.id;
            upstream.post(Errand::Watch { uri: uri.into(), task: Some((ticket, place)), client });
            caller.calls().watch_last(Watch::new(upstream, uri, id, watched));
        }
    }

    /// Opens a subscription, and keeps it. What nobody has is left out of the acknowledgement (spec 2026-07-28
    /// basic/patterns/subscriptions#acknowledgment).
    fn listen(&mut self, caller: &mut Caller<'_, Guest>, listen: &Listen<'_>, out: &mut Vec<u8>) {
        let most = self.house.client_in_flight_max(caller.tenant);
        let refusal = match self.house.guards.take_work(&self.house.pressure, caller.unread()) {
            Err(refusal) => Some(refusal),
            Ok(()) if caller.watches() + listen.uris.len() > mcp::SUBSCRIPTIONS_MAX => {
                Some(guard::Refusal::ClientWatches)
            }
            Ok(()) => (caller.calls().len() >= most).then_some(guard::Refusal::ClientInFlight),
        };
        if let Some(refusal) = refusal {
            return self.refuse(listen.id, refusal, None, out);
        }
        let directory = Arc::clone(self.directory.load());
        let (mut watches, mut honoured) = (Vec::new(), Vec::new());
        for asked in &listen.uris {
            let target = Target::Resource(Cow::Borrowed(asked));
            if let Some((Server::Upstream(upstream), uri)) = directory.home(&target) {
                let Some(watched) = self.house.watches.take() else {
                    return self.refuse(listen.id, guard::Refusal::WatchesFull, None, out);
                };
                let client = caller.watcher(upstream);
                watches.push(Watch::new(upstream, uri, client.id, watched));
                upstream.post(Errand::Watch { uri: uri.into(), task: None, client });
                honoured.push(Cow::Borrowed(&**asked));
            }
        }
        let none = if honoured.is_empty() { mcp::Topics::UPDATED.0 } else { 0 };
        let topics = mcp::Topics(listen.topics.0 & !none);
        mcp::answer::listen_acknowledged(out, listen.id, topics, &honoured);
        let number = self.number();
        let work = Work::Listen { topics, watches };
        caller.calls().push(Pending { number, id: listen.id.raw().into(), batch: None, work });
    }

    /// Cancelled requests are not answered (spec 2025-11-25 basic/utilities/cancellation), but a batch must still end.
    fn cancel(&self, caller: &mut Caller<'_, Guest>, id: Id<'_>) -> Option<Vec<u8>> {
        let calls = caller.active.as_mut().map(|active| &mut active.calls);
        let Some((calls, pending)) = calls.and_then(|calls| calls.take_id(id).map(|pending| (calls, pending))) else {
            self.house.ledger.ignored.add(mcp::Ignored::LateCancel);
            return None;
        };
        calls.forget_asked(pending.number);
        calls.settle_batched(pending.batch?, |_| {})
    }

    /// The client's reply to a question of a server.
    fn reply(&self, caller: &mut Caller<'_, Guest>, id: Id<'_>, reply: Result<&str, &str>) {
        let calls = caller.active.as_mut().map(|active| &mut active.calls);
        let question = id.raw().parse().ok().and_then(|number| calls?.take_asked(number));
        match question {
            Some(question) => question.settle(match reply {
                Ok(result) => Reply::Result(result.into()),
                Err(error) => Reply::Error(error.into()),
            }),
            None => self.house.ledger.ignored.add(mcp::Ignored::UnaskedReply),
        }
    }

    /// A step of the client towards its reply: its token is our number for the question.
    fn progress(&self, caller: &Caller<'_, Guest>, token: &str, step: String) {
        let calls = caller.active.as_ref().map(|active| &active.calls);
        match token.parse().ok().and_then(|number| calls?.find_asked(number)) {
            Some(question) => question.progress(step),
            None => self.house.ledger.ignored.add(mcp::Ignored::UnaskedProgress),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    pub(super) fn fault(&self, out: &mut Vec<u8>, id: Option<Id<'_>>, fault: Fault) {
        self.house.ledger.faults.add(fault);
        fault.because(fault.message()).write(out, id);
    }

    fn malformed(&self, out: &mut Vec<u8>, malformed: &Malformed<'_>) {
        self.house.ledger.defects.add(malformed.what);
        let refusal = crate::mcp::Refusal::from(*malformed);
        self.house.ledger.faults.add(refusal.fault);
        refusal.write(out, malformed.id);
    }

    /// The messages of a batch, one after another. Their answers leave as one array, when the last is there.
    fn batch(&mut self, talk: &mut Talk<'_, Guest>, batch: Batch<'_>) {
        if !talk.caller.session.session.accepts_batches() {
            return talk.say(|_, out| self.fault(out, None, Fault::BatchNotAllowed));
        }
        let House { config, .. } = &*self.house;
        let (most, bytes_most) = (config.batch_messages_max, config.outbox_bytes_high);
        if batch.len() > most {
            self.house.ledger.faults.add(Fault::TooLong);
            let message = format!("Invalid request: a batch of over {most} messages (conn.batch_messages_max)");
            return talk.say(|_, out| Fault::TooLong.because(message).write(out, None));
        }
        self.next_batch = self.next_batch.wrapping_add(1);
        let mut answers = vec![b'['];
        for message in batch {
            let before = answers.len();
            if before > 1 {
                answers.push(b',');
            }
            let start = answers.len();
            match message {
                // Between single messages a client that does not read is paused; here its answers cannot leave.
                Ok(Envelope { kind: Kind::Request { id, .. }, .. }) if start > bytes_most => {
                    self.refuse(id, guard::Refusal::ClientInFlight, None, &mut answers);
                }
                Ok(message) => {
                    if let Some(ended) = self.turn(&mut talk.caller, &message, Some(self.next_batch), &mut answers) {
                        talk.say(|_, out| out.extend_from_slice(&ended));
                    }
                }
                Err(malformed) => self.malformed(&mut answers, &malformed),
            }
            if answers.len() == start {
                answers.truncate(before);
            }
        }
        if talk.caller.active.as_ref().is_some_and(|active| active.calls.in_batch(self.next_batch) > 0) {
            talk.caller.calls().hold_batch(self.next_batch, answers);
        } else if answers.len() > 1 {
            answers.push(b']');
            talk.say(|_, out| out.extend_from_slice(&answers));
        }
    }
}

impl Service for Mcp {
    type Session = Guest;

    #[inline]
    fn message(&mut self, talk: &mut Talk<'_, Guest>, message: Message<'_>) -> Result<(), Parting> {
        let incoming = match message {
            Message::Text(text) => envelope::parse_str(text),
            Message::Unchecked(bytes) => envelope::parse(bytes),
            Message::Binary(_) => {
                talk.close(ws::close::UNSUPPORTED, "send MCP as text messages");
                return Err(Parting::BinaryMessage);
            }
        };
        match incoming {
            Ok(Incoming::One(message)) => talk.say(|caller, out| {
                if let Some(ended) = self.turn(caller, &message, None, out) {
                    out.extend_from_slice(&ended);
                }
            }),
            Ok(Incoming::Batch(batch)) => self.batch(talk, batch),
            Err(malformed) => talk.say(|_, out| self.malformed(out, &malformed)),
        }
        Ok(())
    }

    fn guest(session: &mut Guest) -> Option<&mut Guest> {
        Some(session)
    }

    fn session_bytes(guest: &Guest) -> usize {
        guest.interests.as_ref().map_or(0, |interests| interests.bytes())
    }

    fn param_headers(&mut self, tool: &str, params: &str) -> Vec<(String, String)> {
        self.directory.load().catalogue.param_headers().values(tool, params.trim_start_matches('{'))
    }

    fn letter(&mut self, talk: &mut Talk<'_, Guest>, letter: Letter) {
        self.read(talk, letter);
    }

    fn is_told(guest: &Guest, calls: Option<&super::calls::Calls>, news: &News) -> bool {
        Self::wants(guest, calls, news)
    }

    fn news(&mut self, talk: &mut Talk<'_, Guest>, news: &News) {
        self.tell(talk, news);
    }

    fn turned(&mut self) {
        for upstream in self.unrung.drain(..) {
            upstream.ring();
        }
        if self.lists > 0 {
            self.house.lists.fetch_add(std::mem::take(&mut self.lists), Ordering::Relaxed);
        }
    }

    fn last_words(&mut self, talk: &mut Talk<'_, Guest>) {
        self.end_subscriptions(talk);
    }
}

/// Whether a list of the catalogue is asked for: each method of one ends so, and no other that is answered here.
fn is_list(message: &Envelope<'_>) -> bool {
    matches!(&message.kind, Kind::Request { method, .. } if method.ends_with("/list"))
}

impl Caller<'_, Guest> {
    fn interests(&mut self) -> &mut Interests {
        self.session.interests.get_or_insert_default()
    }

    /// How many resources it watches, however it asked to.
    fn watches(&self) -> usize {
        self.session.interests.as_ref().map_or(0, |interests| interests.watching())
            + self.active.as_ref().map_or(0, |active| active.calls.watches())
    }

    /// Bytes of answers that it has not read.
    pub(super) fn unread(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.unsent())
    }

    /// What tells it from others at the upstream; where it has a session of its own there, that ends with it.
    fn client_id(&mut self, upstream: &Arc<Upstream>) -> u128 {
        let id = self.client;
        if upstream.per_session {
            self.interests().visit(upstream, id);
        }
        id
    }

    /// Who watches, as the upstream sees it: as long as it does, also one without a session can be told from others.
    fn watcher(&mut self, upstream: &Arc<Upstream>) -> Box<Client> {
        let id = self.client_id(upstream);
        Box::new(Client { id, ..self.client(upstream) })
    }

    /// Who asks, as the upstream sees it.
    fn client(&mut self, upstream: &Arc<Upstream>) -> Client {
        let id = if self.stateless { 0 } else { self.client_id(upstream) };
        let session = &self.session.session;
        let (profile, can_be_asked) = (session.profile().cloned(), session.revision().is_some());
        Client { id, profile, can_be_asked, ..Client::default() }
    }
}

/// Nobody has what is asked for.
fn unknown_target(call: &Call<'_>) -> Refusal<'static> {
    let name = fault::excerpt(call.target.name());
    match call.target {
        Target::Tool(_) => Fault::UnknownTool.because(format!("Unknown tool: {name}; see tools/list for the names")),
        Target::Prompt(_) => {
            Fault::UnknownPrompt.because(format!("Unknown prompt: {name}; see prompts/list for the names"))
        }
        Target::Resource(_) if call.method == mcp::Method::ReadResource => {
            Fault::unknown_resource(call.target.name(), call.revision)
        }
        Target::Resource(_) => {
            Fault::UnknownResource.because(format!("Resource not found: {name}; see resources/list for what there is"))
        }
    }
}
