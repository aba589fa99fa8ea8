//! The life of one client, a pure machine: bytes in, bytes out, no socket and no clock.

use super::script::{self, Heard, Who};
use super::speech::{self, Spoken};
use crate::cli::simulate::order::{Cause, Death};

/// How far a client is. All but `Idle` and `Gone` wait for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// The WebSocket upgrade is asked for.
    Upgrading,
    Initializing,
    /// `notifications/initialized` and the call are sent in one write.
    Calling,
    Idle,
    Pinging,
    /// The WebSocket close frame is sent.
    Leaving,
    Gone,
}

/// What is kept of a client beside its socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) phase: Phase,
    pub(super) ws: bool,
}

impl Life {
    pub(super) fn new(ws: bool) -> Self {
        Self { phase: Phase::Connecting, ws }
    }

    pub(super) fn waits(self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Gone)
    }

    /// The connection stands: says the first words.
    pub(super) fn connected(&mut self, who: Who, out: &mut Vec<u8>) {
        if self.ws {
            self.phase = Phase::Upgrading;
            speech::upgrade(who, out);
        } else {
            self.initialize(who, out);
        }
    }

    pub(super) fn ping(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Pinging;
        speech::say(self.ws, who, out, |out| script::ping(out, who));
    }

    /// Takes leave. A TCP client is gone at once, a WebSocket client when the gateway has answered.
    pub(super) fn leave(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = if self.ws {
            speech::close(who, out);
            Phase::Leaving
        } else {
            Phase::Gone
        };
    }

    /// Handles the whole messages in `bytes`, appends what is to be said to `out`, and returns how many bytes are
    /// done with. A message that is not complete stays.
    pub(super) fn hear(&mut self, bytes: &mut [u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            if self.phase == Phase::Upgrading {
                let Some(head) = speech::upgraded(rest)? else {
                    break;
                };
                done += head;
                self.initialize(who, out);
                continue;
            }
            let Some((spoken, length)) = speech::next(self.ws, rest)? else {
                break;
            };
            done += length;
            match spoken {
                Spoken::Message(message) => self.answer(message, who, out)?,
                Spoken::Ping(payload) => speech::pong(who, payload, out),
                Spoken::Nothing => {}
                Spoken::Close(_) if self.phase == Phase::Leaving => self.phase = Phase::Gone,
                Spoken::Close(code) => {
                    return Err(Death::new(Cause::Closed, format!("close code {code} while {:?}", self.phase)));
                }
            }
        }
        Ok(done)
    }

    /// The gateway has closed: right only for a client that takes leave.
    pub(super) fn closed(&mut self) -> Result<(), Death> {
        if self.phase == Phase::Leaving {
            self.phase = Phase::Gone;
            return Ok(());
        }
        let cause = if self.phase == Phase::Connecting { Cause::ConnectFailed } else { Cause::Closed };
        Err(Death::new(cause, format!("closed by the gateway while {:?}", self.phase)))
    }

    fn initialize(&mut self, who: Who, out: &mut Vec<u8>) {
        self.phase = Phase::Initializing;
        speech::say(self.ws, who, out, script::initialize);
    }

    fn answer(&mut self, message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<(), Death> {
        let mut aside = Vec::new();
        let heard = match self.phase {
            Phase::Initializing => script::hear_initialize(message, &mut aside)?,
            Phase::Calling => script::hear_call(message, who, &mut aside)?,
            Phase::Pinging => script::hear_ping(message, who, &mut aside)?,
            _ => script::hear_idle(message, &mut aside)?,
        };
        match (heard, self.phase) {
            (Heard::Aside, _) if aside.is_empty() => {}
            (Heard::Aside, _) => speech::say(self.ws, who, out, |out| out.extend_from_slice(&aside)),
            (Heard::Answer, Phase::Initializing) => {
                self.phase = Phase::Calling;
                speech::say(self.ws, who, out, script::initialized);
                speech::say(self.ws, who, out, |out| script::call(out, who));
            }
            (Heard::Answer, _) => self.phase = Phase::Idle,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Who = Who::example(3);
    const WELCOME: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}"#;

    /// A TCP client that has been welcomed, and the text that it then called `echo` with.
    fn called() -> (Life, String) {
        let (mut life, mut out) = (Life::new(false), Vec::new());
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
