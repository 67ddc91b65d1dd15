//! An HTTP proxy between this machine and the exchange: its address, and the user and password that it asks for. Neither
//! of these is ever shown. Sends nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    reread::ReloadedValue,
    strict_url::{parse_host, parse_port},
};
use crate::files::{self, Fingerprint};

/// The most bytes of a file with user and password.
const FILE_MAX_BYTES: u64 = 4096;
/// A shorter word is no secret, and redacting it would make every text unreadable.
const SECRET_MIN_CHARS: usize = 4;

/// A proxy that opens tunnels with the method CONNECT. TLS with the exchange passes through the tunnel.
#[derive(Clone)]
pub struct Proxy {
    /// Without user, password and path.
    url: Url,
    login: Login,
    warning: Option<String>,
}

/// Where user and password come from. Equal if the source is.
#[derive(Clone)]
enum Login {
    None,
    /// From the environment.
    Given(Arc<ProxyCredentials>),
    File(PathBuf, ReloadedValue<ProxyCredentials>),
}

/// The user and the password for a proxy. They cannot be printed.
#[derive(PartialEq, Eq)]
pub struct ProxyCredentials {
    user: Zeroizing<String>,
    password: Zeroizing<String>,
    /// Both, as the proxy gets them.
    encoded: Zeroizing<String>,
}

impl Proxy {
    /// Parses `http://host:port` or `https://host:port`. Returns the proxy and the user and password of the URL, if it has
    /// any.
    ///
    /// # Errors
    /// The predicate of a sentence, without any part of the text.
    pub fn parse(text: &str) -> Result<(Self, Option<ProxyCredentials>), String> {
        let invalid = || "is not a valid URL: write it like http://proxy.example.com:3128".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.starts_with("socks") {
            return Err("names a SOCKS proxy, which is not supported: set an HTTP proxy, such as http://proxy.example.com:3128".to_owned());
        }
        if !["http", "https"].contains(&scheme.as_str()) {
            return Err(invalid());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !["", "/"].contains(&path) {
            return Err("must end after the port: remove what follows".to_owned());
        }
        let (login, host) =
            authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        parse_port(host)?;
        let url = parse_host(&scheme, host, "").ok_or_else(invalid)?;
        let credentials = login.map(ProxyCredentials::from_url).transpose()?;
        Ok((Self { url, login: Login::None, warning: None }, credentials))
    }

    /// Adds the user and password that an environment variable holds.
    #[must_use]
    pub fn with_credentials(self, credentials: ProxyCredentials) -> Self {
        Self { login: Login::Given(Arc::new(credentials)), ..self }
    }

    /// Adds the user and password of a file, which is read again every ten seconds. May block.
    ///
    /// # Errors
    /// The predicate of a sentence about the file.
    pub fn with_credentials_file(self, path: &Path) -> Result<Self, String> {
        let mut seen = files::fingerprint(path);
        let first = ProxyCredentials::read(path)?;
        let (file, mut reported) = (path.to_owned(), None);
        let read = move || read_if_changed(&file, &mut seen, &mut reported);
        let current = ReloadedValue::start("proxy password", first, read)
            .map_err(|error| format!("needs a thread that reads it again, which cannot start: {error}"))?;
        let warning = files::permission_warning(path);
        Ok(Self { login: Login::File(path.to_owned(), current), warning, ..self })
    }

    /// The URL, without user and password.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The current user and password.
    pub(super) fn credentials(&self) -> Option<Arc<ProxyCredentials>> {
        match &self.login {
            Login::None => None,
            Login::Given(credentials) => Some(Arc::clone(credentials)),
            Login::File(_, current) => Some(current.current()),
        }
    }

    /// A warning if more users could read the file with the password than need to when it was first read.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Reads the file again if it changed. The credentials in use stay in use while it is not readable.
fn read_if_changed(
    path: &Path,
    seen: &mut Fingerprint,
    reported: &mut Option<String>,
) -> Option<ProxyCredentials> {
    let fingerprint = files::fingerprint(path);
    if fingerprint == *seen {
        return None;
    }
    match ProxyCredentials::read(path) {
        Ok(credentials) => {
            (*seen, *reported) = (fingerprint, None);
            tracing::info!("the file with the proxy's user and password has changed");
            Some(credentials)
        }
        Err(why) => {
            if reported.as_ref() != Some(&why) {
                tracing::warn!("keeping the proxy's user and password in use: their file {why}");
            }
            *reported = Some(why);
            None
        }
    }
}

impl ProxyCredentials {
    fn new(user: &str, password: &str) -> Self {
        let joined = Zeroizing::new(format!("{user}:{password}"));
        Self {
            user: Zeroizing::new(user.to_owned()),
            password: Zeroizing::new(password.to_owned()),
            encoded: Zeroizing::new(BASE64_STANDARD.encode(joined.as_bytes())),
        }
    }

    /// Parses the part of a URL before `@`.
    fn from_url(login: &str) -> Result<Self, String> {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decode =
            |text: &str| percent_decode_str(text).decode_utf8().map(|text| Zeroizing::new(text.into_owned()));
        match (decode(user), decode(password)) {
            (Ok(user), Ok(password)) => Ok(Self::new(&user, &password)),
            _ => Err("holds a user or password that is not UTF-8".to_owned()),
        }
    }

    /// Reads a file with the one line `user:password`.
    fn read(path: &Path) -> Result<Self, String> {
        let bytes = files::read(path, FILE_MAX_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "cannot be read: it is not UTF-8")?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let line = text.strip_suffix('\r').unwrap_or(text);
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() && !line.chars().any(char::is_control) => {
                Ok(Self::new(user, password))
            }
            _ => Err("must hold one line: write it like user:password".to_owned()),
        }
    }

    /// Both, encoded for the header `Proxy-Authorization`.
    pub(super) fn encoded(&self) -> &str {
        &self.encoded
    }

    /// The words that no text may show.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let words = [&self.user, &self.password, &self.encoded].map(|word| word.as_str());
        words.into_iter().filter(|word| word.chars().count() >= SECRET_MIN_CHARS)
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        (&self.url, &self.login) == (&other.url, &other.login)
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Given(one), Self::Given(other)) => one == other,
            (Self::File(one, _), Self::File(other, _)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for Proxy {
    /// Writes `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port_or_known_default().unwrap_or_default();
        write!(f, "{}:{port}", self.url.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_and_shows_only_host_and_port() -> Result<(), String> {
        for (text, shown) in [
            ("http://proxy.example.com:3128", "proxy.example.com:3128"),
            ("http://proxy.example.com:3128/", "proxy.example.com:3128"),
            ("HTTP://Proxy.example.com", "proxy.example.com:80"),
            ("https://proxy.example.com", "proxy.example.com:443"),
            ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
            ("http://hunter:hunter2@proxy:1", "proxy:1"),
        ] {
            let (proxy, credentials) = Proxy::parse(text)?;
            assert_eq!(proxy.to_string(), shown);
            let proxy = match credentials {
                Some(credentials) => proxy.with_credentials(credentials),
                None => proxy,
            };
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
        }
        Ok(())
    }

    #[test]
    fn other_urls_are_refused_without_a_word_of_them() {
        for (text, why) in [
            ("socks5://hunter2:1080", "SOCKS proxy, which is not supported"),
            ("socks5h://user:hunter2@x", "SOCKS proxy, which is not supported"),
            ("ftp://hunter2", "is not a valid URL"),
            ("hunter2", "is not a valid URL"),
            ("hunter2:3128", "is not a valid URL"),
            ("http://", "is not a valid URL"),
            ("http://user:hunter2@", "is not a valid URL"),
            ("http://x:hunter2", "a number from 1 to 65535"),
            ("http://proxy:99999", "a number from 1 to 65535"),
            ("http://user:hunter2@proxy:0", "a number from 1 to 65535"),
            ("http://proxy:/", "a number from 1 to 65535"),
            ("http://M\u{fc}nze:1", "is not a valid URL"),
            ("http://%C3%BC:1", "is not a valid URL"),
            ("http://proxy:1/hunter2", "must end after the port"),
            ("http://%ff:hunter2@proxy:1", "not UTF-8"),
        ] {
            let error = Proxy::parse(text).err().unwrap_or_default();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn user_and_password_of_a_url_are_decoded_and_not_printed() -> Result<(), String> {
        let (_, credentials) = Proxy::parse("http://jane%40corp:p%3Aa%20ss%2Fw@proxy:1")?;
        let credentials = credentials.ok_or("no credentials")?;
        assert_eq!((&**credentials.user, &**credentials.password), ("jane@corp", "p:a ss/w"));
        assert_eq!(credentials.encoded(), BASE64_STANDARD.encode("jane@corp:p:a ss/w"));
        assert_eq!(format!("{credentials:?}"), "[redacted]");
        assert_eq!(credentials.secrets().count(), 3);
        assert_eq!(ProxyCredentials::new("x", "abc").secrets().count(), 1);
        Ok(())
    }

    #[test]
    fn the_file_holds_one_line_and_is_read_again_when_it_changes() -> Result<(), Box<dyn std::error::Error>> {
        let file = tempfile::NamedTempFile::new()?;
        let write = |text: &str| fs::write(file.path(), text);
        for bad in ["", "hunter2", ":hunter2", "user:hunter2\nmore", "user:hunter2\n\n"] {
            write(bad)?;
            let error = ProxyCredentials::read(file.path()).err().unwrap_or_default();
            assert!(error.contains("user:password") && !error.contains("hunter2"), "{bad:?}: {error}");
        }
        write("jane:pa:ss wörd\r\n")?;
        let (mut seen, mut reported) = (files::fingerprint(file.path()), None);
        let read = ProxyCredentials::read(file.path())?;
        assert_eq!((&**read.user, &**read.password), ("jane", "pa:ss wörd"));
        assert!(read_if_changed(file.path(), &mut seen, &mut reported).is_none());
        write("broken")?;
        assert!(read_if_changed(file.path(), &mut seen, &mut reported).is_none());
        assert!(reported.is_some());
        write("jane:new-password")?;
        let read = read_if_changed(file.path(), &mut seen, &mut reported);
        assert_eq!(read.map(|read| read.password.to_string()), Some("new-password".to_owned()));
        Ok(())
    }
}
