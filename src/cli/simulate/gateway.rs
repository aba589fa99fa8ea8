//! The gateway under test: started in a process of its own, or found at `--target`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::behind::Server;
use super::client::script;
use super::profile::Queue;
use super::{GATEWAY_COMMAND, heap};

/// A gateway may take this long until it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// And this long from SIGTERM to its end before it is killed; one that notes its heap has many names to look up.
const STOP_PATIENCE: Duration = Duration::from_secs(if heap::PROFILED { 120 } else { 15 });

/// The knob for as many sessions as there are clients; by default there are fewer.
const SESSIONS_MAX: &str = "LAKH_GUARD_SESSIONS_MAX";

/// Where the gateway is, and its process where it is known.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) clients: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    /// Its process, to read memory from.
    pub(super) pid: Option<u32>,
    child: Option<Child>,
}

/// How a gateway is to serve.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Serving<'a> {
    pub(super) connections: u32,
    pub(super) shards: Option<u32>,
    /// The server that it stands in front of, in place of its own.
    pub(super) upstream: Option<SocketAddr>,
    /// A configuration, which it reads from its standard input: a file would be left behind by who is interrupted.
    pub(super) config: Option<&'a str>,
    /// Further arguments for `serve`.
    pub(super) more: &'a [String],
    /// Whether it tells only of what went wrong.
    pub(super) quiet: bool,
    /// Where a build with `dhat-heap` writes its profile when it is told to stop.
    pub(super) heap_file: Option<&'a Path>,
}

impl Serving<'_> {
    /// For another gateway's few connections.
    pub(super) fn few() -> Self {
        Self { connections: 100, ..Self::default() }
    }
}

impl Gateway {
    /// One that runs already.
    pub(super) fn found(clients: SocketAddr, admin: Option<SocketAddr>, pid: Option<u32>) -> Self {
        Self { clients, admin, pid, child: None }
    }

    /// Starts `exe serve` on free ports of loopback. It ends when this is dropped, and when the parent dies.
    pub(super) fn start(exe: &Path, serving: &Serving<'_>) -> io::Result<Self> {
        let mut command = Command::new(exe);
        command.arg(GATEWAY_COMMAND).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--connections-max", &serving.connections.to_string()]);
        if std::env::var_os(SESSIONS_MAX).is_none() {
            // Twice: a wave may come while the sessions of the one before are still there.
            command.env(SESSIONS_MAX, (2 * u64::from(serving.connections)).to_string());
        }
        if let Some(shards) = serving.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        if let Some(upstream) = serving.upstream {
            command.args(["--tcp", &upstream.to_string()]);
        }
        if serving.quiet {
            command.env("LAKH_LOG", "error");
        }
        if let Some(file) = serving.heap_file {
            command.env(heap::HEAP_FILE, file);
        }
        let stdin = if serving.config.is_some() { Stdio::piped() } else { Stdio::null() };
        if serving.config.is_some() {
            command.args(["--config", "/dev/stdin"]);
        }
        let mut child = command.args(serving.more).stdin(stdin).stdout(Stdio::piped()).spawn()?;
        if let Some((mut stdin, config)) = child.stdin.take().zip(serving.config) {
            stdin.write_all(config.as_bytes())?;
        }
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let pid = child.id();
        let mut gateway =
            Self { clients: SocketAddr::from(([0, 0, 0, 0], 0)), admin: None, pid: Some(pid), child: Some(child) };
        let lines = read_lines(stdout)?;
        let mut seen = String::new();
        let (mut clients, mut admin) = (None, None);
        while clients.is_none() || admin.is_none() {
            let line = lines.recv_timeout(START_PATIENCE).map_err(|_| {
                io::Error::other(format!("the gateway printed no 'clients' and 'admin' address; it printed: {seen:?}"))
            })?;
            clients = clients.or_else(|| address_after("clients", &line));
            admin = admin.or_else(|| address_after("admin", &line));
            seen.push_str(&line);
            seen.push('\n');
        }
        gateway.clients = clients.ok_or(io::ErrorKind::InvalidData)?;
        gateway.admin = admin;
        Ok(gateway)
    }

    /// Waits until what is behind it is connected and a call of `echo` is answered: both may take their time.
    pub(super) fn wait_for(&self, server: &Server) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let said = self.echo();
            let visited = server.is_visited();
            match said {
                Ok(answer) if visited && answer.contains("\"result\":") => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                _ if !visited => return Err(io::Error::other("it does not connect to the server behind it")),
                Ok(answer) => return Err(io::Error::other(format!("it answers a call of echo with {answer}"))),
                Err(error) => return Err(error),
            }
        }
    }

    /// The line that answers a call of `echo`; a request of 2026-07-28 is complete in itself.
    fn echo(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.clients, Duration::from_secs(2))?;
        // A slow server takes seconds.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut call = Vec::new();
        script::call(&mut call, script::Who { number: 0, seed: 0, target: self.clients, tenant: None }, true);
        call.push(b'\n');
        stream.write_all(&call)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// Open client connections as the gateway counts them, if it says.
    pub(super) fn open_connections(&self) -> Option<u64> {
        let metrics = get(self.admin?, "/metrics").ok()?;
        ["lakh_connections_open", "lakh_connections"]
            .iter()
            .find_map(|name| metric(&metrics, name))
            .map(|open| open as u64)
    }

    /// What stands before the slow server of a profile, as the gateway tells it.
    pub(super) fn queue(&self) -> Option<Queue> {
        let all: Value = serde_json::from_str(&get(self.admin?, "/upstreams").ok()?).ok()?;
        let slow = all.as_array()?.iter().find(|upstream| upstream["name"] == "slow")?;
        Some(Queue {
            in_flight: slow["in_flight"].as_u64()?,
            queued: slow["queued"].as_u64(),
            queue_max: slow["queue_max"].as_u64(),
        })
    }

    /// Whole resident memory as the gateway itself says, in bytes: for a target whose process can't be seen.
    pub(super) fn told_rss(&self) -> Option<u64> {
        let metrics = get(self.admin?, "/metrics").ok()?;
        metric(&metrics, "process_resident_memory_bytes").map(|bytes| bytes as u64)
    }

    /// Whether a gateway that was started here has ended by itself.
    pub(super) fn has_ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!("the gateway has ended: {status}"))
    }
}

impl Gateway {
    /// Tells one that was started here to stop, and waits for it.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The hidden subcommand: becomes `exe serve ARGS...` after asking the kernel to end it when its parent dies.
/// Returns only on failure.
pub(super) fn become_gateway(exe: &Path, args: &[String]) -> io::Error {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    Command::new(exe).arg("serve").args(args).exec()
}

/// Goes on reading after the addresses are known, so that a gateway that prints is never blocked.
fn read_lines(stdout: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::sync_channel(16);
    std::thread::Builder::new().name("gateway-stdout".into()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    })?;
    Ok(lines)
}

/// The socket address in a line such as `  admin    http://127.0.0.1:9090/`.
fn address_after(name: &str, line: &str) -> Option<SocketAddr> {
    let rest = line.trim_start().strip_prefix(name)?;
    rest.split(|c: char| c.is_whitespace() || matches!(c, '/' | '=' | ',')).find_map(|word| word.parse().ok())
}

/// The value of an unlabelled sample, or the sum of the labelled ones, in a Prometheus text.
fn metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value =
            if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest.starts_with(' ').then_some(rest)? };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// The body of `GET path`.
fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(io::Error::other(head.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_among_human_lines() {
        let wanted = SocketAddr::from(([127, 0, 0, 1], 7777));
        assert_eq!(address_after("clients", "  clients  127.0.0.1:7777"), Some(wanted));
        assert_eq!(address_after("admin", "admin    http://127.0.0.1:7777/tree"), Some(wanted));
        assert_eq!(address_after("admin", "clients  127.0.0.1:7777"), None);
        assert_eq!(address_after("clients", "clients are welcome"), None);
    }

    #[test]
    fn a_metric_is_read_with_and_without_labels() {
        let text = "# TYPE lakh_connections_open gauge\nlakh_connections_open{shard=\"0\"} 3\nlakh_connections_open{shard=\"1\"} 4\nlakh_connections_open_max 9\nrss 1.5e3\n";
        assert_eq!(metric(text, "lakh_connections_open"), Some(7.0));
        assert_eq!(metric(text, "rss"), Some(1500.0));
        assert_eq!(metric(text, "lakh_connections"), None);
    }
}
