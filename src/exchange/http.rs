//! One HTTP GET to the exchange: sent once, bounded in time and size, never redirected, with a reason for every
//! failure. The only file that uses reqwest, and rustls as a client. No text that leaves it holds a query or a header,
//! because these carry the key and the signature.

use std::{
    collections::HashMap,
    error::Error as _,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use reqwest::{dns, header, redirect};
use tokio::time::Instant;

use super::{
    base_url::BaseUrl,
    error::{Detail, Failure, Reason},
    proxy::{Proxy, ProxyCredentials},
    proxy_logins::{LoginPermit, LoginRejected, ProxyLogins},
    request::Request,
    root_store::RootStore,
    route::Route,
};
use crate::{blocking, clock::UnixTime};

/// The share of a call's timeout in which the connection must be open.
const CONNECT_SHARE: (u32, u32) = (3, 5);
/// The longest body after decompression: about 100 000 currencies.
pub(super) const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// The HTTP client for the exchange.
#[derive(Clone, Debug)]
pub(super) struct HttpTransport {
    trust: RootStore,
    resolver: Resolver,
    logins: ProxyLogins,
}

/// A reply with any status.
#[derive(Debug)]
pub(super) struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`; `None` if it is missing or unreadable.
    pub retry_after: Option<Duration>,
    /// `Age`: how long a cache kept the reply; `None` if it is missing.
    pub age: Option<Duration>,
    /// `Date`: when the reply was made, since the Unix epoch; `None` if it is missing.
    pub date: Option<UnixTime>,
    /// The whole decompressed body, or why it did not arrive whole, if the status is informative without it.
    pub body: Result<Vec<u8>, String>,
}

impl HttpTransport {
    /// Creates a client that trusts the authorities of [`RootStore`].
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new() -> Result<Self, String> {
        let (resolver, logins) = (Resolver::default(), ProxyLogins::default());
        let transport = Self { trust: RootStore::open(None)?, resolver, logins };
        transport.client(&Route::default(), None, Duration::MAX)?;
        Ok(transport)
    }

    /// See [`RootStore::warning`].
    pub(super) fn trust_warning(&self) -> Option<&str> {
        self.trust.warning()
    }

    /// Waits until a call to `base` may show its user and password to the proxy; `None` if it gets neither.
    ///
    /// # Errors
    /// If the proxy rejected them a short time ago.
    pub(super) async fn login_permit(&self, base: &BaseUrl) -> Result<Option<LoginPermit>, Failure> {
        let Some(proxy) = &base.route().proxy else { return Ok(None) };
        self.logins.permit(proxy).await.map_err(|LoginRejected| {
            let failure = login_rejected(proxy);
            Failure { text: format!("{base}: {}", failure.text), ..failure }
        })
    }

    /// Creates the client for a call by `route` with this `timeout`, which shows `login` to the proxy. The addresses of a host share the connect timeout, which
    /// belongs to the client: if it were the whole timeout, a silent first address would use it up.
    fn client(
        &self,
        route: &Route,
        login: Option<&ProxyCredentials>,
        timeout: Duration,
    ) -> Result<reqwest::Client, String> {
        let failed = |error: reqwest::Error| {
            format!("cannot set up the HTTP client: {}", error_chain(&error.without_url()))
        };
        let roots = route.roots.as_deref().unwrap_or(&self.trust);
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(roots.tls())
            .dns_resolver(Arc::new(self.resolver.clone()))
            .connect_timeout(timeout / CONNECT_SHARE.1 * CONNECT_SHARE.0)
            .user_agent(concat!("xt-balance-exporter/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the key and the signature to another host.
            .redirect(redirect::Policy::none())
            .referer(false)
            // A repeated request would repeat its nonce and count against the limits unseen. With any value other than
            // zero, the library also copies each request, with key and signature.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            // One connection per call: unexpected bytes on a kept connection would be read as the reply to the next
            // call, of any account or wallet.
            .pool_max_idle_per_host(0)
            // With an address of one family, the library leaves out the host's addresses of the other one.
            .local_address(route.egress.source_address)
            // The library must not read the environment: `route` is the choice.
            .no_proxy();
        let builder = match &route.proxy {
            Some(proxy) => builder.proxy(tunnel(proxy, login).map_err(failed)?),
            None => builder,
        };
        builder.build().map_err(failed)
    }

    /// Sends `request` to `base`, with the user and password of `login` for the proxy. Returns within `timeout`.
    ///
    /// # Errors
    /// Why no whole reply arrived. The text names only the host and the path.
    pub(super) async fn get(
        &self,
        base: &BaseUrl,
        request: &Request,
        timeout: Duration,
        login: Option<&LoginPermit>,
    ) -> Result<Reply, Failure> {
        let reply = self.send_once(base, request, timeout, login).await;
        reply.map_err(|failure| Failure {
            text: format!("{base}{}: {}", request.path, failure.text),
            ..failure
        })
    }

    async fn send_once(
        &self,
        base: &BaseUrl,
        request: &Request,
        timeout: Duration,
        login: Option<&LoginPermit>,
    ) -> Result<Reply, Failure> {
        // With a timeout of zero the request would still start, and count against the limits.
        if timeout.is_zero() {
            let text = "the poll's time was up before this could be asked";
            return Err(Failure::new(Reason::Timeout, text));
        }
        let route = base.route();
        let via = route.proxy.as_ref().map(|_| format!(" {route}")).unwrap_or_default();
        let too_late = || format!("no whole answer within {}{via}", format_rounded(timeout));
        let client = self.client(route, login.map(LoginPermit::credentials), timeout);
        let client = client.map_err(|text| Failure::new(Reason::Connect, text))?;
        let began = Instant::now();
        let response = tokio::time::timeout(timeout, send(&client, base, request)).await;
        let response = response.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, too_late())));
        match (login, &response) {
            (Some(login), Ok(_)) => login.record_success(),
            (Some(login), Err(failure)) if failure.detail == Some(Detail::ProxyLogin) => {
                login.record_rejection();
            }
            _ => {}
        }
        let response = response?;
        let status = response.status().as_u16();
        let headers = response.headers();
        let age = headers.get_all(header::AGE).iter().map(parse_age).max();
        let date = headers.get_all(header::DATE).iter().filter_map(parse_date).min();
        // Without a `Date`, this machine's clock must do, which may be wrong.
        let made = date.or_else(|| UnixTime::from_system_time(SystemTime::now())).unwrap_or(UnixTime::EPOCH);
        let retry_after = headers
            .get_all(header::RETRY_AFTER)
            .iter()
            .filter_map(|value| parse_retry_after(value, made))
            .max();
        let left = timeout.saturating_sub(began.elapsed());
        // With no time left, a body that is already there would still be read.
        let body = match left {
            Duration::ZERO => None,
            left => tokio::time::timeout(left, read_body(response)).await.ok(),
        };
        let (reason, why) = match body {
            Some(Ok(body)) => return Ok(Reply { status, retry_after, age, date, body: Ok(body) }),
            Some(Err(why)) => (Reason::Body, why),
            None => (Reason::Timeout, too_late()),
        };
        // Any other status is informative without the body. After a limit reply the account must pause.
        if !(200..=299).contains(&status) {
            return Ok(Reply { status, retry_after, age, date, body: Err(why) });
        }
        Err(Failure::new(reason, why))
    }
}

/// Sends a request. Returns when the head of the response has arrived.
async fn send(
    client: &reqwest::Client,
    base: &BaseUrl,
    asked: &Request,
) -> Result<reqwest::Response, Failure> {
    let mut request = client.get(base.join(asked.path, &asked.query));
    request = request
        .header(header::ACCEPT, "application/json")
        .header(header::CACHE_CONTROL, "no-cache, no-store")
        .header(header::CONNECTION, "close");
    for (name, value) in &asked.headers {
        request = request.header(*name, sensitive_header(value));
    }
    request.send().await.map_err(|error| connection_failure(&error.without_url(), base))
}

/// A header value that the HTTP library does not print.
#[expect(
    clippy::expect_used,
    reason = "a call must not go out without a header that signs it, and keys are visible ASCII"
)]
fn sensitive_header(value: &str) -> header::HeaderValue {
    let mut value = header::HeaderValue::from_str(value).expect("keys and signatures are visible ASCII");
    value.set_sensitive(true);
    value
}

/// Reads the body of a response to its end.
///
/// # Errors
/// A sentence that says why it did not arrive whole.
async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                return Err(format!("the body was cut short: {}", error_chain(&error.without_url())));
            }
        }
        if body.len() > BODY_MAX_BYTES {
            return Err(format!("the body is over {} MiB", BODY_MAX_BYTES / 1024 / 1024));
        }
    }
    // It is kept until the next one comes.
    body.shrink_to_fit();
    Ok(body)
}

/// The tunnel through `proxy`, for the user and password `login`.
fn tunnel(proxy: &Proxy, login: Option<&ProxyCredentials>) -> reqwest::Result<reqwest::Proxy> {
    let tunnel = reqwest::Proxy::https(proxy.url().clone())?;
    Ok(match login {
        Some(credentials) => {
            tunnel.custom_http_auth(sensitive_header(&format!("Basic {}", credentials.encoded())))
        }
        None => tunnel,
    })
}

/// The failure of a call to `base` without a reply, from the causes in the client's error.
fn connection_failure(error: &reqwest::Error, base: &BaseUrl) -> Failure {
    let causes = || std::iter::successors(error.source(), source_of);
    let proxy_error = causes().find_map(ProxyError::of);
    let (dns, tls) = (causes().any(<dyn std::error::Error>::is::<DnsError>), causes().any(is_tls_error));
    let proxy = base.route().proxy.as_deref();
    if let (Some(proxy), Some(error)) = (proxy, proxy_error.filter(|error| *error != ProxyError::Unreachable))
    {
        let (host, port) = base.host_and_port();
        return error.failure(proxy, &format!("{host}:{port}"));
    }
    if let (Some(proxy), None, true) = (proxy, proxy_error, causes().any(is_unknown_issuer)) {
        let text = format!(
            "the certificate is not from an authority that this machine trusts, so the proxy {proxy} may intercept TLS: {}",
            error_chain(error)
        );
        return Failure::new(Reason::Tls, text).with_detail(Some(Detail::InterceptedTls));
    }
    let (reason, what) = match () {
        () if dns && proxy.is_some() => (Reason::Dns, "its name could not be resolved"),
        () if dns => (Reason::Dns, "the host's name could not be resolved"),
        () if tls => (Reason::Tls, "no trusted TLS connection"),
        () if error.is_timeout() => (Reason::Timeout, "no answer in time"),
        () if error.is_connect() => (Reason::Connect, "no connection"),
        () => (Reason::Connect, "the connection broke before an answer came"),
    };
    let from =
        base.route().egress.source_address.map(|address| format!(" from {address}")).unwrap_or_default();
    let text = match (proxy, proxy_error) {
        (None, _) => format!("{what}{from}: {}", error_chain(error)),
        (Some(proxy), None) => format!("{what} via proxy {proxy}: {}", error_chain(error)),
        (Some(proxy), Some(_)) => format!("the proxy {proxy} cannot be used: {what}: {}", error_chain(error)),
    };
    let no_source_address = causes().any(is_bind_error).then_some(Detail::NoSourceAddress);
    let detail = proxy_error.map(|_| Detail::ProxyUnreachable).or(no_source_address);
    Failure::new(reason, text).with_detail(detail)
}

fn source_of<'a>(
    error: &&'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    (*error).source()
}

/// Why there is no tunnel through a proxy.
#[derive(Clone, Copy, PartialEq)]
enum ProxyError {
    /// There is no connection to the proxy.
    Unreachable,
    /// The proxy requires a user and a password, or other ones.
    LoginRequired,
    /// The proxy answered with any other status, or not with HTTP.
    Refused,
    /// The proxy closed the connection.
    Closed,
}

impl ProxyError {
    /// The meaning of an error of the HTTP library, which has no public type for it.
    fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let text = error.to_string();
        Some(match text.strip_prefix("tunnel error: ")? {
            "proxy authorization required" => Self::LoginRequired,
            "unexpected end of file" => Self::Closed,
            "failed to create underlying connection" | "io error establishing tunnel" => Self::Unreachable,
            _ => Self::Refused,
        })
    }

    /// The failure of a call to `host` through `proxy`.
    fn failure(self, proxy: &Proxy, host: &str) -> Failure {
        let (what, detail) = match self {
            Self::LoginRequired if proxy.credentials().is_some() => return login_rejected(proxy),
            Self::LoginRequired => {
                (format!("the proxy {proxy} requires a user and password"), Detail::ProxyLogin)
            }
            Self::Refused => {
                (format!("the proxy {proxy} refused or failed to connect to {host}"), Detail::ProxyRefused)
            }
            Self::Closed | Self::Unreachable => (
                format!("the proxy {proxy} closed the connection instead of connecting to {host}"),
                Detail::ProxyRefused,
            ),
        };
        Failure::new(Reason::Connect, what).with_detail(Some(detail))
    }
}

/// The failure of a call through `proxy` with a user and password that it rejected.
fn login_rejected(proxy: &Proxy) -> Failure {
    let text = format!(
        "the proxy {proxy} rejected the user and password, which are not tried again for five minutes"
    );
    Failure::new(Reason::Connect, text).with_detail(Some(Detail::ProxyLogin))
}

/// Whether a certificate is from an authority that is not trusted.
fn is_unknown_issuer(error: &(dyn std::error::Error + 'static)) -> bool {
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref() == Some(&unknown) || wrapped.is_some_and(|wrapped| is_unknown_issuer(wrapped))
}

/// Whether the source address of a connection is not one of this machine. The HTTP library has no public type for it.
fn is_bind_error(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().starts_with("tcp bind local error")
}

/// Whether TLS failed. The source of an `io::Error` is the source of the error that it wraps, not that error itself,
/// and TLS errors are wrapped in two of them.
fn is_tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls_error(wrapped))
}

/// Texts of the client's own layers, which tell a reader nothing.
const LAYERS: [&str; 3] = [
    "client error (Connect)",
    "client error (SendRequest)",
    "tunnel error: failed to create underlying connection",
];

/// The innermost causes, outermost first.
fn error_chain(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if texts.last() != Some(&text) && !LAYERS.contains(&text.as_str()) {
            texts.push(text);
        }
        cause = error.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

/// The system's resolver, with an error type of its own. It may block for as long as name servers do not answer, so
/// each name has one look-up at a time, on a thread of its own, which all callers share.
#[derive(Clone, Debug, Default)]
struct Resolver(Arc<Mutex<HashMap<String, Lookup>>>);

/// A running look-up.
type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, DnsError>>>;

#[derive(Clone, Debug)]
struct DnsError(Arc<io::Error>);

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DnsError {}

impl Resolver {
    /// The running look-up of `name`, or a new one.
    fn lookup(&self, name: &str) -> Lookup {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished look-up is old, whether its result was used or not.
        running.retain(|_, lookup| lookup.clone().now_or_never().is_none());
        let begin = || start_lookup(name.to_owned()).boxed().shared();
        running.entry(name.to_owned()).or_insert_with(begin).clone()
    }
}

/// Looks up `name`. The thread starts at once.
fn start_lookup(name: String) -> impl Future<Output = Result<Vec<SocketAddr>, DnsError>> {
    let work = move || (name, 0).to_socket_addrs().map(Iterator::collect);
    let begun = blocking::spawn("dns", work);
    async move {
        let failed = |error: io::Error| DnsError(Arc::new(error));
        let ended = begun.map_err(failed)?.await;
        ended.map_err(|_| failed(io::Error::other("the look-up panicked")))?.map_err(failed)
    }
}

impl dns::Resolve for Resolver {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            // Plain HTTP to this name is allowed, so it must mean this machine.
            if name.as_str() == "localhost" {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                return Ok(Box::new(loopback.into_iter().map(|ip| SocketAddr::new(ip, 0))) as dns::Addrs);
            }
            let found = resolver.lookup(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as dns::Addrs)
        })
    }
}

/// A duration for people, without nanoseconds.
fn format_rounded(time: Duration) -> humantime::FormattedDuration {
    let unit = Duration::from_millis(if time < Duration::from_secs(1) { 1 } else { 100 });
    let units = (time + unit / 2).as_nanos() / unit.as_nanos();
    humantime::format_duration(unit * u32::try_from(units).unwrap_or(u32::MAX))
}

/// Parses `Retry-After` of a reply that was `made` then by the clock of its server, in seconds or as a date.
fn parse_retry_after(value: &header::HeaderValue, made: UnixTime) -> Option<Duration> {
    parse_seconds(value).or_else(|| parse_date(value)?.checked_duration_since(made))
}

/// Parses a header with a whole number of seconds.
fn parse_seconds(value: &header::HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Parses `Age` as the largest age that it can mean: of a list the largest member, of a fraction the whole seconds. An
/// unreadable value counts as infinitely old.
fn parse_age(value: &header::HeaderValue) -> Duration {
    let ages = value.to_str().unwrap_or_default().split(',').map(|member| {
        let member = member.trim();
        let digits = member.find(|c: char| !c.is_ascii_digit()).unwrap_or(member.len());
        member.get(..digits).and_then(|digits| digits.parse().ok()).map_or(Duration::MAX, Duration::from_secs)
    });
    ages.max().unwrap_or(Duration::MAX)
}

/// Parses a header with a date, as time since the Unix epoch.
fn parse_date(value: &header::HeaderValue) -> Option<UnixTime> {
    let date = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
    UnixTime::from_system_time(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_to_what_a_person_reads() {
        let shown = |micros| format_rounded(Duration::from_micros(micros)).to_string();
        assert_eq!(shown(9_999_971), "10s");
        assert_eq!(shown(4_873_120), "4s 900ms");
        assert_eq!(shown(499_600), "500ms");
        assert_eq!(shown(400), "0s");
    }

    #[test]
    fn an_age_is_the_greatest_that_it_can_mean() {
        let read = |text: &'static str| parse_age(&header::HeaderValue::from_static(text));
        for (text, seconds) in
            [("0", 0), (" 5 ", 5), ("5, 3600", 3_600), ("3600, 5", 3_600), ("3600.5", 3_600), ("7;x", 7)]
        {
            assert_eq!(read(text), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "\"3600\"", "-1", "soon", "5, x", "99999999999999999999"] {
            assert_eq!(read(text), Duration::MAX, "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixTime::from_secs(784_111_777 - 90);
        let read = |text: &str| {
            header::HeaderValue::from_str(text).ok().and_then(|value| parse_retry_after(&value, now))
        };
        assert_eq!(read("120"), Some(Duration::from_mins(2)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(read("Sun, 06 Nov 1994 08:40:00 GMT"), None, "it has passed");
        assert_eq!(read("soon"), None);
    }
}
