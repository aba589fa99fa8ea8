//! Servers behind TLS: reached if somebody whom lakh is told to trust vouches for them, and refused by name if not.

#[path = "peer/mod.rs"]
mod peer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use peer::{Peer, Process, call, text_of};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// An authority that lives as long as its test, with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let file = std::env::temp_dir().join(format!("lakh-{name}-{}.pem", std::process::id()));
        std::fs::write(&file, params.self_signed(&key).expect("signed").pem()).expect("a file");
        Self { issuer: Issuer::new(params, key), file }
    }

    fn path(&self) -> &str {
        self.file.to_str().expect("text")
    }

    /// A certificate for `localhost`, and its key.
    fn vouch(&self, has_expired: bool) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        if has_expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// TLS in front of a server that has none; it ends with its owner.
struct Front {
    port: u16,
    _runtime: Runtime,
}

impl Front {
    fn start(behind: SocketAddr, (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>)) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        #[allow(clippy::disallowed_methods)] // They end with the runtime.
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(socket).await else { return };
                    let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                    // Either side may leave without a word.
                    let _ = copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { port, _runtime: runtime }
    }
}

/// What `lakh catalogue` says on standard error of the server at this URL, and whether it found it.
fn asked(url: &str, trusted: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.args(["catalogue", "--http", &format!("it={url}")]).env("SSL_CERT_FILE", trusted);
    let output = command.env_remove("SSL_CERT_DIR").output().expect("lakh runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_call_goes_over_https_to_who_is_vouched_for_by_ssl_cert_file() {
    let (server, authority) = (Process::start(&[]), Authority::new("https"));
    let front = Front::start(server.clients, authority.vouch(false));
    let url = format!("https://localhost:{}/mcp", front.port);
    let lakh = Process::in_front_of(&["--http", &url], &[("SSL_CERT_FILE", authority.path())]);
    let mut peer = Peer::line(lakh.clients);
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"over TLS"})))), "over TLS");
}

/// What `ca_file` names is trusted, and nobody else: the host's own trust, which is empty here, is not asked.
#[test]
fn a_call_goes_over_wss_to_who_is_vouched_for_by_ca_file() {
    let (server, authority) = (Process::start(&[]), Authority::new("wss"));
    let front = Front::start(server.clients, authority.vouch(false));
    let file = std::env::temp_dir().join(format!("lakh-tls-{}.toml", std::process::id()));
    let url = format!("wss://localhost:{}/mcp", front.port);
    let text = format!("[upstreams.it]\nws = {url:?}\nca_file = \"${{CA_OF_IT}}\"\n");
    std::fs::write(&file, text).expect("a file");
    let variables = [("CA_OF_IT", authority.path()), ("SSL_CERT_FILE", "/dev/null")];
    let lakh = Process::in_front_of(&["--config", file.to_str().expect("text")], &variables);
    std::fs::remove_file(file).expect("it was there");
    let mut peer = Peer::line(lakh.clients);
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"over TLS"})))), "over TLS");
}

#[test]
fn who_is_not_who_it_should_be_is_refused_with_what_to_do() {
    let (server, authority, other) = (Process::start(&[]), Authority::new("known"), Authority::new("other"));
    let good = Front::start(server.clients, authority.vouch(false));
    let old = Front::start(server.clients, authority.vouch(true));
    let url = |host: &str, front: &Front| format!("https://{host}:{}/mcp", front.port);
    let (good_url, old_url) = (url("localhost", &good), url("localhost", &old));
    for (url, trusted, words) in [
        (&good_url, other.path(), "signed by nobody who is trusted here; name its authority with `ca_file`"),
        (&url("127.0.0.1", &good), authority.path(), "it is for another name; use one of these in the URL"),
        (&old_url, authority.path(), "it has expired; renew it"),
        (&good_url, "/dev/null", "this host trusts nobody: install ca-certificates, or set `ca_file`"),
    ] {
        let (found, told) = asked(url, trusted);
        assert!(!found && told.contains(words), "{words}\n{told}");
        assert!(told.contains("lakh catalogue: it: its TLS certificate is not accepted"), "{told}");
    }
    let (found, told) = asked(&good_url, authority.path());
    assert!(found, "{told}");
}
