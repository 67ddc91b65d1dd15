//! An address to listen on, written as in Go programs: `:10770`, `localhost:10770`, `[::1]:10770`. Opens no socket and
//! looks up no name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// A TCP address to listen on. Port 0 stands for any free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// All addresses of this machine, as in `:10770`.
    AllAddresses(u16),
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name, which a resolver looks up, and a port.
    Name(Box<str>, u16),
}

impl ListenAddress {
    /// The port; 0 stands for any free port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::AllAddresses(port) | Self::Name(_, port) => *port,
            Self::Socket(address) => address.port(),
        }
    }

    /// Whether nobody can listen on both addresses at the same time. Looks up no name, so of
    /// names it knows only `localhost`.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        if self.port() == 0 || self.port() != other.port() {
            return false;
        }
        let covers = |wide: &Self, narrow: &Self| match (wide, narrow) {
            (Self::AllAddresses(_), _) => true,
            // Whether [::] covers IPv4 depends on the system.
            (Self::Socket(wide), Self::Socket(narrow)) => {
                let (wide, narrow) = (wide.ip().to_canonical(), narrow.ip().to_canonical());
                wide == narrow || (wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4())
            }
            // Every system has the IPv4 address of this name.
            (Self::Socket(wide), Self::Name(name, _)) if name.eq_ignore_ascii_case("localhost") => {
                let wide = wide.ip().to_canonical();
                wide == Ipv4Addr::LOCALHOST || wide == Ipv4Addr::UNSPECIFIED
            }
            _ => false,
        };
        self == other || covers(self, other) || covers(other, self)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllAddresses(port) => write!(f, ":{port}"),
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    /// The error says how to write the address. It repeats only numbers and IP addresses.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        parse(text).ok_or_else(|| explain(text))
    }
}

fn parse(text: &str) -> Option<ListenAddress> {
    if let Ok(address) = text.parse() {
        return Some(ListenAddress::Socket(address));
    }
    let (host, port) = text.split_once(':')?;
    // `parse` alone would accept a plus sign.
    let port = port.parse().ok().filter(|_| is_number(port))?;
    match host {
        "" => Some(ListenAddress::AllAddresses(port)),
        name => is_host_name(name).then(|| ListenAddress::Name(name.into(), port)),
    }
}

/// Whether `name` can be a host name. An IP address with a mistake ends in a number, and a host name does not.
fn is_host_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    name.bytes().all(is_allowed) && !last.is_empty() && !is_number(last)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why `text` is not an address, and how to write it.
fn explain(text: &str) -> String {
    const EXAMPLE: &str = "127.0.0.1:10770, or :10770 for all addresses of this machine";
    if is_number(text) {
        return match text.parse::<u16>() {
            Ok(port) => format!(
                "a port needs a colon before it: write :{port} for all addresses of this machine, or 127.0.0.1:{port}"
            ),
            Err(_) => format!("a port is at most 65535: write {EXAMPLE}"),
        };
    }
    if text.contains([',', ' ', ';']) {
        return "this is more than one address: set the flag once for each, such as 127.0.0.1:10770"
            .to_owned();
    }
    if let Some((_, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or_default();
        return format!("an address has no scheme and no path: write {}", suggest(address, EXAMPLE));
    }
    if let Some((address, _)) = text.split_once('/') {
        return format!("an address has no path: write {}", suggest(address, EXAMPLE));
    }
    if let Some(port) = text.strip_prefix("*:").filter(|port| is_number(port)) {
        return format!("a star is not an address: write {}", suggest(&format!(":{port}"), EXAMPLE));
    }
    if let Some(suggestion) = suggest_brackets(text) {
        return format!("an IPv6 address needs brackets, and a port after them: write {suggestion}");
    }
    let host = text.strip_suffix(':').unwrap_or(text);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if let Ok(ip) = ip {
        return format!("the port is missing: write {}", SocketAddr::new(ip, 10770));
    }
    match text.rsplit_once(':') {
        Some((_, port)) if is_number(port) && port.parse::<u16>().is_err() => {
            format!("a port is at most 65535: write {EXAMPLE}")
        }
        Some((_, port)) if is_number(port) => {
            format!("this is neither an IP address nor a host name: write {EXAMPLE}")
        }
        Some((_, port)) if !port.is_empty() => format!("the port is not a number: write {EXAMPLE}"),
        _ if host == "localhost" => "the port is missing: write localhost:10770".to_owned(),
        _ => format!("the port is missing: write {EXAMPLE}"),
    }
}

/// The address if it is valid and contains no name, or else the example.
fn suggest(address: &str, example: &str) -> String {
    match parse(address) {
        Some(address @ (ListenAddress::AllAddresses(_) | ListenAddress::Socket(_))) => address.to_string(),
        Some(ListenAddress::Name(name, port)) if &*name == "localhost" => format!("localhost:{port}"),
        _ => example.to_owned(),
    }
}

/// The right spelling of an IPv6 address without brackets.
fn suggest_brackets(text: &str) -> Option<String> {
    let with_port = text.rsplit_once(':').and_then(|(host, port)| {
        let host: Ipv6Addr = host.parse().ok()?;
        Some(SocketAddr::new(host.into(), port.parse().ok().filter(|_| is_number(port))?))
    });
    let alone = || text.parse::<Ipv6Addr>().ok().map(|host| SocketAddr::new(host.into(), 10770));
    with_port.or_else(alone).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_in_go() {
        for text in [
            ":10770",
            "127.0.0.1:10770",
            "0.0.0.0:0",
            "[::]:10770",
            "[::1]:10770",
            "localhost:10770",
            "desk-1.example.com:80",
            "_gateway:80",
        ] {
            let address = text.parse::<ListenAddress>();
            assert_eq!(address.map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(" :80 ".parse(), Ok(ListenAddress::AllAddresses(80)));
    }

    #[test]
    fn another_spelling_is_rejected_with_the_right_one() {
        for (text, expected) in [
            ("10770", "write :10770 for all addresses of this machine, or 127.0.0.1:10770"),
            ("65536", "at most 65535"),
            (":65536", "at most 65535"),
            ("127.0.0.1:65536", "at most 65535"),
            (":-1", "the port is not a number"),
            (":+80", "the port is not a number"),
            (":http", "the port is not a number"),
            ("1.2.3.4", "the port is missing: write 1.2.3.4:10770"),
            ("1.2.3.4:", "the port is missing: write 1.2.3.4:10770"),
            ("[::1]", "the port is missing: write [::1]:10770"),
            ("localhost", "write localhost:10770"),
            ("localhost:", "write localhost:10770"),
            ("desk", "the port is missing: write 127.0.0.1:10770"),
            ("", "the port is missing"),
            (":", "the port is missing"),
            ("::1", "needs brackets, and a port after them: write [::1]:10770"),
            ("::1:10770", "write [::1]:10770"),
            (":::10770", "write [::]:10770"),
            ("fe80::1", "write [fe80::1]:10770"),
            ("http://127.0.0.1:80/metrics", "no scheme and no path: write 127.0.0.1:80"),
            ("http://localhost:80", "write localhost:80"),
            ("tcp://desk:80", "no path: write 127.0.0.1:10770"),
            ("127.0.0.1:80/metrics", "no path: write 127.0.0.1:80"),
            ("*:80", "write :80"),
            (":80,:81", "once for each"),
            (":80 :81", "once for each"),
            ("300.1.2.3:80", "neither an IP address nor a host name"),
            ("127.1:80", "neither an IP address nor a host name"),
            ("0:80", "neither an IP address nor a host name"),
            ("a@b:80", "neither an IP address nor a host name"),
            ("[1.2.3.4]:80", "neither an IP address nor a host name"),
        ] {
            let error = text.parse::<ListenAddress>().err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn two_addresses_that_nobody_can_listen_on_together_conflict() {
        let conflict = |a: &str, b: &str| {
            let [a, b] = [a, b].map(str::parse::<ListenAddress>);
            let (Ok(a), Ok(b)) = (a, b) else { return None };
            assert_eq!(a.conflicts_with(&b), b.conflicts_with(&a));
            Some(a.conflicts_with(&b))
        };
        for (a, b, expected) in [
            (":80", ":80", true),
            (":80", "127.0.0.1:80", true),
            (":80", "localhost:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            (":0", ":0", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80", true),
            ("localhost:80", "127.0.0.1:80", true),
            ("Localhost:80", "0.0.0.0:80", true),
            ("localhost:80", "192.0.2.1:80", false),
            ("a.example:80", "127.0.0.1:80", false),
        ] {
            assert_eq!(conflict(a, b), Some(expected), "{a} {b}");
        }
    }
}
