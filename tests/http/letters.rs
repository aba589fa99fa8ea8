//! What comes for a client from elsewhere: news, notices and questions, each on the stream where it belongs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use lakh::actor::{Asks, Letter, Mail, News, Order, Question, QuestionName, Reply, Sibling, Unread, Word};
use lakh::conn::Connections;
use lakh::mcp::Topics;
use lakh::pool::Key;
use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::{PATIENCE, Shard, call, eventually, house, mcp, request};

fn shard() -> Shard {
    Shard::run(move || {
        let house = house(100);
        let service = mcp(&house);
        Connections::new(house, 100, service)
    })
}

/// The one connection that does this.
fn key(shard: &Shard, dialect: &str) -> Key {
    let mut found = None;
    assert!(eventually(|| {
        found = shard.census().into_iter().find(|resident| resident.dialect == dialect);
        found.is_some()
    }));
    Key::from_bits(found.expect("one").key)
}

fn spread(shard: &Shard, topic: Topics) {
    let news = Arc::new(News { topic: topic.0, subject: None, only: None });
    shard.berth.inbox.post(Mail::Order(Order::Spread { news, after: None }));
}

struct Asker(SyncSender<Reply>);

impl Asks for Asker {
    fn replied(&self, _: u64, reply: Reply) {
        drop(self.0.try_send(reply));
    }

    fn progressed(&self, _: u64, _: String, _: Unread) {}
}

fn ask(shard: &Shard, to: Key, call: Option<u64>) -> Receiver<Reply> {
    let (tell, told) = sync_channel(1);
    let question = Box::new(Question::new("roots/list", None, QuestionName::new(Arc::new(Asker(tell)), 1)));
    let letter = match call {
        Some(call) => Letter::Ask { call, question },
        None => Letter::Word(Word::Ask(question)),
    };
    shard.berth.inbox.post(Mail::Letter(to, letter));
    told
}

fn reply(client: &Http, id: &Value) {
    let answer = client.sibling().post(&json!({"jsonrpc": "2.0", "id": id, "result": {"roots": []}}));
    assert_eq!((answer.status, &*answer.body), (202, ""));
}

#[test]
fn news_reach_the_stream_of_each_session_once_and_come_again_to_who_was_away() {
    let shard = shard();
    let mut client = Http::open(shard.clients, "2025-11-25");
    let mut stream = client.sibling();
    assert!(stream.get("").is_stream());
    spread(&shard, Topics::TOOLS);
    assert_eq!(stream.event().and_then(|event| event.id).as_deref(), Some("0-0"));
    let event = stream.event().expect("news");
    assert_eq!(event.id.as_deref(), Some("0-1"));
    assert!(event.data.is_some_and(|data| data.contains("notifications/tools/list_changed")));
    spread(&shard, Topics::PROMPTS);
    assert_eq!(stream.event_message()["method"], "notifications/prompts/list_changed");
    drop(stream);
    let mut stream = client.sibling();
    assert!(stream.get("Last-Event-ID: 0-1\r\n").is_stream());
    assert_eq!(stream.event_message()["method"], "notifications/prompts/list_changed");
    spread(&shard, Topics::RESOURCES);
    let event = stream.event().expect("news");
    assert_eq!(event.id.as_deref(), Some("0-3"), "no id is used twice");
    assert_eq!(client.post(&request(1, "ping", &json!({}))).json()["id"], 1, "other connections hear nothing");
}

#[test]
fn who_had_no_stream_is_told_on_the_next_one_which_lists_have_changed() {
    let shard = shard();
    let client = Http::open(shard.clients, "2025-11-25");
    let mut witness = client.sibling();
    assert!(witness.get("").is_stream());
    let away = Http::open(shard.clients, "2025-11-25");
    for topic in [Topics::TOOLS, Topics::TOOLS, Topics::RESOURCES] {
        spread(&shard, topic);
        witness.event_message();
    }
    let mut stream = away.sibling();
    assert!(stream.get("").is_stream());
    assert_eq!(stream.event().and_then(|event| event.id).as_deref(), Some("0-0"));
    for (id, list) in [("0-1", "tools"), ("0-2", "resources")] {
        let event = stream.event().expect("news");
        assert_eq!(event.id.as_deref(), Some(id));
        assert!(event.data.is_some_and(|data| data.contains(&format!("notifications/{list}/list_changed"))));
    }
    drop((stream, witness));
    assert!(eventually(|| shard.census().iter().all(|resident| resident.dialect != "http_stream")));
    let mut stream = away.sibling();
    assert!(stream.get("Last-Event-ID: 0-2\r\n").is_stream());
    spread(&shard, Topics::PROMPTS);
    assert_eq!(stream.event_message()["method"], "notifications/prompts/list_changed", "the others were told");
}

#[test]
fn a_subscription_hears_what_it_asked_for_under_its_own_id() {
    let shard = shard();
    let mut listeners: Vec<Http> = Vec::new();
    for (id, filter) in [(7, "toolsListChanged"), (8, "promptsListChanged")] {
        let mut listener = Http::connect(shard.clients);
        listener.say_modern(id, "subscriptions/listen", &json!({"notifications": {filter: true}}));
        assert!(listener.answer().is_stream());
        listener.event_message();
        listeners.push(listener);
    }
    for _ in 0..3 {
        spread(&shard, Topics::TOOLS);
        let message = listeners[0].event_message();
        assert_eq!(message["method"], "notifications/tools/list_changed");
        assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
    }
    assert!(listeners[1].hears_nothing(std::time::Duration::from_millis(100)));
}

#[test]
fn a_question_comes_on_the_stream_of_its_call_and_its_reply_on_another_connection() {
    let shard = shard();
    let mut client = Http::open(shard.clients, "2025-06-18");
    client.say(&call(5, "sleep", &json!({"ms": 60_000})));
    let to = key(&shard, "http_answering");
    let told = ask(&shard, to, Some(1));
    assert!(client.answer().is_stream());
    let question = client.event_message();
    assert_eq!(question["method"], "roots/list");
    let nobody_asked = json!({"jsonrpc": "2.0", "id": "nobody asked this", "result": {}});
    let answer = client.sibling().post(&nobody_asked);
    assert!(answer.status == 400 && answer.head.contains("text/plain"), "{answer:?}");
    reply(&client, &question["id"]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Reply::Result(br#"{"roots":[]}"#.to_vec())));
    reply(&client, &question["id"]);
    let told = ask(&shard, to, Some(1));
    client.event_message();
    drop(client);
    // Its events have ids: the call goes on without it, and so does the question.
    assert!(told.recv_timeout(std::time::Duration::from_millis(100)).is_err());
}

#[test]
fn a_letter_for_who_was_served_before_does_not_touch_who_is_served_now() {
    let shard = shard();
    let mut client = Http::open(shard.clients, "2025-11-25");
    client.say(&call(5, "sleep", &json!({"ms": 60_000})));
    let to = key(&shard, "http_answering");
    let cancel = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}});
    for sibling in [Sibling::Message(cancel.to_string().into()), Sibling::Ended] {
        // Places are counted from one: this is none of a client's.
        shard.berth.inbox.post(Mail::Letter(to, Letter::Sibling { to: u32::MAX, sibling }));
    }
    let told = ask(&shard, to, Some(1));
    assert!(client.answer().is_stream());
    assert_eq!(client.event_message()["method"], "roots/list", "the call is still there, and so is the session");
    drop(told);
}

#[test]
fn a_question_that_belongs_to_no_call_comes_on_the_stream_of_the_session() {
    let shard = shard();
    let client = Http::open(shard.clients, "2025-11-25");
    let mut stream = client.sibling();
    assert!(stream.get("").is_stream());
    let to = key(&shard, "http_stream");
    let told = ask(&shard, to, None);
    let question = stream.event_message();
    reply(&client, &question["id"]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Reply::Result(br#"{"roots":[]}"#.to_vec())));
    let told = ask(&shard, to, None);
    stream.event_message();
    drop(stream);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Reply::Gone));
}
