//! TLS towards a server: whose word is taken for who it is, and what is said when it is not who it should be.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore, crypto};

use crate::upstream::trouble::{Trouble, TroubleKind};

/// What a connection needs: trusted are the authorities in `ca_file` alone, or else those of the host: its package of
/// certificates, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Trouble> {
    let roots = ca_file.map_or_else(of_host, of_file)?;
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| untrusted(&format!("TLS: {error}")))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn of_host() -> Result<RootCertStore, Trouble> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        let what = "this host trusts nobody: install ca-certificates, or set `ca_file` or SSL_CERT_FILE";
        return Err(untrusted(&format!("{what}{why}")));
    }
    Ok(roots)
}

fn of_file(path: &Path) -> Result<RootCertStore, Trouble> {
    let wrong = |why: &str| untrusted(&format!("`ca_file` = {path:?}: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(&error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(&error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in it: it takes those of authorities, as PEM"));
    }
    Ok(roots)
}

/// Why no TLS connection came about with `peer`.
pub(super) fn refused(peer: &str, error: &io::Error) -> Trouble {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(why)) = inner else {
        return Trouble::new(TroubleKind::Refused, format!("{peer}: {error}")).unsent();
    };
    let what = match why {
        // The second: its authority has the name of one that is trusted, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is signed by nobody who is trusted here; name its authority with `ca_file`, or SSL_CERT_FILE".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("it is for another name; use one of these in the URL: {}", presented.join(", "))
        }
        CertificateError::NotValidForName => "it is for another name; use its name in the URL".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; renew it, or look at the clock of this host".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; look at the clocks of both hosts".into()
        }
        other => other.to_string(),
    };
    untrusted(&format!("{peer}: {what}"))
}

fn untrusted(why: &str) -> Trouble {
    Trouble::new(TroubleKind::Untrusted, why).unsent()
}
