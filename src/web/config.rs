//! The web configuration file: TLS, clients' certificates, passwords, headers, a limit of requests. Its
//! form is that of Prometheus' exporter-toolkit (R39), so that a file of another exporter will do. What of it
//! cannot be had here is refused and never ignored. Knows no route and no connection.

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
    quoting::{quote_existing_path, quote_short},
    yaml,
};

/// The longest of these files that is read.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Headers that may be set, and to what, if not to anything.
const HEADERS: [(&str, HeaderName, &[&str]); 5] = [
    ("Content-Security-Policy", header::CONTENT_SECURITY_POLICY, &[]),
    ("Strict-Transport-Security", header::STRICT_TRANSPORT_SECURITY, &[]),
    ("X-Content-Type-Options", header::X_CONTENT_TYPE_OPTIONS, &["nosniff"]),
    ("X-Frame-Options", header::X_FRAME_OPTIONS, &["deny", "sameorigin"]),
    ("X-XSS-Protection", header::X_XSS_PROTECTION, &[]),
];

/// What a web configuration file asks for.
#[derive(Debug)]
pub(super) struct WebConfig {
    /// If connections are to be encrypted.
    pub tls: Option<Tls>,
    /// Set on every answer that has none of its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may ask.
    pub access: Authenticator,
}

/// A reading of the file and of those it names.
#[derive(Debug)]
pub(super) struct LoadedConfig {
    /// What was found, or a sentence that says what is wrong with it and how to mend it.
    pub config: Result<Arc<WebConfig>, String>,
    /// What each file looked like just before it was read.
    seen: Vec<(PathBuf, Fingerprint)>,
    /// Sentences about files that more users may read than need to.
    pub warnings: Vec<String>,
}

impl LoadedConfig {
    /// Reads the file at `path`; paths in it are relative to its folder. May block.
    pub(super) fn of(path: &Path) -> Self {
        let mut reader =
            ConfigReader { folder: path.parent().unwrap_or(Path::new("")), seen: vec![], secrets: vec![] };
        let config = reader.config(path).map(Arc::new);
        let ConfigReader { seen, secrets, .. } = reader;
        let warnings = secrets.iter().filter_map(|path| files::permission_warning(path)).collect();
        Self { config, seen, warnings }
    }

    /// Whether a file has changed since, or could not be used. May block.
    pub(super) fn is_stale(&self) -> bool {
        self.config.is_err() || self.seen.iter().any(|(path, stamp)| files::fingerprint(path) != *stamp)
    }
}

struct ConfigReader<'a> {
    folder: &'a Path,
    seen: Vec<(PathBuf, Fingerprint)>,
    /// Those of the files that hold a secret.
    secrets: Vec<PathBuf>,
}

impl ConfigReader<'_> {
    fn config(&mut self, path: &Path) -> Result<WebConfig, String> {
        let text = self.file(path.to_owned()).map_err(|error| format!("cannot be read: {error}"))?;
        let text = std::str::from_utf8(&text).map_err(|_| "is not UTF-8: it must be YAML")?;
        // A file without a word, or with comments alone, is no mistake.
        let file: WebConfigYaml = yaml::read::<Option<_>>(text)?.unwrap_or_default();
        let limit = file.rate_limit.map(RateLimitYaml::limit).transpose()?.flatten();
        let users = file.basic_auth_users.unwrap_or_default();
        let tls = file.tls_server_config.unwrap_or_default();
        if !users.is_empty() || tls.key.is_some() {
            self.secrets.push(path.to_owned());
        }
        Ok(WebConfig {
            tls: self.tls(tls).map_err(|why| format!("tls_server_config: {why}"))?,
            headers: file.http_server_config.unwrap_or_default().headers()?,
            access: Authenticator::new(users, limit)?,
        })
    }

    fn tls(&mut self, yaml: TlsYaml) -> Result<Option<Tls>, String> {
        if !yaml.is_set() {
            return Ok(None);
        }
        let clients = self.clients(&yaml)?;
        if let Some(file) = &yaml.key_file {
            self.secrets.push(self.folder.join(file));
        }
        let needed = |what| format!("{what} and {what}_file are both left out, and TLS needs one: add it");
        let key = yaml.key.map(Zeroizing::new);
        let wanted = TlsOptions {
            certificates: self
                .pem(["cert", "cert_file"], yaml.cert.as_deref(), yaml.cert_file.as_deref())?
                .ok_or_else(|| needed("cert"))?,
            key: self
                .pem(["key", "key_file"], key.as_deref().map(String::as_str), yaml.key_file.as_deref())?
                .ok_or_else(|| needed("key"))?,
            clients: clients.map(Arc::new),
            versions: [yaml.min_version, yaml.max_version],
            cipher_suites: yaml.cipher_suites.unwrap_or_default(),
            prefers_own_order: yaml.prefer_server_cipher_suites.unwrap_or(true),
            curves: yaml.curve_preferences.unwrap_or_default(),
        };
        Tls::new(&wanted).map(Some)
    }

    fn clients(&mut self, yaml: &TlsYaml) -> Result<Option<ClientAuthOptions>, String> {
        let authorities = self.pem(
            ["client_ca", "client_ca_file"],
            yaml.client_ca.as_deref(),
            yaml.client_ca_file.as_deref(),
        )?;
        let kind = yaml.client_auth_type.as_deref().unwrap_or("NoClientCert");
        let may_have_none = match kind {
            "NoClientCert" => {
                let vain = [
                    ("client_ca", authorities.is_some()),
                    ("client_allowed_sans", yaml.client_allowed_sans.is_some()),
                ];
                let Some((given, _)) = vain.iter().find(|(_, given)| *given) else { return Ok(None) };
                return Err(format!(
                    "{given} is given and client_auth_type is not, so that no certificate would be asked for: set it to RequireAndVerifyClientCert"
                ));
            }
            "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
                return Err(format!(
                    "client_auth_type {kind} takes a certificate that anybody may have made, which is not done here: set it to RequireAndVerifyClientCert"
                ));
            }
            "VerifyClientCertIfGiven" if yaml.client_allowed_sans.is_some() => {
                return Err("client_allowed_sans would not stop clients without a certificate: set client_auth_type to RequireAndVerifyClientCert".to_owned());
            }
            "VerifyClientCertIfGiven" => true,
            "RequireAndVerifyClientCert" => false,
            _ => {
                return Err(format!(
                    "client_auth_type is {} and can be NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
                    quote_short(kind)
                ));
            }
        };
        let authorities = authorities
            .ok_or_else(|| format!("client_auth_type {kind} needs an authority: give client_ca_file"))?;
        Ok(Some(ClientAuthOptions { authorities, may_have_none, names: yaml.client_allowed_sans.clone() }))
    }

    /// What is given as text or in a file, if either.
    fn pem(
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
                let shown = quote_existing_path(&path);
                self.file(path).map(Some).map_err(|error| format!("cannot read {file_key}{shown}: {error}"))
            }
            (Some(_), Some(_)) => {
                Err(format!("{text_key} and {file_key} are both given: leave one of them out"))
            }
        }
    }

    fn file(&mut self, path: PathBuf) -> io::Result<Zeroizing<Vec<u8>>> {
        let stamp = files::fingerprint(&path);
        let bytes = files::read(&path, FILE_MAX_BYTES);
        self.seen.push((path, stamp));
        let bytes = bytes?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(io::Error::other("it is over 1 MiB: is it the right file?"));
        }
        Ok(bytes)
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
    fn headers(self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        if self.http2 == Some(true) {
            return Err("http_server_config: http2 is true, and only HTTP/1.1 is spoken here: leave it out, or set it to false".to_owned());
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
    let Some((_, known, values)) = HEADERS.into_iter().find(|(known, ..)| *known == name) else {
        let known: Vec<_> = HEADERS.iter().map(|(known, ..)| *known).collect();
        return Err(format!(
            "http_server_config: {} is no header that can be set, but {}",
            quote_short(name),
            known.join(", ")
        ));
    };
    if !values.is_empty() && !values.contains(&value) {
        return Err(format!(
            "http_server_config: {name} is {} and can be {}",
            quote_short(value),
            values.join(" or ")
        ));
    }
    let value = HeaderValue::from_str(value);
    let value =
        value.map_err(|_| format!("http_server_config: {name} has a value that no header can have"))?;
    Ok((known, value))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimitYaml {
    interval: Option<String>,
    burst: Option<String>,
}

impl RateLimitYaml {
    fn limit(self) -> Result<Option<RequestRateLimit>, String> {
        let text = self.interval.unwrap_or_else(|| "0".to_owned());
        let interval = humantime::parse_duration(&text).map_err(|_| {
            format!(
                "rate_limit: interval: {} is no duration: write it like 1s, 1m30s or 500ms",
                quote_short(&text)
            )
        })?;
        if interval.is_zero() {
            return Ok(None);
        }
        let burst = self.burst.unwrap_or_else(|| "0".to_owned());
        match burst.parse() {
            Ok(burst) if burst > 0 => Ok(Some(RequestRateLimit::new(interval, burst))),
            _ => {
                Err("rate_limit: burst must be a whole number above 0, or no request would ever be answered"
                    .to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_used_is_tried_again_though_it_looks_the_same() {
        // It may have been the reader's fault: rights, or file descriptors.
        let reading = LoadedConfig { config: Err(String::new()), seen: vec![], warnings: vec![] };
        assert!(reading.is_stale());
    }
}
