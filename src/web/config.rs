//! The web configuration file: TLS, client certificates, passwords, headers, the rate limit. The format is that of
//! Prometheus' exporter-toolkit (R39), so that files of other exporters work. Settings that are not supported are an error
//! and never ignored. Depends on neither routes nor connections.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper::header::{self, HeaderName, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    auth::{Authenticator, RequestRateLimit},
    tls::{ClientAuthOptions, Tls, TlsOptions},
};
use crate::{
    files::{self, Fingerprint},
    quoting::{quote_existing_path, quote_value},
    yaml::{self, KeyExamples},
};

const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Headers that can be set, with their allowed values; an empty list allows any value.
const HEADERS: [(&str, HeaderName, &[&str]); 5] = [
    ("Content-Security-Policy", header::CONTENT_SECURITY_POLICY, &[]),
    ("Strict-Transport-Security", header::STRICT_TRANSPORT_SECURITY, &[]),
    ("X-Content-Type-Options", header::X_CONTENT_TYPE_OPTIONS, &["nosniff"]),
    ("X-Frame-Options", header::X_FRAME_OPTIONS, &["deny", "sameorigin"]),
    ("X-XSS-Protection", header::X_XSS_PROTECTION, &[]),
];

/// Every key of the file; a test compares them with the types that read it.
const EXAMPLES: KeyExamples = KeyExamples {
    lines: &[
        ("", "tls_server_config: {cert_file: web.crt, key_file: web.key}"),
        ("tls_server_config", "tls_server_config: {cert_file: web.crt, key_file: web.key}"),
        ("tls_server_config.cert", "cert_file: web.crt"),
        ("tls_server_config.cert_file", "cert_file: web.crt"),
        ("tls_server_config.key", "key_file: web.key"),
        ("tls_server_config.key_file", "key_file: web.key"),
        ("tls_server_config.client_ca", "client_ca_file: clients.crt"),
        ("tls_server_config.client_ca_file", "client_ca_file: clients.crt"),
        ("tls_server_config.client_auth_type", "client_auth_type: RequireAndVerifyClientCert"),
        ("tls_server_config.client_allowed_sans", "client_allowed_sans: [prometheus.example.com]"),
        ("tls_server_config.cipher_suites", "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"),
        ("tls_server_config.curve_preferences", "curve_preferences: [X25519]"),
        ("tls_server_config.min_version", "min_version: TLS12"),
        ("tls_server_config.max_version", "max_version: TLS13"),
        ("tls_server_config.prefer_server_cipher_suites", "prefer_server_cipher_suites: true"),
        ("http_server_config", "http_server_config: {headers: {X-Frame-Options: deny}}"),
        ("http_server_config.http2", "http2: false"),
        ("http_server_config.headers", "headers: {X-Frame-Options: deny}"),
        (
            "basic_auth_users",
            "basic_auth_users: {prometheus: HASH}` with a HASH from `htpasswd -nBC 10 prometheus",
        ),
        ("rate_limit", "rate_limit: {interval: 1s, burst: 20}"),
        ("rate_limit.interval", "interval: 1s"),
        ("rate_limit.burst", "burst: 20"),
    ],
    currencies: "",
};

/// A valid web configuration.
#[derive(Debug)]
pub(super) struct WebConfig {
    /// `None` without TLS.
    pub tls: Option<Tls>,
    /// Set on every response that does not set them itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Passwords and the rate limit.
    pub authenticator: Authenticator,
}

impl WebConfig {
    /// Whether clients need a password, or a certificate if connections use TLS.
    pub(super) fn requires_authentication(&self, is_tls: bool) -> bool {
        let needs_certificate = self.tls.as_ref().is_some_and(|tls| tls.trust().is_required());
        self.authenticator.user_count() > 0 || (is_tls && needs_certificate)
    }
}

/// The result of reading the file and the files that it names.
#[derive(Debug)]
pub(super) struct LoadedConfig {
    /// The configuration, or an error text with the fix.
    pub config: Result<Arc<WebConfig>, String>,
    /// Each file, as it was just before it was read.
    fingerprints: Vec<(PathBuf, Fingerprint)>,
    /// Warnings about secret files that other users of the system can read.
    pub warnings: Vec<String>,
}

impl LoadedConfig {
    /// Reads the file at `path`; paths in it are relative to its folder. May block.
    pub(super) fn load(path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut reader = ConfigReader { folder, fingerprints: vec![], secret_files: vec![] };
        let config = reader.read_config(path).map(Arc::new);
        let ConfigReader { fingerprints, secret_files, .. } = reader;
        let warnings = secret_files.iter().filter_map(|path| files::permission_warning(path)).collect();
        Self { config, fingerprints, warnings }
    }

    /// Whether a file has changed since, or was invalid. May block.
    pub(super) fn is_stale(&self) -> bool {
        let has_changed = |(path, before): &(PathBuf, Fingerprint)| files::fingerprint(path) != *before;
        self.config.is_err() || self.fingerprints.iter().any(has_changed)
    }
}

struct ConfigReader<'a> {
    folder: &'a Path,
    fingerprints: Vec<(PathBuf, Fingerprint)>,
    secret_files: Vec<PathBuf>,
}

impl ConfigReader<'_> {
    fn read_config(&mut self, path: &Path) -> Result<WebConfig, String> {
        let text =
            self.read_file(path.to_owned()).map_err(|error| format!("cannot read the file: {error}"))?;
        let text =
            std::str::from_utf8(&text).map_err(|_| "the file is not UTF-8: write it as YAML in UTF-8")?;
        // An empty file, or one with comments only, is valid.
        let file: WebConfigYaml = yaml::read::<Option<_>>(text, &EXAMPLES)?.unwrap_or_default();
        let rate_limit = file.rate_limit.map(RateLimitYaml::into_rate_limit).transpose()?.flatten();
        let users = file.basic_auth_users.unwrap_or_default();
        let tls = file.tls_server_config.unwrap_or_default();
        if !users.is_empty() || tls.key.is_some() {
            self.secret_files.push(path.to_owned());
        }
        Ok(WebConfig {
            tls: self.read_tls(tls).map_err(|error| format!("tls_server_config: {error}"))?,
            headers: file.http_server_config.unwrap_or_default().into_headers()?,
            authenticator: Authenticator::new(users, rate_limit)?,
        })
    }

    fn read_tls(&mut self, yaml: TlsYaml) -> Result<Option<Tls>, String> {
        if !yaml.is_set() {
            return Ok(None);
        }
        let client_auth = self.read_client_auth(&yaml)?;
        if let Some(file) = &yaml.key_file {
            self.secret_files.push(self.folder.join(file));
        }
        let missing = |name| format!("{name} and {name}_file are both missing: add one of them");
        let key = yaml.key.map(Zeroizing::new);
        let options = TlsOptions {
            certificates: self
                .read_pem(["cert", "cert_file"], yaml.cert.as_deref(), yaml.cert_file.as_deref())?
                .ok_or_else(|| missing("cert"))?,
            key: self
                .read_pem(["key", "key_file"], key.as_deref().map(String::as_str), yaml.key_file.as_deref())?
                .ok_or_else(|| missing("key"))?,
            client_auth: client_auth.map(Arc::new),
            versions: [yaml.min_version, yaml.max_version],
            cipher_suites: yaml.cipher_suites.unwrap_or_default(),
            prefers_server_order: yaml.prefer_server_cipher_suites.unwrap_or(true),
            curves: yaml.curve_preferences.unwrap_or_default(),
        };
        Tls::new(&options).map(Some)
    }

    fn read_client_auth(&mut self, yaml: &TlsYaml) -> Result<Option<ClientAuthOptions>, String> {
        let authorities = self.read_pem(
            ["client_ca", "client_ca_file"],
            yaml.client_ca.as_deref(),
            yaml.client_ca_file.as_deref(),
        )?;
        let kind = yaml.client_auth_type.as_deref().unwrap_or("NoClientCert");
        let is_optional = match kind {
            "NoClientCert" => {
                let settings = [
                    ("client_ca", authorities.is_some()),
                    ("client_allowed_sans", yaml.client_allowed_sans.is_some()),
                ];
                let Some((name, _)) = settings.iter().find(|(_, is_set)| *is_set) else { return Ok(None) };
                return Err(format!(
                    "{name} has no effect without client_auth_type: set client_auth_type to RequireAndVerifyClientCert"
                ));
            }
            "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
                return Err(format!(
                    "client_auth_type {kind} accepts certificates of any issuer and is not supported: set it to RequireAndVerifyClientCert"
                ));
            }
            "VerifyClientCertIfGiven" if yaml.client_allowed_sans.is_some() => {
                return Err("client_allowed_sans would not stop clients without a certificate: set client_auth_type to RequireAndVerifyClientCert".to_owned());
            }
            "VerifyClientCertIfGiven" => true,
            "RequireAndVerifyClientCert" => false,
            _ => {
                return Err("client_auth_type is unknown: set it to NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert".to_owned());
            }
        };
        let authorities = authorities.ok_or_else(|| {
            format!("client_auth_type {kind} needs a certificate authority: set client_ca_file")
        })?;
        let allowed_names = yaml.client_allowed_sans.clone();
        Ok(Some(ClientAuthOptions { authorities, is_optional, allowed_names }))
    }

    /// The value of `text_key`, or the content of the file at `file_key`; `None` if neither is set.
    fn read_pem(
        &mut self,
        [text_key, file_key]: [&str; 2],
        text: Option<&str>,
        file: Option<&str>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        match (text, file) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
            (None, Some(file)) => {
                let path = self.folder.join(file);
                let quoted_path = quote_existing_path(&path);
                let bytes = self.read_file(path);
                bytes.map(Some).map_err(|error| format!("cannot read {file_key}{quoted_path}: {error}"))
            }
            (Some(_), Some(_)) => Err(format!("{text_key} and {file_key} are both set: remove one of them")),
        }
    }

    fn read_file(&mut self, path: PathBuf) -> io::Result<Zeroizing<Vec<u8>>> {
        // Before the read: a change in between is then found by the next check.
        let fingerprint = files::fingerprint(&path);
        let bytes = files::read(&path, MAX_FILE_BYTES);
        self.fingerprints.push((path, fingerprint));
        bytes
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigYaml {
    tls_server_config: Option<TlsYaml>,
    http_server_config: Option<HttpYaml>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimitYaml>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsYaml {
    cert: Option<String>,
    cert_file: Option<String>,
    key: Option<String>,
    key_file: Option<String>,
    client_ca: Option<String>,
    client_ca_file: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    cipher_suites: Option<Vec<String>>,
    curve_preferences: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    prefer_server_cipher_suites: Option<bool>,
}

impl TlsYaml {
    fn is_set(&self) -> bool {
        let Self { cert, cert_file, key, key_file, client_ca, client_ca_file, client_auth_type, .. } = self;
        cert.is_some()
            || cert_file.is_some()
            || key.is_some()
            || key_file.is_some()
            || client_ca.is_some()
            || client_ca_file.is_some()
            || client_auth_type.is_some()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpYaml {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

impl HttpYaml {
    fn into_headers(self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        if self.http2 == Some(true) {
            return Err(
                "http_server_config: http2 is not supported: remove it, or set it to false".to_owned()
            );
        }
        let headers = self.headers.unwrap_or_default();
        headers
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| parse_header(name, value))
            .collect()
    }
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((_, header_name, allowed)) = HEADERS.into_iter().find(|(known, ..)| *known == name) else {
        let known: Vec<_> = HEADERS.iter().map(|(known, ..)| *known).collect();
        return Err(format!(
            "http_server_config: a header is not supported: use one of {}",
            known.join(", ")
        ));
    };
    if !allowed.is_empty() && !allowed.contains(&value) {
        return Err(format!(
            "http_server_config: header {name} has an unsupported value: set it to {}",
            allowed.join(" or ")
        ));
    }
    let value = HeaderValue::from_str(value);
    let value = value.map_err(|_| {
        format!("http_server_config: header {name} has a control character in its value: remove it")
    })?;
    Ok((header_name, value))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimitYaml {
    interval: Option<String>,
    burst: Option<String>,
}

impl RateLimitYaml {
    /// `None` without a limit.
    fn into_rate_limit(self) -> Result<Option<RequestRateLimit>, String> {
        let text = self.interval.unwrap_or_else(|| "0".to_owned());
        let interval = humantime::parse_duration(&text).map_err(|_| {
            format!(
                "rate_limit: interval: {} is not a duration: write it like 1s, 1m30s or 500ms",
                quote_value(&text)
            )
        })?;
        if interval.is_zero() {
            return Ok(None);
        }
        let burst = self.burst.unwrap_or_else(|| "0".to_owned());
        match burst.parse() {
            Ok(burst) if burst > 0 => Ok(Some(RequestRateLimit::new(interval, burst))),
            _ => {
                Err("rate_limit: burst must be a whole number above 0: 0 would reject every request"
                    .to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_an_example() {
        for (parent, text) in [
            ("", "unknown: 1"),
            ("tls_server_config.", "tls_server_config: {unknown: 1}"),
            ("http_server_config.", "http_server_config: {unknown: 1}"),
            ("rate_limit.", "rate_limit: {unknown: 1}"),
        ] {
            let mut accepted = yaml::accepted_keys::<WebConfigYaml>(text);
            let paths = EXAMPLES.lines.iter().filter_map(|(path, _)| path.strip_prefix(parent));
            let mut in_table: Vec<_> = paths.filter(|key| !key.is_empty() && !key.contains('.')).collect();
            accepted.sort_unstable();
            in_table.sort_unstable();
            assert!(!accepted.is_empty());
            assert_eq!(in_table, accepted, "{parent}");
        }
    }

    #[test]
    fn every_example_is_right_in_its_place() {
        for (path, line) in EXAMPLES.lines {
            let line = line.split('`').next().unwrap_or_default();
            let text = match path.split_once('.') {
                Some((parent, _)) => format!("{parent}: {{{line}}}"),
                None => line.to_owned(),
            };
            let read = yaml::read::<WebConfigYaml>(&text, &EXAMPLES);
            assert!(read.is_ok(), "{path}: {text}");
        }
    }

    #[test]
    fn an_invalid_file_is_read_again_although_it_has_not_changed() {
        // The reason may be permissions or a missing file descriptor.
        let loaded = LoadedConfig { config: Err(String::new()), fingerprints: vec![], warnings: vec![] };
        assert!(loaded.is_stale());
    }
}
