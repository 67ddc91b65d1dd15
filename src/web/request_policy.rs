//! Rejects requests that a browser makes for somebody else: with a foreign host name (DNS rebinding), or from a page of
//! another site (CSRF). Pure: it knows neither sockets nor responses.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderValue},
};

use crate::quoting::quote_value;

/// A host name or address, without a port. Parsing ignores upper case and a dot at the end, as browsers do in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// Lower case, without a dot at the end.
    Name(Box<str>),
    /// An IPv4 address mapped into IPv6 is the IPv4 address.
    Address(IpAddr),
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match Authority::parse(text) {
            Some(Authority { host, port: None }) => Ok(host),
            Some(_) => Err("remove the port: the host name applies to every port".to_owned()),
            // An IPv6 address without brackets is unambiguous here.
            None => {
                text.parse::<IpAddr>().map(|address| Self::Address(address.to_canonical())).map_err(|_| {
                    format!(
                        "{} is not a host name: write it like balances.example.com, without http:// and path",
                        quote_value(text)
                    )
                })
            }
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A host with an optional port.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: HostName,
    port: Option<u16>,
}

impl Authority {
    /// Parses `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. `None` for anything else, also for IPv6 zones: no browser
    /// sends them.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (HostName::Address(IpAddr::V6(address).to_canonical()), port)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at_checked(end)?;
            (Self::parse_host(name)?, port)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            // A colon without a port is the default port (RFC 3986).
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    fn parse_host(name: &str) -> Option<HostName> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Some(HostName::Address(address.to_canonical()));
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!name.is_empty() && name.bytes().all(is_valid))
            .then(|| HostName::Name(name.to_ascii_lowercase().into_boxed_str()))
    }
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyRefusal {
    /// Its host is not a name of this server.
    ForeignHost,
    /// A page of another site made it.
    CrossSite,
}

/// The rules for hosts and origins of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestPolicy {
    /// Allowed hosts in addition to the names of loopback addresses. If there are any, all addresses reject other hosts.
    pub allowed_hosts: Vec<HostName>,
}

impl RequestPolicy {
    /// Checks a request on a connection to the `local` address. Pages of other sites may request `open_path`: they cannot
    /// read the response, because no response has CORS headers.
    ///
    /// # Errors
    /// If the request must be rejected.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        local: IpAddr,
        open_path: &str,
    ) -> Result<(), PolicyRefusal> {
        let hosts = requested_hosts(request).ok_or(PolicyRefusal::ForeignHost)?;
        let local = local.to_canonical();
        let checks_hosts = local.is_loopback() || !self.allowed_hosts.is_empty();
        if checks_hosts && !hosts.iter().all(|authority| self.is_allowed_host(&authority.host, local)) {
            return Err(PolicyRefusal::ForeignHost);
        }
        if request.uri().path() == open_path {
            return Ok(());
        }
        let is_same_origin = |origin: &HeaderValue| self.is_same_origin(origin, &hosts);
        if !request.headers().get_all(header::ORIGIN).iter().all(is_same_origin) {
            return Err(PolicyRefusal::CrossSite);
        }
        let is_allowed =
            is_same_origin_fetch(request.headers()) || is_navigation(request.method(), request.headers());
        if is_allowed { Ok(()) } else { Err(PolicyRefusal::CrossSite) }
    }

    /// The connection's own address is always allowed, for probes and service discovery: an attacker's page can only use
    /// the attacker's name.
    fn is_allowed_host(&self, host: &HostName, local: IpAddr) -> bool {
        let is_own = match host {
            HostName::Address(address) => *address == local || (local.is_loopback() && address.is_loopback()),
            // Not *.localhost: some resolvers look these names up on the network.
            HostName::Name(name) => local.is_loopback() && &**name == "localhost",
        };
        is_own || self.allowed_hosts.contains(host)
    }

    /// Whether an `Origin` is this server: the requested host, or an allowed host, because a proxy may rewrite `Host`.
    fn is_same_origin(&self, origin: &HeaderValue, hosts: &[Authority]) -> bool {
        let parsed = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let Some((scheme, authority)) = parsed else { return false };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let Some(Authority { host, port }) = Authority::parse(authority) else { return false };
        let port = port.unwrap_or(default_port);
        let is_same =
            |requested: &Authority| requested.host == host && requested.port.unwrap_or(default_port) == port;
        (!hosts.is_empty() && hosts.iter().all(is_same)) || self.allowed_hosts.contains(&host)
    }
}

/// The hosts in an absolute target (hyper puts `:authority` of HTTP/2 there) and in `Host`. Empty without any: old
/// health checkers send none, but every browser does. `None` if one of them is invalid.
fn requested_hosts<B>(request: &Request<B>) -> Option<Vec<Authority>> {
    let target = request.uri().authority().map(|authority| Authority::parse(authority.as_str()));
    let headers = request.headers().get_all(header::HOST).iter().filter(|value| !value.is_empty());
    let headers = headers.map(|value| value.to_str().ok().and_then(Authority::parse));
    target.into_iter().chain(headers).collect()
}

/// Whether a page of this server, or the user, makes the request. Programs do not send the header, and browsers send it to
/// loopback addresses and over HTTPS only.
fn is_same_origin_fetch(headers: &HeaderMap) -> bool {
    headers.get_all("sec-fetch-site").iter().all(|site| site == "same-origin" || site == "none")
}

/// Whether the user follows a link, for example from a dashboard or an alert: the page with the link cannot read the
/// response. Not in a frame, and not with a form that sends data.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let has = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    [Method::GET, Method::HEAD].contains(method)
        && has("sec-fetch-mode", "navigate")
        && (has("sec-fetch-dest", "document") || !headers.contains_key("sec-fetch-dest"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    fn policy(allowed: &[&str]) -> RequestPolicy {
        let host = |text: &&str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        RequestPolicy { allowed_hosts: allowed.iter().map(host).collect() }
    }

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        request.body(()).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    fn check(allowed: &[&str], local: IpAddr, request: &Request<()>) -> Result<(), PolicyRefusal> {
        policy(allowed).check(request, local, "/metrics")
    }

    fn check_host(allowed: &[&str], local: IpAddr, host: &str) -> Result<(), PolicyRefusal> {
        check(allowed, local, &request("GET", "/metrics", &[("Host", host)]))
    }

    #[test]
    fn a_loopback_address_accepts_its_own_names_and_allowed_hosts() {
        let mapped = IpAddr::V6(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        for local in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped] {
            for own in [
                "localhost",
                "LocalHost:10770",
                "localhost.",
                "localhost.:1",
                "localhost:",
                "127.0.0.1",
                "127.0.0.1:10770",
                "127.9.9.9:65535",
                "[::1]",
                "[::1]:10770",
                "[0:0:0:0:0:0:0:1]:1",
                "[::ffff:127.0.0.1]:1",
                "",
            ] {
                assert_eq!(check_host(&[], local, own), Ok(()), "{own}");
            }
            for foreign in [
                "rebind.evil.example",
                "rebind.evil.example:10770",
                "localhost.evil.example",
                "evil.localhost",
                "127.0.0.1.evil.example",
                "localhost..",
                ".localhost",
                "10.1.2.3",
                "0.0.0.0:10770",
                "[::]",
                "[::1%lo]:10770",
                "[::1",
                "::1",
                "evil@localhost",
                "localhost@evil.example",
                "localhost:x",
                "localhost:+1",
                "localhost:99999",
                "localhost,evil.example",
                "localhost/",
                " ",
                ".",
                "2130706433",
            ] {
                assert_eq!(check_host(&[], local, foreign), Err(PolicyRefusal::ForeignHost), "{foreign}");
            }
        }
        let allowed = ["Balances.Example.com.", "fd00::1", "192.0.2.7"];
        for host in ["balances.example.com", "BALANCES.example.com.:443", "[fd00::1]:1", "192.0.2.7"] {
            assert_eq!(check_host(&allowed, LOOPBACK, host), Ok(()), "{host}");
        }
        assert!(check_host(&allowed, LOOPBACK, "x.balances.example.com").is_err());
    }

    #[test]
    fn other_addresses_accept_every_host_until_hosts_are_configured() {
        assert_eq!(check_host(&[], OTHER_ADDRESS, "exporter:10770"), Ok(()));
        let allowed = ["exporter"];
        for host in ["exporter:10770", "10.1.2.3:10770", ""] {
            assert_eq!(check_host(&allowed, OTHER_ADDRESS, host), Ok(()), "{host}");
        }
        for host in ["rebind.evil.example", "localhost", "127.0.0.1", "10.1.2.4"] {
            assert_eq!(check_host(&allowed, OTHER_ADDRESS, host), Err(PolicyRefusal::ForeignHost), "{host}");
        }
    }

    #[test]
    fn every_host_in_a_request_is_checked() {
        let target =
            |target: &str, host: &str| check(&[], LOOPBACK, &request("GET", target, &[("Host", host)]));
        assert_eq!(target("http://localhost:1/metrics", "localhost:1"), Ok(()));
        for (absolute, host) in [
            ("http://rebind.evil.example/metrics", "localhost"),
            ("http://localhost/metrics", "rebind.evil.example"),
            ("http://localhost@rebind.evil.example/metrics", "localhost"),
        ] {
            assert_eq!(target(absolute, host), Err(PolicyRefusal::ForeignHost), "{absolute} {host}");
        }
        let twice = request("GET", "/", &[("Host", "localhost"), ("Host", "rebind.evil.example")]);
        assert_eq!(check(&[], LOOPBACK, &twice), Err(PolicyRefusal::ForeignHost));
        assert_eq!(check(&[], LOOPBACK, &request("GET", "/", &[])), Ok(()), "every browser sends it");
    }

    #[test]
    fn pages_of_other_sites_may_only_link_here_and_request_metrics() {
        let own = ("Host", "localhost:10770");
        let site = |value| ("Sec-Fetch-Site", value);
        let (navigate, document) = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"));
        let foreign = ("Origin", "https://evil.example");
        for (method, path, headers) in [
            ("GET", "/", vec![site("same-origin")]),
            ("GET", "/", vec![site("none"), navigate, document]),
            ("GET", "/", vec![site("cross-site"), navigate, document]),
            ("GET", "/api/v1/balances", vec![site("same-site"), navigate]),
            ("GET", "/metrics", vec![site("cross-site"), foreign]),
            ("POST", "/-/reload", vec![("Origin", "http://localhost:10770"), site("same-origin")]),
            ("POST", "/-/reload", vec![]),
        ] {
            let headers = [vec![own], headers].concat();
            assert_eq!(check(&[], LOOPBACK, &request(method, path, &headers)), Ok(()), "{headers:?}");
        }
        for (method, path, headers) in [
            ("POST", "/-/reload", vec![foreign]),
            ("POST", "/-/reload", vec![("Origin", "null")]),
            ("POST", "/-/reload", vec![("Origin", "http://localhost:3000")]),
            ("POST", "/-/reload", vec![("Origin", "http://localhost")]),
            ("POST", "/-/reload", vec![("Origin", "http://localhost:10770"), foreign]),
            ("POST", "/-/reload", vec![("Origin", "")]),
            ("POST", "/-/reload", vec![site("cross-site"), navigate, document]),
            ("GET", "/", vec![site("cross-site")]),
            ("GET", "/", vec![site("same-site"), ("Sec-Fetch-Mode", "cors")]),
            ("GET", "/", vec![site("cross-site"), navigate, ("Sec-Fetch-Dest", "iframe")]),
            ("GET", "/", vec![site("something-new")]),
            ("GET", "/api/v1/balances", vec![foreign]),
            ("OPTIONS", "/api/v1/balances", vec![foreign]),
            ("GET", "/metrics/", vec![foreign]),
        ] {
            for (local, own) in [(LOOPBACK, own), (OTHER_ADDRESS, ("Host", "10.1.2.3:10770"))] {
                let headers = [&[own], &*headers].concat();
                let result = check(&[], local, &request(method, path, &headers));
                assert_eq!(result, Err(PolicyRefusal::CrossSite), "{method} {path} {headers:?}");
            }
        }
    }

    #[test]
    fn the_page_works_behind_a_proxy_that_rewrites_the_host_or_does_not() {
        let name = "balances.example.com";
        for host in ["127.0.0.1:10770", name] {
            let headers = [("Host", host), ("Origin", "https://balances.example.com")];
            assert_eq!(check(&[name], LOOPBACK, &request("POST", "/-/reload", &headers)), Ok(()), "{host}");
            let fetch = [("Host", host), ("Sec-Fetch-Site", "same-origin")];
            assert_eq!(check(&[name], LOOPBACK, &request("GET", "/", &fetch)), Ok(()), "{host}");
        }
    }

    #[test]
    fn an_allowed_host_has_no_scheme_and_no_port() {
        for (text, expected) in [
            ("example.com:80", "remove the port"),
            ("http://example.com", "without http://"),
            ("", "is not a host name"),
            ("*", "is not a host name"),
            ("a b", "is not a host name"),
        ] {
            let error = text.parse::<HostName>().err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
