//! The certificate authorities that the exchange's certificate may come from: those of the system, or of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, or Mozilla's if the system has none; and those of `ca_file` in addition. They are
//! read again every ten seconds, because a bundle may be replaced while the exporter runs. Sends nothing.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use rustls_native_certs::{CertificateResult, load_certs_from_paths};

use super::reread::ReloadedValue;
use crate::files;

/// The environment variables that name authorities.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// The longest `ca_file` that is read; the bundle of a system is shorter.
const CA_FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The TLS settings for the exchange, with the authorities as last read. Equal if they come from the same files.
#[derive(Clone, Debug)]
pub struct RootStore {
    tls: ReloadedValue<ClientConfig>,
    ca_file: Option<PathBuf>,
    warning: Option<String>,
}

impl PartialEq for RootStore {
    fn eq(&self, other: &Self) -> bool {
        self.ca_file == other.ca_file
    }
}

impl RootStore {
    /// Reads the authorities now, and then every ten seconds until the last copy is dropped. Those of `ca_file` are trusted
    /// in addition. May block.
    ///
    /// # Errors
    /// If `ca_file` holds no certificate, TLS cannot be set up, or no thread can be started.
    pub fn open(ca_file: Option<&Path>) -> Result<Self, String> {
        let roots = LoadedRoots::read(ca_file)?;
        let warning = roots.problem.as_ref().map(|problem| {
            let instead =
                if roots.system.is_empty() { "; Mozilla's authorities are trusted instead" } else { "" };
            format!("{problem}{instead}: name a file of PEM certificates that this user may read")
        });
        let config = roots.client_config()?;
        let ca_file = ca_file.map(Path::to_owned);
        let mut reader = RootReader { ca_file: ca_file.clone(), in_use: roots, reported: None };
        let tls =
            ReloadedValue::start("authorities", config, move || reader.read_changes()).map_err(|error| {
                format!("cannot start the thread that reads certificate authorities: {error}")
            })?;
        Ok(Self { tls, ca_file, warning })
    }

    /// The current TLS settings.
    pub(super) fn tls(&self) -> ClientConfig {
        ClientConfig::clone(&self.tls.current())
    }

    /// A warning about a file or directory that the environment names and that could not be read at the start, with the
    /// authorities that are used instead.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Reads the authorities once: the system's and those of `ca_file`. May block.
///
/// # Errors
/// The rest of a sentence that begins with the name of the setting, if `ca_file` holds no certificate.
pub fn read_root_store(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    Ok(LoadedRoots::read(ca_file)?.root_store())
}

/// Certificates of authorities, and the problem with those that the environment names.
#[derive(Debug, Default)]
struct LoadedRoots {
    system: Vec<CertificateDer<'static>>,
    /// Those of `ca_file`.
    added: Vec<CertificateDer<'static>>,
    problem: Option<String>,
}

impl LoadedRoots {
    /// # Errors
    /// If `ca_file` cannot be read. The others are never an error, because Mozilla's can replace them.
    fn read(ca_file: Option<&Path>) -> Result<Self, String> {
        let added = ca_file.map(read_ca_file).transpose()?.unwrap_or_default();
        let read = load_system_certificates();
        let named = VARIABLES.iter().find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
        let problem = named.zip(read.errors.first());
        let problem = problem.map(|(name, error)| format!("{name} cannot be read: {error}"));
        Ok(Self { system: read.certs, added, problem })
    }

    fn root_store(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.system.iter().cloned());
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots.add_parsable_certificates(self.added.iter().cloned());
        roots
    }

    fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        Ok(config.with_root_certificates(self.root_store()).with_no_client_auth())
    }
}

/// Reads the certificates of `ca_file`.
///
/// # Errors
/// The rest of a sentence that begins with the name of the setting.
fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = files::read(path, CA_FILE_MAX_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = read.map_err(|_| "is damaged: an entry is not a PEM certificate".to_owned())?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err("holds no PEM certificate: it must contain BEGIN CERTIFICATE".to_owned());
    }
    Ok(certificates)
}

/// Reads the authorities again. Those in use stay in use while there are no others, because a bundle is missing for a
/// moment while it is replaced.
struct RootReader {
    ca_file: Option<PathBuf>,
    in_use: LoadedRoots,
    /// The last problem, which is logged only once.
    reported: Option<String>,
}

impl RootReader {
    /// New TLS settings if the authorities changed.
    fn read_changes(&mut self) -> Option<ClientConfig> {
        let read = match LoadedRoots::read(self.ca_file.as_deref()) {
            Ok(read) => read,
            Err(why) => return self.keep(format!("ca_file {why}")),
        };
        if read.system.is_empty() && !self.in_use.system.is_empty() {
            return self.keep(read.problem.unwrap_or_else(|| "there are no others any more".to_owned()));
        }
        self.reported = None;
        if (&read.system, &read.added) == (&self.in_use.system, &self.in_use.added) {
            return None;
        }
        match read.client_config() {
            Ok(config) => {
                let count = read.system.len() + read.added.len();
                tracing::info!(count, "the certificate authorities have changed");
                self.in_use = read;
                Some(config)
            }
            Err(error) => self.keep(error),
        }
    }

    fn keep(&mut self, problem: String) -> Option<ClientConfig> {
        if self.reported.as_ref() != Some(&problem) {
            tracing::warn!("keeping the certificate authorities in use: {problem}");
        }
        self.reported = Some(problem);
        None
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(params.self_signed(&KeyPair::generate()?)?.pem())
    }

    #[test]
    fn authorities_of_a_ca_file_are_added_and_stay_while_the_file_is_unusable()
    -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("ca.pem");
        let (first, second) = (authority()?, authority()?);
        fs::write(&path, &first)?;
        let alone = LoadedRoots::read(None)?;
        let in_use = LoadedRoots::read(Some(&path))?;
        assert_eq!((&in_use.system, in_use.added.len()), (&alone.system, 1));
        let mut reader = RootReader { ca_file: Some(path.clone()), in_use, reported: None };
        assert!(reader.read_changes().is_none(), "nothing has changed");
        for unusable in ["", "hunter2", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, unusable)?;
            assert!(reader.read_changes().is_none());
            assert!(reader.reported.as_ref().is_some_and(|why| !why.contains("hunter2")), "{unusable}");
        }
        fs::remove_file(&path)?;
        assert!(reader.read_changes().is_none());
        fs::write(&path, format!("{first}{second}"))?;
        assert!(reader.read_changes().is_some());
        assert_eq!((reader.in_use.added.len(), reader.reported), (2, None));
        Ok(())
    }
}
