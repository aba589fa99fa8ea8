//! Gateways for the tests: in this process, where the counters can be read, or in one of their own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use lakh::config::Config;
use lakh::conn::Parting;
use lakh::tree::Tree;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Peer, eventually};

/// A gateway in this process; it ends with its owner.
pub struct Gateway(Tree);

impl Gateway {
    /// One shard, so that whoever misbehaves sits beside whoever does not; 300 seats; else the defaults.
    pub fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: ([127, 0, 0, 1], 0).into(), shards: 1, ..Config::default() };
        config.admin.listen = ([127, 0, 0, 1], 0).into();
        config.guard.connections_max = 300;
        change(&mut config);
        Self(Tree::plant(config).expect("a gateway"))
    }

    /// A well-behaved client.
    pub fn neighbour(&self) -> Peer {
        Peer::line(self.clients())
    }

    /// Whether in the end so many were parted so. A seat is free an instant before its parting is counted.
    pub fn parted(&self, parting: Parting, count: u64) -> bool {
        eventually(|| self.house().ledger.partings.get(parting) == count)
    }

    /// Whether in the end only so many clients are there.
    pub fn holds(&self, clients: usize) -> bool {
        eventually(|| self.house().seats.taken() == clients)
    }
}

impl Deref for Gateway {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.0
    }
}

/// The program of tests/upstream/server.rs, which cargo builds beside the tests.
pub fn scripted() -> String {
    let beside = std::path::Path::new(env!("CARGO_BIN_EXE_lakh")).with_file_name("examples");
    beside.join("scripted").display().to_string()
}

/// The program `lakh serve` in a process of its own; it ends with its owner.
pub struct Process {
    child: Child,
    /// Kept open: nobody is to be told that the greeting cannot be written.
    _greeting: BufReader<ChildStdout>,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where the operator looks.
    pub admin: SocketAddr,
}

impl Process {
    /// One shard and 100 seats, and these knobs by the names of their variables.
    pub fn start(knobs: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_lakh")), knobs)
    }

    /// In front of a server of tests/upstream/server.rs, with these knobs.
    pub fn in_front_of_scripted(knobs: &[(&str, &str)]) -> Self {
        Self::in_front_of(&["--stdio", &format!("scripted={}", scripted())], knobs)
    }

    /// The same, with these knobs of that server.
    pub fn in_front_of_scripted_with(knobs: &str) -> Self {
        Self::with_file(&format!("[upstreams.scripted]\ncommand = {:?}\n{knobs}\n", scripted()))
    }

    /// With a configuration file that says this.
    pub fn with_file(text: &str) -> Self {
        Self::with_file_as(Command::new(env!("CARGO_BIN_EXE_lakh")), text, &[])
    }

    /// The same by a command that becomes `lakh`, with these knobs besides.
    pub fn with_file_as(mut command: Command, text: &str, knobs: &[(&str, &str)]) -> Self {
        static FILES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("lakh-test-{}-{number}.toml", std::process::id()));
        std::fs::write(&file, text).expect("a file");
        command.args(["serve", "--config"]).arg(&file);
        let process = Self::start_as(command, knobs);
        std::fs::remove_file(file).expect("it was there");
        process
    }

    /// In front of the servers that these flags name.
    pub fn in_front_of(flags: &[&str], knobs: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
        command.arg("serve").args(flags);
        Self::start_as(command, knobs)
    }

    /// The same by a command that becomes `lakh`.
    pub fn start_as(mut command: Command, knobs: &[(&str, &str)]) -> Self {
        let mut child = command
            .envs([("LAKH_LISTEN", "127.0.0.1:0"), ("LAKH_ADMIN_LISTEN", "127.0.0.1:0")])
            .envs([("LAKH_SHARDS", "1"), ("LAKH_GUARD_CONNECTIONS_MAX", "100"), ("LAKH_LOG", "off")])
            .envs(knobs.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("lakh starts");
        let mut greeting = BufReader::new(child.stdout.take().expect("its output"));
        let mut address = |of: &str| {
            let line = greeting.by_ref().lines().map_while(Result::ok).find(|line| line.starts_with(of));
            let line = line.expect("its greeting");
            let address = line.split_whitespace().nth(1).map(|address| address.trim_start_matches("http://"));
            address.and_then(|address| address.parse().ok()).expect("an address")
        };
        let (clients, admin) = (address("clients"), address("admin"));
        Self { child, _greeting: greeting, clients, admin }
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// How it ended, if it ends in this time.
    pub fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let until = std::time::Instant::now() + time;
        loop {
            match self.child.try_wait().expect("a child of ours") {
                Some(status) => return Some(status),
                None if std::time::Instant::now() > until => return None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// What it writes to its standard error; asked for in `start_as`.
    pub fn stderr(&mut self) -> impl std::io::Read + use<> {
        self.child.stderr.take().expect("its errors are piped")
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        lakh::meter::ProcessMemory::of(self.child.id()).expect("it is there").rss
    }

    /// Time on a processor so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it is there");
        // utime and stime are fields 14 and 15; the name, field 2, may hold spaces (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum();
        // USER_HZ is 100 on every machine that lakh runs on.
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
