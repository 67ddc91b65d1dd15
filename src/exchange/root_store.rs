//! The certificate authorities that the exchange's certificate may come from: those of the system, or of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, or Mozilla's if the system has none. A thread of its own reads them again,
//! because a bundle may be replaced while the exporter runs. Sends nothing.

use std::{
    env,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use rustls_native_certs::{CertificateResult, load_certs_from_paths};

/// The time between two reads of the authorities.
const REREAD_EVERY: Duration = Duration::from_secs(10);
/// The environment variables that name authorities.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The TLS settings for the exchange, with the authorities as last read.
#[derive(Clone, Debug)]
pub(super) struct RootStore {
    tls: Arc<ArcSwap<ClientConfig>>,
    warning: Option<String>,
    /// Ends the reading thread when dropped.
    _reading: mpsc::Sender<()>,
}

impl RootStore {
    /// Reads the authorities now, and then every ten seconds until the last copy is dropped. May block.
    ///
    /// # Errors
    /// If TLS cannot be set up, or no thread can be started.
    pub(super) fn open() -> Result<Self, String> {
        let LoadedRoots { certificates, problem } = LoadedRoots::read();
        let warning = problem.map(|problem| {
            let instead =
                if certificates.is_empty() { "; Mozilla's authorities are trusted instead" } else { "" };
            format!("{problem}{instead}: name a file of PEM certificates that this user may read")
        });
        let tls = Arc::new(ArcSwap::from_pointee(client_config(&certificates)?));
        let (reading, ended) = mpsc::channel();
        let read_again = {
            let tls = Arc::clone(&tls);
            move || reload_on_change(&tls, certificates, &ended)
        };
        let thread = thread::Builder::new().name("authorities".to_owned()).spawn(read_again);
        thread.map_err(|error| {
            format!("cannot start the thread that reads certificate authorities: {error}")
        })?;
        Ok(Self { tls, warning, _reading: reading })
    }

    /// The current TLS settings.
    pub(super) fn tls(&self) -> ClientConfig {
        ClientConfig::clone(&self.tls.load())
    }

    /// A warning about a file or directory that the user named and that could not be read at the start, with the
    /// authorities that are used instead.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Certificates of authorities, and the problem with those that the user named.
#[derive(Debug, Default, PartialEq)]
struct LoadedRoots {
    certificates: Vec<CertificateDer<'static>>,
    problem: Option<String>,
}

impl LoadedRoots {
    fn read() -> Self {
        let read = load_system_certificates();
        let named = VARIABLES.iter().find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
        let problem = named.zip(read.errors.first());
        let problem = problem.map(|(name, error)| format!("{name} cannot be read: {error}"));
        Self { certificates: read.certs, problem }
    }
}

/// Loads the system's certificates. An empty `SSL_CERT_FILE` counts as unset, because Docker Compose sets variables without
/// a value to the empty text; the library would open an empty path.
fn load_system_certificates() -> CertificateResult {
    if env::var_os("SSL_CERT_FILE").is_none_or(|file| !file.is_empty()) {
        return rustls_native_certs::load_native_certs();
    }
    let folders = env::var_os("SSL_CERT_DIR").filter(|folders| !folders.is_empty());
    let Some(folders) = folders else {
        let system = openssl_probe::probe();
        return load_certs_from_paths(
            system.cert_file.as_deref(),
            system.cert_dir.first().map(PathBuf::as_path),
        );
    };
    let mut all = CertificateResult::default();
    for folder in env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty()) {
        let CertificateResult { certs, errors, .. } = load_certs_from_paths(None, Some(&folder));
        all.certs.extend(certs);
        all.errors.extend(errors);
    }
    all
}

/// Reads the authorities repeatedly until `ended`. Those in use stay in use while there are no others, because a bundle
/// is missing for a moment while it is replaced.
fn reload_on_change(
    tls: &ArcSwap<ClientConfig>,
    certificates: Vec<CertificateDer<'static>>,
    ended: &mpsc::Receiver<()>,
) {
    let mut in_use = certificates;
    let mut told: Option<String> = None;
    while ended.recv_timeout(REREAD_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        let LoadedRoots { certificates, problem } = LoadedRoots::read();
        if certificates.is_empty() {
            let problem = problem.unwrap_or_else(|| "there are no others any more".to_owned());
            if !in_use.is_empty() && told.as_ref() != Some(&problem) {
                tracing::warn!("the certificate authorities in use stay in use: {problem}");
            }
            told = Some(problem);
            continue;
        }
        told = None;
        if certificates == in_use {
            continue;
        }
        match client_config(&certificates) {
            Ok(config) => {
                tls.store(Arc::new(config));
                tracing::info!(count = certificates.len(), "the certificate authorities have changed");
                in_use = certificates;
            }
            Err(error) => tracing::warn!("the certificate authorities in use stay in use: {error}"),
        }
    }
}

fn client_config(certificates: &[CertificateDer<'static>]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
