//! One gateway takes the listening sockets over from another, while clients come, call and go: nobody is refused, and no
//! answer is lost.

mod peer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::json;

use peer::http::Http;
use peer::{Heard, PATIENCE, Peer, Process, call, eventually};

/// A client that has paused for longer, on a busy machine, may be told to go between two calls and not know it yet: half a
/// second is the rule, and this is on the safe side of it.
const PAUSE: Duration = Duration::from_millis(400);

/// Where one test's gateways hand over; removed with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("lakh-upgrade-{}-{number}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("text")
    }

    /// A gateway that offers its sockets here; with `--take-over` where these flags say so.
    fn start(&self, flags: &[&str], shards: &str) -> Process {
        Process::in_front_of(flags, &[("LAKH_UPGRADE_SOCKET", self.text()), ("LAKH_SHARDS", shards)])
    }

    /// The same, for one that is not expected to serve.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
        command.args(["serve", "--take-over"]).env("LAKH_UPGRADE_SOCKET", self.text()).env("LAKH_LOG", "off");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The process that answers at the operator's port.
fn pid_at(admin: SocketAddr) -> u64 {
    let mut client = TcpStream::connect_timeout(&admin, PATIENCE).expect("a connection");
    let request = format!("GET /health HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let health: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    health["pid"].as_u64().expect("a pid")
}

/// What the clients of a load have seen, all together.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    /// Parted between two calls, where their client had paused for long.
    parted: AtomicU64,
    over: AtomicBool,
}

/// One client's calls, and its longest pause between two steps.
struct Visit<'s> {
    seen: &'s Seen,
    stepped: Instant,
    longest: Duration,
}

impl Visit<'_> {
    fn step(&mut self) {
        self.longest = self.longest.max(self.stepped.elapsed());
        self.stepped = Instant::now();
    }

    fn answered(&mut self, right: bool) {
        assert!(right, "not the answer");
        self.step();
        self.seen.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Connects in the dialect of this number and makes three calls.
    fn make(&mut self, to: SocketAddr, dialect: usize) {
        let sleep = json!({"name": "sleep", "arguments": {"ms": 20}});
        if dialect == 2 {
            let mut client = Http::connect(to);
            for id in 1..=3 {
                self.step();
                let answer = client.post_modern(id, "tools/call", &sleep);
                self.answered(answer.status == 200);
                if answer.line("connection") == Some("close") {
                    client = Http::connect(to);
                }
            }
            return;
        }
        let mut client = if dialect == 0 { Peer::line(to) } else { Peer::websocket(to) };
        for id in 1..=3 {
            self.step();
            let answer = client.ask(&call(id, "sleep", &sleep["arguments"]));
            self.answered(answer["result"]["structuredContent"]["sleptMs"] == 20 && answer["id"] == id);
        }
    }
}

/// The load ends with its owner, also where that fails.
struct UntilDropped<'s>(&'s Seen);

impl Drop for UntilDropped<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    /// Clients come, call and go until it is over.
    fn load(&self, to: SocketAddr, first: usize) {
        for dialect in first.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if TcpStream::connect_timeout(&to, PATIENCE).is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut visit = Visit { seen: self, stepped: Instant::now(), longest: Duration::ZERO };
            if catch_unwind(AssertUnwindSafe(|| visit.make(to, dialect % 3))).is_err() {
                visit.step();
                let count = if visit.longest > PAUSE { &self.parted } else { &self.lost };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

#[test]
fn nobody_is_refused_and_no_answer_is_lost_while_one_takes_over_from_another() {
    let place = Place::new();
    let mut first = place.start(&[], "2");
    let (clients, admin) = (first.clients, first.admin);
    let (mut idle, mut busy) = (Peer::line(clients), Peer::websocket(clients));
    let seen = Seen::default();
    thread::scope(|scope| {
        let loads: [_; 4] = std::array::from_fn(|first| {
            let seen = &seen;
            scope.spawn(move || seen.load(clients, first))
        });
        let load = UntilDropped(&seen);
        let goes_on = |calls: u64| {
            let from = seen.answered();
            assert!(eventually(|| seen.answered() >= from + calls), "the load goes on");
        };
        goes_on(50);
        busy.say(&call(7, "sleep", &json!({"ms": 3_000})));
        // More shards than sockets, then fewer: they share them, or have several.
        let mut second = place.start(&["--take-over"], "3");
        assert_eq!((second.clients, second.admin), (clients, admin), "the same addresses");
        assert_eq!(idle.hear(), Heard::End, "it is told to go");
        assert_eq!(busy.hear_message()["result"]["structuredContent"]["sleptMs"], 3_000, "but not before its answer");
        assert_eq!(busy.hear(), Heard::Close(1001));
        let ended = first.ended_within(PATIENCE).expect("the one before ends by itself");
        assert_eq!(ended.code(), Some(0));
        assert_eq!(pid_at(admin), u64::from(second.id()));
        goes_on(50);
        let mut third = place.start(&["--take-over"], "1");
        let ended = second.ended_within(PATIENCE).expect("and the next one too");
        assert_eq!(ended.code(), Some(0));
        assert_eq!((third.clients, pid_at(admin)), (clients, u64::from(third.id())));
        goes_on(50);
        drop(load);
        loads.into_iter().for_each(|load| load.join().expect("it counts its failures"));
        assert!(third.ended_within(Duration::ZERO).is_none());
        third.signal(SIGTERM);
        assert!(eventually(|| TcpStream::connect_timeout(&clients, PATIENCE).is_err()), "nobody follows this one");
        assert_eq!(third.ended_within(PATIENCE).and_then(|status| status.code()), Some(0));
        assert!(!place.0.exists(), "nor is anything left of it");
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!("{} calls answered, {} clients parted after a pause", seen.answered(), count(&seen.parted));
    assert_eq!((count(&seen.refused), count(&seen.lost)), (0, 0), "refused and lost, of {}", seen.answered());
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let place = Place::new();
    let mut gateway = place.start(&[], "2");
    let mut client = Peer::line(gateway.clients);
    // It learns that it cannot start when it has the sockets already.
    let failed = place.command().env("LAKH_GUARD_CONNECTIONS_MAX", "0").output().expect("lakh runs");
    assert_eq!(failed.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("guard.connections_max"), "{failed:?}");
    // And one that is killed while it starts, which takes it long.
    let mute = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let server = mute.local_addr().expect("an address").to_string();
    let mut command = place.command();
    command.args(["--tcp", &server]).env("LAKH_UPSTREAMS_START_MS", "60000").stderr(Stdio::null());
    let mut killed = command.spawn().expect("lakh runs");
    let (_visitor, _) = mute.accept().expect("it starts its upstreams");
    assert!(client.is_answered(1) && Peer::line(gateway.clients).is_answered(1), "both meanwhile");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed.id() as i32), SIGKILL).expect("it is there");
    killed.wait().expect("a child of ours");

    assert!((0..40).all(|_| Peer::line(gateway.clients).is_answered(1)), "it serves all who come");
    assert!(client.is_answered(2) && gateway.ended_within(Duration::ZERO).is_none());
    assert_eq!(pid_at(gateway.admin), u64::from(gateway.id()));
    // It still ends as one without a successor does, and one that starts well may still follow it.
    let mut next = place.start(&["--take-over"], "2");
    assert_eq!(client.hear(), Heard::End);
    assert_eq!(gateway.ended_within(PATIENCE).and_then(|status| status.code()), Some(0));
    next.signal(SIGTERM);
    assert_eq!(next.ended_within(PATIENCE).and_then(|status| status.code()), Some(0));
    let nobody = place.command().output().expect("lakh runs");
    assert_eq!(nobody.status.code(), Some(64));
    let told = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(told.contains(place.text()) && told.contains("upgrade_socket"), "{told}");
}

/// One who says that it takes over, reads so much of what it is given, says this and is gone.
fn dies(place: &Place, reads: usize, says: &[u8]) {
    let mut one = UnixStream::connect(&place.0).expect("it is offered");
    one.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut given = Vec::new();
    while given.len() < reads {
        let mut byte = [0];
        one.read_exact(&mut byte).expect("a byte, with or without a socket");
        given.push(byte[0]);
    }
    assert!(b"1cca.".starts_with(&given), "{given:?}");
    let _ = one.write_all(says);
}

#[test]
fn nobody_is_refused_at_whatever_stage_a_successor_dies() {
    let place = Place::new();
    let mut gateway = place.start(&[], "2");
    let (clients, mut client) = (gateway.clients, Peer::line(gateway.clients));
    let seen = Seen::default();
    let leftovers = || {
        let name = place.0.file_name().expect("a name").to_string_lossy().into_owned() + ".";
        let all = std::fs::read_dir(std::env::temp_dir()).expect("a folder").map_while(Result::ok);
        all.filter(|file| file.file_name().to_string_lossy().starts_with(&name)).count()
    };
    thread::scope(|scope| {
        let loads: [_; 3] = std::array::from_fn(|first| {
            let seen = &seen;
            scope.spawn(move || seen.load(clients, first))
        });
        let load = UntilDropped(&seen);
        let goes_on = || {
            let from = seen.answered();
            assert!(eventually(|| seen.answered() >= from + 12), "the load goes on");
        };
        // Before it was given anything; with a part of it; with all; with a word that is none; and with the last word said,
        // which is worth nothing of one that is dead.
        for (reads, says) in [(0, ""), (1, ""), (2, ""), (4, ""), (5, ""), (5, "x"), (0, "r"), (5, "r")] {
            dies(&place, reads, says.as_bytes());
            goes_on();
        }
        // With its own place bound already, beside the one that it would take.
        let mute = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let server = mute.local_addr().expect("an address").to_string();
        let mut command = place.command();
        command.args(["--tcp", &server]).env("LAKH_UPSTREAMS_START_MS", "60000").stderr(Stdio::null());
        let mut killed = command.spawn().expect("lakh runs");
        let (_visitor, _) = mute.accept().expect("it starts its upstreams");
        assert_eq!(leftovers(), 1, "it has bound its place");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed.id() as i32), SIGKILL).expect("it is there");
        killed.wait().expect("a child of ours");
        assert!(eventually(|| leftovers() == 0), "nothing is left of it");
        goes_on();
        assert!(client.is_answered(1) && gateway.ended_within(Duration::ZERO).is_none());
        drop(load);
        loads.into_iter().for_each(|load| load.join().expect("it counts its failures"));
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((count(&seen.refused), count(&seen.lost)), (0, 0), "refused and lost, of {}", seen.answered());
    let next = place.start(&["--take-over"], "2");
    assert_eq!(client.hear(), Heard::End);
    assert_eq!(gateway.ended_within(PATIENCE).and_then(|status| status.code()), Some(0));
    assert!(Peer::line(next.clients).is_answered(1));
}

#[test]
fn a_second_gateway_does_not_take_the_place_of_one_that_lives() {
    let place = Place::new();
    let gateway = place.start(&[], "1");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.arg("serve").envs([("LAKH_LISTEN", "127.0.0.1:0"), ("LAKH_ADMIN_LISTEN", "127.0.0.1:0")]);
    let second = command.env("LAKH_UPGRADE_SOCKET", place.text()).output().expect("lakh runs");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(64) && told.contains("--take-over"), "{told}");
    assert!(Peer::line(gateway.clients).is_answered(1));
}

/// lakh as systemd starts it: with listening sockets from descriptor 3 on, and variables that say so.
fn activated(sockets: [&TcpListener; 2]) -> Process {
    let [clients, admin] = sockets.map(|socket| OwnedFd::from(socket.try_clone().expect("a descriptor")));
    let mut shell = Command::new("sh");
    let line = "exec 3<&0 4>&2 0</dev/null 2>/dev/null
        exec env LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=clients:admin \"$0\" serve";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_lakh")]).stdin(clients).stderr(admin);
    Process::start_as(shell, &[("LAKH_SHARDS", "3")])
}

#[test]
fn sockets_of_systemd_are_served_and_outlive_each_gateway() {
    let [clients, admin] = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    let mut first = activated([&clients, &admin]);
    assert_eq!(Some(first.clients), clients.local_addr().ok());
    assert_eq!(Some(first.admin), admin.local_addr().ok());
    assert_eq!(pid_at(first.admin), u64::from(first.id()));
    let mut all: Vec<Peer> = (0..60).map(|_| Peer::line(first.clients)).collect();
    assert!(all.iter_mut().all(|client| client.is_answered(1)), "one socket feeds all shards");
    first.signal(SIGTERM);
    assert!(all.iter_mut().all(|client| client.hear() == Heard::End));
    assert_eq!(first.ended_within(PATIENCE).and_then(|status| status.code()), Some(0));
    // Who connects between two gateways waits for the second.
    let mut waiting = Peer::connect(first.clients);
    waiting.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    let second = activated([&clients, &admin]);
    assert_eq!(waiting.hear_message()["id"], 1);
    assert!(Peer::line(second.clients).is_answered(1));
}

#[test]
fn what_is_passed_and_is_no_listening_socket_is_refused_by_name() {
    let mut shell = Command::new("sh");
    let line = "exec 3</dev/null; exec env LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=clients \"$0\" serve";
    let refused = shell.args(["-c", line, env!("CARGO_BIN_EXE_lakh")]).output().expect("a shell");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && told.contains("`clients`"), "{told}");
}
