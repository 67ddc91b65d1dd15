//! Which requests a browser may make here for others: none under a foreign name (DNS rebinding), none for the page of
//! another site. Pure: it knows neither sockets nor the content of an answer.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderValue},
};

use crate::quoting::quote_short;

/// A host by name or address, without a port. Parses the way browsers write `Host`: upper case and a dot at the end do
/// not matter.
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
            Some(_) => {
                Err("a host name has no port here, and every port is meant: write the name alone".to_owned())
            }
            // A bare IPv6 address is as clear as one in brackets.
            None => {
                text.parse::<IpAddr>().map(|address| Self::Address(address.to_canonical())).map_err(|_| {
                    format!(
                        "{} is not a host name: write it like balances.example.com, without http:// and path",
                        quote_short(text)
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

/// A host with a port, or none.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: HostName,
    port: Option<u16>,
}

impl Authority {
    /// From `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; `None` if it is something else. Zones of IPv6 addresses are
    /// something else: no browser sends them.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (HostName::Address(IpAddr::V6(address).to_canonical()), port)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at_checked(end)?;
            (Self::host(name)?, port)
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

    fn host(name: &str) -> Option<HostName> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Some(HostName::Address(address.to_canonical()));
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!name.is_empty() && name.bytes().all(is_fit))
            .then(|| HostName::Name(name.to_ascii_lowercase().into_boxed_str()))
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyRefusal {
    /// It is for a host that this address does not answer for.
    ForeignHost,
    /// The page of another site made it.
    CrossSite,
}

/// Which hosts are answered for, and what other sites may ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestPolicy {
    /// Names that are answered for beside loopback's own. If there are any, others are refused on every address.
    pub allowed_hosts: Vec<HostName>,
}

impl RequestPolicy {
    /// Whether a request on a connection to the `local` address is answered. What is at `open_path` pages of other sites
    /// may ask for too: they cannot read it, as no answer here allows that.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        local: IpAddr,
        open_path: &str,
    ) -> Result<(), PolicyRefusal> {
        let hosts = hosts(request).ok_or(PolicyRefusal::ForeignHost)?;
        let local = local.to_canonical();
        let is_guarded = local.is_loopback() || !self.allowed_hosts.is_empty();
        if is_guarded && !hosts.iter().all(|authority| self.answers_for(&authority.host, local)) {
            return Err(PolicyRefusal::ForeignHost);
        }
        if request.uri().path() == open_path {
            return Ok(());
        }
        let is_own = |origin: &HeaderValue| self.is_own_origin(origin, &hosts);
        if !request.headers().get_all(header::ORIGIN).iter().all(is_own) {
            return Err(PolicyRefusal::CrossSite);
        }
        let is_own = is_own_fetch(request.headers()) || is_navigation(request.method(), request.headers());
        if is_own { Ok(()) } else { Err(PolicyRefusal::CrossSite) }
    }

    /// The connection's own address is safe on any address: a name that points elsewhere is not in such a request. That
    /// lets probes and service discovery by address through.
    fn answers_for(&self, host: &HostName, local: IpAddr) -> bool {
        let is_own = match host {
            HostName::Address(address) => *address == local || (local.is_loopback() && address.is_loopback()),
            // Not *.localhost: not every resolver keeps those names on this machine.
            HostName::Name(name) => local.is_loopback() && &**name == "localhost",
        };
        is_own || self.allowed_hosts.contains(host)
    }

    /// Whether an `Origin` is this server: the host that was asked, or an allowed one, which is what a proxy that rewrites
    /// `Host` is known by.
    fn is_own_origin(&self, origin: &HeaderValue, hosts: &[Authority]) -> bool {
        let parsed = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let Some((scheme, authority)) = parsed else { return false };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let Some(Authority { host, port }) = Authority::parse(authority) else { return false };
        let port = port.unwrap_or(default_port);
        let is_same = |asked: &Authority| asked.host == host && asked.port.unwrap_or(default_port) == port;
        (!hosts.is_empty() && hosts.iter().all(is_same)) || self.allowed_hosts.contains(&host)
    }
}

/// The hosts that a request names: in an absolute target (`:authority` of HTTP/2 is one too) and in `Host`. Empty if it
/// names none, as old health checkers do and no browser; `None` if one of them is no host.
fn hosts<B>(request: &Request<B>) -> Option<Vec<Authority>> {
    let target = request.uri().authority().map(|authority| Authority::parse(authority.as_str()));
    let named = request.headers().get_all(header::HOST).iter().filter(|value| !value.is_empty());
    let named = named.map(|value| value.to_str().ok().and_then(Authority::parse));
    target.into_iter().chain(named).collect()
}

/// Whether a browser says that the page of this server, or its user, makes the request. Programs that are no browser
/// say nothing, and browsers say nothing to an address that is neither loopback nor HTTPS.
fn is_own_fetch(headers: &HeaderMap) -> bool {
    headers.get_all("sec-fetch-site").iter().all(|site| site == "same-origin" || site == "none")
}

/// Whether the user follows a link to here: the page that holds the link cannot read what is answered, and a link from a
/// dashboard or an alert must work. Not in a frame, and not by a form that sends something.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    [Method::GET, Method::HEAD].contains(method)
        && says("sec-fetch-mode", "navigate")
        && (says("sec-fetch-dest", "document") || !headers.contains_key("sec-fetch-dest"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

    fn policy(allowed: &[&str]) -> RequestPolicy {
        let host = |text: &&str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        RequestPolicy { allowed_hosts: allowed.iter().map(host).collect() }
    }

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        request.body(()).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    fn judged(allowed: &[&str], local: IpAddr, request: &Request<()>) -> Result<(), PolicyRefusal> {
        policy(allowed).check(request, local, "/metrics")
    }

    fn by_host(allowed: &[&str], local: IpAddr, host: &str) -> Result<(), PolicyRefusal> {
        judged(allowed, local, &request("GET", "/metrics", &[("Host", host)]))
    }

    #[test]
    fn a_loopback_address_answers_to_its_own_names_and_to_allowed_ones() {
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
                assert_eq!(by_host(&[], local, own), Ok(()), "{own}");
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
                assert_eq!(by_host(&[], local, foreign), Err(PolicyRefusal::ForeignHost), "{foreign}");
            }
        }
        let allowed = ["Balances.Example.com.", "fd00::1", "192.0.2.7"];
        for host in ["balances.example.com", "BALANCES.example.com.:443", "[fd00::1]:1", "192.0.2.7"] {
            assert_eq!(by_host(&allowed, LOOPBACK, host), Ok(()), "{host}");
        }
        assert!(by_host(&allowed, LOOPBACK, "x.balances.example.com").is_err());
    }

    #[test]
    fn other_addresses_answer_to_every_name_until_names_are_allowed() {
        assert_eq!(by_host(&[], ELSEWHERE, "exporter:10770"), Ok(()));
        let allowed = ["exporter"];
        for host in ["exporter:10770", "10.1.2.3:10770", ""] {
            assert_eq!(by_host(&allowed, ELSEWHERE, host), Ok(()), "{host}");
        }
        for host in ["rebind.evil.example", "localhost", "127.0.0.1", "10.1.2.4"] {
            assert_eq!(by_host(&allowed, ELSEWHERE, host), Err(PolicyRefusal::ForeignHost), "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_counts() {
        let target =
            |target: &str, host: &str| judged(&[], LOOPBACK, &request("GET", target, &[("Host", host)]));
        assert_eq!(target("http://localhost:1/metrics", "localhost:1"), Ok(()));
        for (absolute, host) in [
            ("http://rebind.evil.example/metrics", "localhost"),
            ("http://localhost/metrics", "rebind.evil.example"),
            ("http://localhost@rebind.evil.example/metrics", "localhost"),
        ] {
            assert_eq!(target(absolute, host), Err(PolicyRefusal::ForeignHost), "{absolute} {host}");
        }
        let twice = request("GET", "/", &[("Host", "localhost"), ("Host", "rebind.evil.example")]);
        assert_eq!(judged(&[], LOOPBACK, &twice), Err(PolicyRefusal::ForeignHost));
        assert_eq!(judged(&[], LOOPBACK, &request("GET", "/", &[])), Ok(()), "no browser leaves it out");
    }

    #[test]
    fn pages_of_other_sites_may_only_lead_here_and_load_metrics() {
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
            assert_eq!(judged(&[], LOOPBACK, &request(method, path, &headers)), Ok(()), "{headers:?}");
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
            for (local, own) in [(LOOPBACK, own), (ELSEWHERE, ("Host", "10.1.2.3:10770"))] {
                let headers = [&[own], &*headers].concat();
                let refused = judged(&[], local, &request(method, path, &headers));
                assert_eq!(refused, Err(PolicyRefusal::CrossSite), "{method} {path} {headers:?}");
            }
        }
    }

    #[test]
    fn the_page_works_behind_a_proxy_that_rewrites_the_host_or_does_not() {
        let name = "balances.example.com";
        for host in ["127.0.0.1:10770", name] {
            let headers = [("Host", host), ("Origin", "https://balances.example.com")];
            assert_eq!(judged(&[name], LOOPBACK, &request("POST", "/-/reload", &headers)), Ok(()), "{host}");
            let fetch = [("Host", host), ("Sec-Fetch-Site", "same-origin")];
            assert_eq!(judged(&[name], LOOPBACK, &request("GET", "/", &fetch)), Ok(()), "{host}");
        }
    }

    #[test]
    fn an_allowed_host_is_a_name_alone() {
        for (text, said) in [
            ("example.com:80", "has no port here"),
            ("http://example.com", "without http://"),
            ("", "is not a host name"),
            ("*", "is not a host name"),
            ("a b", "is not a host name"),
        ] {
            let refused = text.parse::<HostName>().err().unwrap_or_default();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
