//! Streamable HTTP: lakh, mcp-proxy and mcpstead in front of the same server, and that server alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::Value;

use super::load::{self, Client, LOAD_CORE, Measured, Result, SERVER_CORE, Server, Side};
use super::{CLIENTS, INITIALIZE, INITIALIZED, START_PATIENCE, call, check, upstream};

/// What a client offers to understand, and says it speaks.
const HEADERS: &str = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";

/// A gateway's endpoint: its address, path, and its name of the tool.
struct Endpoint {
    server: Server,
    path: &'static str,
    tool: String,
}

/// Each gateway in front of the same server, which answers over stdio and over HTTP; then the ratios.
pub(crate) fn compare(rounds: u64, time: Duration) -> Result<()> {
    let exe = env::current_exe()?;
    let exe = exe.to_str().ok_or("a path that is no text")?;
    let alone = Server::start(SERVER_CORE, Command::new(exe).arg(upstream::HTTP))?;
    let behind = Server::start(LOAD_CORE, Command::new(exe).arg(upstream::HTTP))?;
    let url = format!("http://{}/mcp", behind.addr);
    let stdio = format!("{exe} {}", upstream::STDIO);
    let endpoints = [
        ("server alone", Endpoint::new(alone, "/mcp")?),
        ("lakh, stdio", Endpoint::new(Server::lakh(SERVER_CORE, &["--stdio", &stdio])?, "/mcp")?),
        ("lakh, http", Endpoint::new(Server::lakh(SERVER_CORE, &["--http", &url])?, "/mcp")?),
        ("mcp-proxy, stdio", Endpoint::new(mcp_proxy(exe)?, "/")?),
        ("mcpstead, http", Endpoint::new(mcpstead(&url)?, "/mcp")?),
    ];
    let mut measures: Vec<_> =
        endpoints.iter().map(|(name, endpoint)| (*name, move || endpoint.measure(time))).collect();
    let mut sides: Vec<Side<'_>> = measures.iter_mut().map(|(name, measure)| (*name, measure as _)).collect();
    let medians = load::alternate("1 in flight", rounds, &mut sides)?;
    let rates: Vec<f64> = medians.iter().map(|(rate, _)| *rate).collect();
    let [_, stdio, http, mcp_proxy, mcpstead] = rates[..] else { return Err("not all were measured".into()) };
    println!(
        "\nover stdio {:.2} times mcp-proxy; over HTTP {:.2} times mcpstead; over HTTP {:.2} times mcp-proxy over stdio",
        stdio / mcp_proxy,
        http / mcpstead,
        http / mcp_proxy
    );
    Ok(())
}

fn mcp_proxy(exe: &str) -> Result<Server> {
    let addr = free_port()?;
    let config = format!(
        "[proxy]\nname = \"bench\"\n\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {}\n\n\
         [[backends]]\nname = \"bench\"\ntransport = \"stdio\"\ncommand = {exe:?}\nargs = [{:?}]\n",
        addr.port(),
        upstream::STDIO
    );
    competitor("mcp-proxy", "toml", &config, addr)
}

fn mcpstead(url: &str) -> Result<Server> {
    let addr = free_port()?;
    let config = format!(
        "host: 127.0.0.1\nport: {}\nmcp:\n  auth:\n    mode: none\nservers:\n  - name: bench\n    url: {url}\n    \
         protocol: streamable\n    auth: none\nlogging:\n  level: error\n",
        addr.port()
    );
    competitor("mcpstead", "yaml", &config, addr)
}

/// Starts what competitors.sh has installed, with this configuration.
fn competitor(name: &str, kind: &str, config: &str, addr: SocketAddr) -> Result<Server> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/competitors");
    let program: PathBuf = folder.join("bin").join(name);
    if !program.exists() {
        return Err(format!("{} is not there: run profiling/competitors.sh", program.display()).into());
    }
    let file = folder.join(format!("{name}.{kind}"));
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(file).env("RUST_LOG", "error").stdout(Stdio::null()).stderr(Stdio::null());
    Server::spawn(SERVER_CORE, &mut command, addr)
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Endpoint {
    /// Waits until the server offers its tool.
    fn new(server: Server, path: &'static str) -> Result<Self> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match Session::open(server.addr, path).and_then(|mut session| session.tool()) {
                Ok(tool) => return Ok(Self { server, path, tool }),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// One call in flight on each connection, each with a session of its own.
    fn measure(&self, time: Duration) -> Result<Measured> {
        let connect = |number| {
            let session = Session::open(self.server.addr, self.path)?;
            let batch = session.request(&call(number + 1, &self.tool));
            Client::new(session.stream, batch, 1)
        };
        let mut clients = (0..CLIENTS).map(connect).collect::<Result<Vec<_>>>()?;
        load::load(&mut clients, whole, time)
    }
}

/// A handshaken client on a connection that is kept alive.
struct Session {
    stream: TcpStream,
    path: &'static str,
    host: SocketAddr,
    /// The headers of its later requests.
    about: String,
}

impl Session {
    fn open(host: SocketAddr, path: &'static str) -> Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(START_PATIENCE))?;
        let mut session = Self { stream, path, host, about: String::new() };
        let answer = session.ask(INITIALIZE)?;
        session.about = "MCP-Protocol-Version: 2025-11-25\r\n".into();
        if let Some(id) = header(&answer, "mcp-session-id")? {
            session.about.push_str(&format!("Mcp-Session-Id: {id}\r\n"));
        }
        session.ask(INITIALIZED)?;
        Ok(session)
    }

    /// The name of the tool, which some gateways decorate.
    fn tool(&mut self) -> Result<String> {
        let answer = self.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#)?;
        let text = String::from_utf8(answer)?;
        let (Some(start), Some(end)) = (text.find('{'), text.rfind('}')) else { return Err("no list of tools".into()) };
        let list: Value = serde_json::from_str(&text[start..=end])?;
        let tools = list["result"]["tools"].as_array().ok_or_else(|| format!("no tools: {list}"))?;
        // lakh has an `echo` of its own, which answers without the server.
        let is_ours =
            |tool: &&Value| tool["description"].as_str().is_some_and(|text| text.ends_with(upstream::DESCRIPTION));
        let name = tools.iter().find(is_ours).and_then(|tool| tool["name"].as_str());
        Ok(name.ok_or_else(|| format!("not the tool of the server: {list}"))?.to_owned())
    }

    fn request(&self, body: &str) -> Vec<u8> {
        let (path, host, about, length) = (self.path, self.host, &self.about, body.len());
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{HEADERS}{about}Content-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }

    /// The whole answer, head and all.
    fn ask(&mut self, body: &str) -> Result<Vec<u8>> {
        self.stream.write_all(&self.request(body))?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while length(&answer)?.is_none() {
            match self.stream.read(&mut buffer)? {
                0 => return Err("the server closed".into()),
                n => answer.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(answer)
    }
}

fn whole(bytes: &[u8]) -> Result<Option<usize>> {
    let length = length(bytes)?;
    length.map(|length| check(&bytes[..length])).transpose()?;
    Ok(length)
}

/// The length of the answer at the start of `bytes`, or nothing while it is not complete.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    if !matches!(response.code, Some(200..=299)) {
        return Err(String::from_utf8_lossy(bytes).into());
    }
    let value = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let end = match value("content-length") {
        Some(length) => head + std::str::from_utf8(length.value)?.parse::<usize>()?,
        // None of these answers has a chunk that looks like the last one.
        None if value("transfer-encoding").is_some() => match memchr::memmem::find(&bytes[head..], b"0\r\n\r\n") {
            Some(at) => head + at + 5,
            None => return Ok(None),
        },
        None => head,
    };
    Ok((bytes.len() >= end).then_some(end))
}

fn header(answer: &[u8], name: &str) -> Result<Option<String>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer)?;
    let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    Ok(found.map(|header| String::from_utf8_lossy(header.value).into_owned()))
}
