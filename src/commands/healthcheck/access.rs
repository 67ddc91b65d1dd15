//! What `healthcheck` needs to be let in: certificate authorities, a client certificate and a password, read from files.
//! May block.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::header::HeaderValue;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use zeroize::Zeroizing;

use crate::{cli::AccessFlags, exchange::read_root_store, files, quoting::quote_existing_path};

const PEM_MAX_BYTES: u64 = 1024 * 1024;
const PASSWORD_MAX_BYTES: u64 = 4096;

/// TLS settings and password.
pub(super) struct Access {
    /// `None` without TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The value of the header `Authorization`; `None` without a password.
    pub authorization: Option<HeaderValue>,
}

impl Access {
    /// Reads the files of the flags.
    ///
    /// # Errors
    /// If a file cannot be read or does not contain what it should.
    pub(super) fn read(flags: &AccessFlags, is_tls: bool) -> Result<Self, String> {
        let tls = if is_tls { Some(Arc::new(read_tls(flags)?)) } else { None };
        let authorization = match (&flags.username, &flags.password_file) {
            (Some(username), Some(file)) => Some(read_authorization(username, file)?),
            _ => None,
        };
        Ok(Self { tls, authorization })
    }
}

fn read_tls(flags: &AccessFlags) -> Result<ClientConfig, String> {
    let about_ca = |why| match &flags.ca_file {
        Some(file) => format!("--tls.ca-file{} {why}", quote_existing_path(file)),
        None => why,
    };
    let roots = read_root_store(flags.ca_file.as_deref()).map_err(about_ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots);
    let (Some(cert_file), Some(key_file)) = (&flags.cert_file, &flags.key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let pem = read_file("--tls.cert-file", cert_file, PEM_MAX_BYTES)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| {
        format!("no PEM certificate found in --tls.cert-file{}", quote_existing_path(cert_file))
    })?;
    let pem = read_file("--tls.key-file", key_file, PEM_MAX_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let path = quote_existing_path(key_file);
        format!("no PEM private key found in --tls.key-file{path}: use a PEM key without a passphrase")
    })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("cannot use --tls.cert-file with --tls.key-file: {error}"))
}

fn read_authorization(username: &str, file: &Path) -> Result<HeaderValue, String> {
    if username.contains(':') || username.chars().any(char::is_control) {
        return Err("--basic-auth.username must contain no colon: HTTP ends the name there".to_owned());
    }
    let bytes = read_file("--basic-auth.password-file", file, PASSWORD_MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    let password = text.strip_suffix('\r').unwrap_or(text);
    if password.is_empty() || password.chars().any(char::is_control) {
        let path = quote_existing_path(file);
        return Err(format!("--basic-auth.password-file{path} must contain one line: the password"));
    }
    let login = Zeroizing::new(format!("{username}:{password}"));
    let value =
        Zeroizing::new(format!("Basic {}", *Zeroizing::new(BASE64_STANDARD.encode(login.as_bytes()))));
    let mut value =
        HeaderValue::from_str(&value).map_err(|error| format!("cannot send the password: {error}"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_file(flag: &str, path: &Path, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    files::read(path, max_bytes)
        .map_err(|error| format!("{flag}{} cannot be read: {error}", quote_existing_path(path)))
}
