//! A server behind the gateway that takes its time: so many calls at once, each for so long; the others wait in a line.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// Calls that may wait in line; a gateway that sends more is not read on.
const LINE_MAX: usize = 100_000;

/// What it has seen since the count was begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli::simulate) struct SlowCounts {
    /// Calls that came.
    pub(in crate::cli::simulate) asked: u64,
    /// Calls that were answered.
    pub(in crate::cli::simulate) served: u64,
    /// The most calls that it had at once, in hand and in line.
    pub(in crate::cli::simulate) most: u64,
}

pub(in crate::cli::simulate) struct SlowServer {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicU64,
    asked: AtomicU64,
    served: AtomicU64,
    here: AtomicU64,
    most: AtomicU64,
}

/// A call in line: its answer, and where that goes.
struct Job {
    answer: String,
    to: Arc<Mutex<TcpStream>>,
}

impl SlowServer {
    /// Its threads end with the process.
    pub(super) fn start(slots: u32, service: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (line, waiting) = sync_channel::<Job>(LINE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for slot in 0..slots {
            let (waiting, shared) = (Arc::clone(&waiting), Arc::clone(&shared));
            std::thread::Builder::new().name(format!("slow-{slot}")).spawn(move || shared.serve(&waiting, service))?;
        }
        let attended = Arc::clone(&shared);
        std::thread::Builder::new().name("slow".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, line) = (Arc::clone(&attended), line.clone());
                // A connection that fails ends its thread; the gateway connects again.
                let attend = move || drop(shared.attend(stream, &line));
                if std::thread::Builder::new().name("slow-one".into()).spawn(attend).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, shared })
    }

    pub(super) fn is_visited(&self) -> bool {
        self.shared.connected.load(Ordering::SeqCst) > 0
    }

    /// Counts from nothing.
    pub(super) fn begin_count(&self) {
        let Shared { asked, served, here, most, .. } = &*self.shared;
        asked.store(0, Ordering::SeqCst);
        served.store(0, Ordering::SeqCst);
        most.store(here.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub(super) fn counts(&self) -> SlowCounts {
        let Shared { asked, served, most, .. } = &*self.shared;
        SlowCounts {
            asked: asked.load(Ordering::SeqCst),
            served: served.load(Ordering::SeqCst),
            most: most.load(Ordering::SeqCst),
        }
    }
}

impl Shared {
    /// One slot: takes the next call in line, holds it, and answers.
    fn serve(&self, waiting: &Mutex<Receiver<Job>>, service: Duration) {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            std::thread::sleep(service);
            self.here.fetch_sub(1, Ordering::SeqCst);
            self.served.fetch_add(1, Ordering::SeqCst);
            // A gateway that is gone has no use for it.
            let _ = job.to.lock().unwrap_or_else(PoisonError::into_inner).write_all(job.answer.as_bytes());
        }
    }

    fn attend(&self, stream: TcpStream, line: &SyncSender<Job>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let to = Arc::new(Mutex::new(stream.try_clone()?));
        for text in BufReader::new(stream).lines() {
            let request: Value = serde_json::from_str(&text?)?;
            let Some(answer) = answer(&request) else { continue };
            let answer = answer.to_string() + "\n";
            if request["method"] == "tools/call" {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let here = self.here.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(here, Ordering::SeqCst);
                line.send(Job { answer, to: Arc::clone(&to) }).map_err(|_| io::ErrorKind::BrokenPipe)?;
                continue;
            }
            to.lock().unwrap_or_else(PoisonError::into_inner).write_all(answer.as_bytes())?;
            if request["method"] == "initialize" {
                self.connected.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

fn answer(request: &Value) -> Option<Value> {
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    super::answer(request, "slow", &json!([{"name": "echo", "inputSchema": schema}]))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_holds_as_many_calls_as_it_has_slots_and_the_rest_wait() {
        let service = Duration::from_millis(100);
        let server = SlowServer::start(2, service).expect("a port");
        let mut stream = TcpStream::connect(server.address).expect("connected");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let begun = Instant::now();
        for id in 0..4 {
            let call =
                json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"arguments": {"text": "x"}}});
            writeln!(stream, "{call}").expect("sent");
        }
        let mut ids: Vec<u64> = Vec::new();
        for line in lines.by_ref().take(4) {
            let answer: Value = serde_json::from_str(&line.expect("read")).expect("JSON");
            assert_eq!(answer["result"]["content"][0]["text"], "x");
            ids.extend(answer["id"].as_u64());
        }
        assert!(begun.elapsed() >= service * 2, "two at once");
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3]);
        let counts = server.counts();
        assert_eq!((counts.asked, counts.served), (4, 4));
        assert!((2..=4).contains(&counts.most), "{counts:?}");
        server.begin_count();
        assert_eq!(server.counts(), SlowCounts::default());
    }
}
