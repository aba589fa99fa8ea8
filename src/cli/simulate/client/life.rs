//! The life of one client, a pure machine: bytes in, bytes out, no socket and no clock.

mod streamable;

use super::script::{self, Heard, Who};
use super::speech::{self, Spoken};
use crate::cli::simulate::Dialect;
use crate::cli::simulate::order::{Cause, Death};

/// How far a client is. All but `Idle` and `Gone` wait for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// The WebSocket upgrade is asked for.
    Upgrading,
    Initializing,
    /// Over HTTP `notifications/initialized` is a request of its own; elsewhere it is sent in one write with the call.
    Confirming,
    Calling,
    /// The stream is asked for.
    Opening,
    /// The stream is open, and its first message is to say that the subscription stands.
    Subscribing,
    Idle,
    Pinging,
    /// Calls once more.
    Recalling,
    /// Calls for a large answer.
    Fetching,
    /// Calls what nobody offers.
    Mistaken,
    /// A change was made that the client must be told of.
    Awaiting,
    /// The WebSocket close frame is sent, or the DELETE of the session.
    Leaving,
    Gone,
}

impl Phase {
    /// Whether the client is connected, handshaken, and had its echo checked.
    pub(super) fn is_settled(self) -> bool {
        let asks = matches!(self, Self::Pinging | Self::Recalling | Self::Fetching | Self::Mistaken);
        asks || matches!(self, Self::Idle | Self::Awaiting | Self::Leaving)
    }
}

/// What is kept of a client beside its socket.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) phase: Phase,
    /// The list of tools has changed, it was told; who asks for that takes the mark away.
    pub(super) told: bool,
    dialect: Dialect,
    /// Makes no first call.
    quiet: bool,
    /// Whether the events of its stream come in chunks.
    chunked: bool,
    /// The id of its session over HTTP.
    session: Option<Box<str>>,
}

impl Life {
    /// `dialect` is not [`Dialect::Mixed`].
    pub(super) fn new(dialect: Dialect, quiet: bool) -> Self {
        Self { phase: Phase::Connecting, told: false, dialect, quiet, chunked: false, session: None }
    }

    pub(super) fn waits(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Gone)
    }

    /// The connection stands: says the first words.
    pub(super) fn connected(&mut self, who: Who, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::Http | Dialect::Listen => self.begin(who, out),
            Dialect::Ws => {
                self.phase = Phase::Upgrading;
                speech::upgrade(who, out);
            }
            Dialect::Tcp | Dialect::Mixed => self.initialize(who, out),
        }
    }

    /// Asks for an answer, over a messenger if its own connection is a stream.
    pub(super) fn ping(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Pinging;
        if self.dialect.is_http() {
            self.ask(who, out);
        } else {
            speech::say(self.is_ws(), who, out, |out| script::ping(out, who));
        }
    }

    /// Calls again, as in the handshake.
    pub(super) fn call_again(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Recalling;
        if self.dialect.is_http() {
            self.call(who, out);
        } else {
            speech::say(self.is_ws(), who, out, |out| script::call(out, who, false));
        }
    }

    /// Calls for a large answer.
    pub(super) fn call_for_much(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Fetching;
        self.call_tool(who, script::BLOB, out);
    }

    /// Calls a tool that nobody offers.
    pub(super) fn call_nobody(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Mistaken;
        self.call_tool(who, script::NOBODYS, out);
    }

    fn call_tool(&self, who: Who, tool: script::Tool, out: &mut Vec<u8>) {
        if self.dialect.is_http() {
            self.post_tool(who, tool, out);
        } else {
            speech::say(self.is_ws(), who, out, |out| script::call_tool(out, who, tool, false));
        }
    }

    /// Takes leave. A WebSocket client is gone when the gateway has answered, one with a session when the messenger's
    /// DELETE is answered, all others at once.
    pub(super) fn leave(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Leaving;
        if self.is_ws() {
            speech::close(who, out);
        } else if !self.end_session(who, out) {
            self.phase = Phase::Gone;
        }
    }

    /// Handles the whole messages in `bytes`, appends what is to be said to `out`, and returns how many bytes are
    /// done with. A message that is not complete stays.
    pub(super) fn hear(&mut self, bytes: &mut [u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let taken = match self.phase {
                Phase::Gone => rest.len(),
                Phase::Upgrading => self.hear_upgrade(rest, who, out)?,
                _ if self.dialect.is_http() => self.hear_http(rest, who, out)?,
                _ => self.hear_message(rest, who, out)?,
            };
            if taken == 0 {
                break;
            }
            done += taken;
        }
        Ok(done)
    }

    /// The gateway has closed: right only for a client that takes leave.
    pub(super) fn closed(&mut self) -> Result<(), Death> {
        match self.phase {
            // The session ends its stream; the answer to the DELETE is still to come.
            Phase::Leaving if self.dialect.is_http() => Ok(()),
            Phase::Leaving | Phase::Gone => {
                self.phase = Phase::Gone;
                Ok(())
            }
            phase => {
                let cause = if phase == Phase::Connecting { Cause::ConnectFailed } else { Cause::Closed };
                Err(Death::new(cause, format!("closed by the gateway while {phase:?}")))
            }
        }
    }

    pub(super) fn is_ws(&self) -> bool {
        self.dialect == Dialect::Ws
    }

    fn initialize(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Initializing;
        speech::say(self.is_ws(), who, out, script::initialize);
    }

    fn hear_upgrade(&mut self, bytes: &[u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        let Some(head) = speech::upgraded(bytes)? else { return Ok(0) };
        self.initialize(who, out);
        Ok(head)
    }

    fn hear_message(&mut self, bytes: &mut [u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        let Some((spoken, length)) = speech::next(self.is_ws(), bytes)? else { return Ok(0) };
        match spoken {
            Spoken::Message(message) => self.answer(message, who, out)?,
            Spoken::Ping(payload) => speech::pong(who, payload, out),
            Spoken::Nothing => {}
            Spoken::Close(_) if self.phase == Phase::Leaving => self.phase = Phase::Gone,
            Spoken::Close(code) => {
                return Err(Death::new(Cause::Closed, format!("close code {code} while {:?}", self.phase)));
            }
        }
        Ok(length)
    }

    fn answer(&mut self, message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<(), Death> {
        if self.is_told(message, who)? {
            return Ok(());
        }
        let mut aside = Vec::new();
        let heard = match self.phase {
            Phase::Initializing => script::hear_initialize(message, &mut aside)?,
            Phase::Calling | Phase::Recalling => script::hear_call(message, who, &mut aside)?,
            Phase::Fetching => script::hear_blob(message, who, &mut aside)?,
            Phase::Mistaken => script::hear_refusal(message, who, &mut aside)?,
            Phase::Pinging => script::hear_ping(message, who, &mut aside)?,
            _ => script::hear_idle(message, &mut aside)?,
        };
        match (heard, self.phase) {
            (Heard::Aside, _) if aside.is_empty() => {}
            (Heard::Aside, _) => speech::say(self.is_ws(), who, out, |out| out.extend_from_slice(&aside)),
            (Heard::Answer, Phase::Initializing) => {
                speech::say(self.is_ws(), who, out, script::initialized);
                if self.quiet {
                    self.phase = Phase::Idle;
                } else {
                    self.phase = Phase::Calling;
                    speech::say(self.is_ws(), who, out, |out| script::call(out, who, false));
                }
            }
            (Heard::Answer, _) => self.phase = Phase::Idle,
        }
        Ok(())
    }

    /// Whether the message says that the list of tools has changed; who awaits that is then idle.
    fn is_told(&mut self, message: &[u8], who: Who) -> Result<bool, Death> {
        let told = script::hear_changed(message, who, self.dialect == Dialect::Listen)?;
        self.told |= told;
        if told && self.phase == Phase::Awaiting {
            self.phase = Phase::Idle;
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Who = Who::example(3);
    const WELCOME: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;

    /// A TCP client that has been welcomed, and the text that it then called `echo` with.
    fn called() -> (Life, String) {
        let (mut life, mut out) = (Life::new(Dialect::Tcp, false), Vec::new());
        life.connected(ME, &mut out);
        assert_eq!(life.phase, Phase::Initializing);
        out.clear();
        let mut welcome = format!("{WELCOME}\n").into_bytes();
        assert_eq!(life.hear(&mut welcome, ME, &mut out).expect("welcome"), welcome.len());
        let said = String::from_utf8(out).expect("utf-8");
        let call: serde_json::Value =
            serde_json::from_str(said.lines().nth(1).expect("two lines in one write")).expect("json");
        (life, call["params"]["arguments"]["text"].as_str().expect("text").to_owned())
    }

    #[test]
    fn a_tcp_client_goes_from_initialize_to_idle() {
        let (mut life, text) = called();
        let mut answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"call-3\",\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}}}\n").into_bytes();
        let half = answer.len() / 2;
        assert_eq!(life.hear(&mut answer[..half], ME, &mut Vec::new()).expect("half"), 0, "half a line stays");
        assert_eq!(life.phase, Phase::Calling);
        life.hear(&mut answer, ME, &mut Vec::new()).expect("echo");
        assert_eq!(life.phase, Phase::Idle);
        let mut out = Vec::new();
        life.ping(ME, &mut out);
        life.hear(&mut b"{\"jsonrpc\":\"2.0\",\"id\":1000000003,\"result\":{}}\n".to_vec(), ME, &mut out)
            .expect("pong");
        assert_eq!(life.phase, Phase::Idle);
    }

    #[test]
    fn a_quiet_client_is_in_without_a_call() {
        let (mut life, mut out) = (Life::new(Dialect::Tcp, true), Vec::new());
        life.connected(ME, &mut out);
        out.clear();
        life.hear(&mut format!("{WELCOME}\n").into_bytes(), ME, &mut out).expect("welcome");
        assert_eq!(life.phase, Phase::Idle);
        assert_eq!(String::from_utf8_lossy(&out).lines().count(), 1, "only the notification");
    }

    #[test]
    fn who_awaits_a_change_is_idle_when_it_is_told() {
        let (mut life, _) = called();
        life.phase = Phase::Awaiting;
        life.hear(
            &mut b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/prompts/list_changed\"}\n".to_vec(),
            ME,
            &mut Vec::new(),
        )
        .expect("another list");
        assert!(life.phase == Phase::Awaiting && !life.told);
        life.hear(
            &mut b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n".to_vec(),
            ME,
            &mut Vec::new(),
        )
        .expect("the list");
        assert!(life.phase == Phase::Idle && life.told);
    }

    #[test]
    fn an_answer_nobody_asked_for_is_a_death() {
        let (mut life, _) = called();
        let death =
            life.hear(&mut format!("{WELCOME}\n").into_bytes(), ME, &mut Vec::new()).expect_err("a second welcome");
        assert_eq!(death.cause, Cause::WrongId);
    }

    #[test]
    fn a_close_by_the_gateway_is_a_death_but_for_who_leaves() {
        let (mut life, _) = called();
        assert_eq!(life.closed().expect_err("not asked to").cause, Cause::Closed);
        life.phase = Phase::Leaving;
        assert!(life.closed().is_ok() && life.phase == Phase::Gone);
    }
}
