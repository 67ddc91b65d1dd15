//! Where an exchange listens: the base URL from the configuration, checked, and the route to it.
//! Sends nothing.

use std::{fmt, net::IpAddr};

use reqwest::Url;

use super::{
    route::Route,
    strict_url::{is_plain_host, parse_host, parse_port},
};

/// Where an exchange listens: `https://host[:port][/path]`, or `http://` on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseUrl {
    url: Url,
    route: Route,
}

impl BaseUrl {
    /// Reads a base URL.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("the base URL {why}"));
        let no_url = || refuse("is not a valid URL: write it like https://sapi.xt.com");
        if text.contains('@') {
            return Err("a base URL must not hold a user name or password: remove it".to_owned());
        }
        let parts = text.split_once("://");
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let Some((scheme, rest)) = parts.filter(|(scheme, _)| is_word(scheme)) else { return no_url() };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !is_plain_host(authority) {
            return refuse("has a host name that is not plain ASCII: write it in its xn-- form");
        }
        if let Err(why) = parse_port(authority) {
            return refuse(&why);
        }
        let Some(url) = parse_host(scheme, authority, path) else { return no_url() };
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("must end after the host or path: remove what follows ? or #");
        }
        match url.scheme() {
            "https" => Ok(Self { url, route: Route::default() }),
            "http" if is_loopback(&url) => Ok(Self { url, route: Route::default() }),
            "http" => refuse(
                "would send the key in the clear: use https://, because http:// is for hosts on this machine only",
            ),
            _ => refuse("must begin with https://"),
        }
    }

    /// The same URL with another route.
    #[must_use]
    pub fn with_route(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// The route to it.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// The host's name, without brackets around an IPv6 address, and its port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host, self.url.port_or_known_default().unwrap_or_default())
    }

    /// The host's name, with its port if that is not the usual one: for labels and messages.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a label must not be empty, and the parser refuses https:// without a host"
    )]
    pub fn host(&self) -> String {
        let host = self.url.host_str().expect("an http or https URL has a host");
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The URL of `path` with `query`.
    pub(super) fn join(&self, path: &str, query: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        url
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_https_or_this_machine() {
        for good in [
            "https://api.xt.com",
            "https://api.a.top/",
            "http://127.0.0.1:8470",
            "http://localhost:1",
            "http://[::1]:8080/x/",
            "https://xn--mnze-0ra.example",
        ] {
            let shown = BaseUrl::parse(good).map(|url| url.to_string());
            assert_eq!(shown.as_deref(), Ok(good.trim_end_matches('/')));
        }
        for (bad, why) in [
            ("http://api.xt.com", "in the clear"),
            ("http://127.0.0.1.example.com", "in the clear"),
            ("http://localhost.example.com", "in the clear"),
            ("ftp://api.xt.com", "must begin with https://"),
            ("api.xt.com", "is not a valid URL"),
            ("", "is not a valid URL"),
            ("https:/A%C3%84.example", "is not a valid URL"),
            ("https:\\\\A%C3%84.example", "is not a valid URL"),
            ("https:///api.xt.com", "is not a valid URL"),
            ("https:A%C3%84.example/://a.b", "is not a valid URL"),
            ("https://api.xt.com\\x", "is not a valid URL"),
            ("https://api .xt.com", "is not a valid URL"),
            ("https://010.1.2.3", "is not a valid URL"),
            ("https://10.1:8443", "is not a valid URL"),
            ("https://0x7f000001", "is not a valid URL"),
            ("https://api.xt.com/\u{e4}", "is not a valid URL"),
            ("https:/user:hunter2@api.xt.com", "user name or password"),
            ("https://api.xt.com/?a=b", "remove what follows"),
            ("https://user:hunter2@api.xt.com", "user name or password"),
            ("https://usér:hunter2@api xt.com", "user name or password"),
            ("https://api.xt.com:99999", "a number from 1 to 65535"),
            ("https://api.xt.com:0", "a number from 1 to 65535"),
            ("http://[::1]:/x", "a number from 1 to 65535"),
            ("https://Münze.example", "not plain ASCII"),
            ("https://M%C3%BCnze.example", "not plain ASCII"),
        ] {
            let error = BaseUrl::parse(bad).err().unwrap_or_default();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn path_and_query_are_added_to_the_base() -> Result<(), String> {
        let url = BaseUrl::parse("https://api.xt.com/gate/")?.join("/trade", "a=b%2Fc");
        assert_eq!(url.as_str(), "https://api.xt.com/gate/trade?a=b%2Fc");
        assert_eq!(
            BaseUrl::parse("https://api.xt.com")?.join("/trade", "").as_str(),
            "https://api.xt.com/trade"
        );
        Ok(())
    }
}
