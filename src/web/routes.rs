//! Which path answers what: a request in, a response out.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    ReloadRequest, Site,
    balances::{self, Refusal},
    body::{Parts, wants_gzip},
    page::{self, Page},
    renderer::{NotRendered, Rendered, Version},
    request_policy::PolicyRefusal,
};
use crate::exposition::text::CONTENT_TYPE;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// A document of the [`Renderer`](super::renderer::Renderer).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    StatusPage,
    /// Of the accounts with these names; of all if there are none.
    Balances(BTreeSet<Box<str>>),
}

pub(super) async fn respond<B>(site: &Site, request: &Request<B>) -> Response<Parts> {
    let path = request.uri().path();
    let is_known = [&*site.telemetry_path, "/", HEALTHY, READY, BALANCES].contains(&path);
    if !is_known {
        return text(StatusCode::NOT_FOUND, not_found(site));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return other_method("only GET and HEAD are answered here\n", "GET, HEAD");
    }
    match path {
        "/" => status_page(site, request.headers()).await,
        HEALTHY => healthy(site),
        READY => ready(site),
        BALANCES => exact_balances(site, request.uri().query().unwrap_or_default(), request.headers()).await,
        _ => metrics(site, request.headers()),
    }
}

const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";
const BALANCES: &str = "/api/v1/balances";

pub(super) const RELOAD: &str = "/-/reload";

/// Whether `path` is one that serves something else than metrics, or is kept for such.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    path == "/" || ["/-", "/api"].iter().any(|kept| path == *kept || path.starts_with(&format!("{kept}/")))
}

/// Has the configuration read again, if that is allowed, and tells what came of it.
pub(super) async fn reload(
    reloads: Option<&mpsc::Sender<ReloadRequest>>,
    method: &Method,
) -> Response<Parts> {
    let Some(reloads) = reloads else {
        let said = "reloading by request is not enabled: start with --web.enable-lifecycle, or send SIGHUP\n";
        return text(StatusCode::NOT_FOUND, said.to_owned());
    };
    if method != Method::POST {
        return other_method("only POST is answered here\n", "POST");
    }
    let (tell, told) = oneshot::channel();
    // Whoever would be asked is gone only when the process ends.
    let said = match reloads.send(tell).await {
        Ok(()) => told.await.ok(),
        Err(_) => None,
    };
    match said {
        Some(Ok(said)) => text(StatusCode::OK, said + "\n"),
        Some(Err(why)) => text(StatusCode::INTERNAL_SERVER_ERROR, why + "\n"),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the exporter is ending\n".to_owned()),
    }
}

fn other_method(said: &str, allowed: &'static str) -> Response<Parts> {
    with(text(StatusCode::METHOD_NOT_ALLOWED, said.to_owned()), header::ALLOW, allowed)
}

fn metrics(site: &Site, headers: &HeaderMap) -> Response<Parts> {
    let permit = match leave(site) {
        Ok(permit) => permit,
        Err(said) => return text(StatusCode::SERVICE_UNAVAILABLE, said),
    };
    let whole = site.ledger.newest(site.clock.now(), site.process_started);
    let is_compressed = asks_for_gzip(headers);
    let body = Parts::new(if is_compressed { whole.gzip } else { whole.plain });
    encoded(CONTENT_TYPE, body.holding(permit), is_compressed)
}

/// Leave to answer one of the requests that are counted, where they are; otherwise what to say.
fn leave(site: &Site) -> Result<Option<OwnedSemaphorePermit>, String> {
    let Some(scrapes) = &site.scrapes else { return Ok(None) };
    let permit = scrapes.free.clone().try_acquire_owned();
    permit
        .map(Some)
        .map_err(|_| format!("--web.max-requests={} is reached: try again later\n", scrapes.limit))
}

async fn exact_balances(site: &Site, query: &str, headers: &HeaderMap) -> Response<Parts> {
    let wanted = match balances::wanted(&site.ledger.accounts(), query) {
        Ok(wanted) => wanted,
        Err((Refusal::Misspelt, said)) => return text(StatusCode::BAD_REQUEST, said + "\n"),
        Err((Refusal::Unknown, said)) => return text(StatusCode::NOT_FOUND, said + "\n"),
    };
    let (ledger, clock, names) = (Arc::clone(&site.ledger), site.clock, wanted.clone());
    let render = move || {
        let now = clock.now();
        let plain = balances::render(&ledger.accounts(), &names, now);
        Rendered { plain, known_until: ledger.next_unknown(now) }
    };
    rendered(site, &Document::Balances(wanted), JSON, headers, render).await
}

async fn status_page(site: &Site, headers: &HeaderMap) -> Response<Parts> {
    let (ledger, clock, telemetry_path) = (Arc::clone(&site.ledger), site.clock, site.telemetry_path.clone());
    let render = move || {
        let now = clock.now();
        let page = page::render(&Page {
            accounts: &ledger.accounts(),
            market: ledger.market().as_deref(),
            misconfigured: ledger.reload().is_some_and(|reload| !reload.successful),
            now,
            telemetry_path: &telemetry_path,
            version: env!("CARGO_PKG_VERSION"),
        });
        Rendered { plain: page.into_bytes(), known_until: ledger.next_unknown(now) }
    };
    let response = rendered(site, &Document::StatusPage, HTML, headers, render).await;
    let response = with(response, header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
    with(response, header::REFERRER_POLICY, "no-referrer")
}

/// A document of the renderer, or why there is none now.
async fn rendered(
    site: &Site,
    document: &Document,
    content_type: &'static str,
    headers: &HeaderMap,
    render: impl FnOnce() -> Rendered + Send + 'static,
) -> Response<Parts> {
    let version = || Version { now: site.clock.now().elapsed, changes: site.ledger.changes() };
    let is_compressed = asks_for_gzip(headers);
    match site.renderer.get(document, is_compressed, version, render).await {
        Ok(bytes) => encoded(content_type, Parts::shared(bytes), is_compressed),
        Err(NotRendered::Busy) => {
            let said = "too many clients wait for this or are still taking it: try again in a second\n";
            let response = text(StatusCode::SERVICE_UNAVAILABLE, said.to_owned());
            with(response, header::RETRY_AFTER, "1")
        }
        Err(NotRendered::Failed) => {
            let said = "this cannot be rendered: the exporter's log says why; /metrics is not affected\n";
            text(StatusCode::INTERNAL_SERVER_ERROR, said.to_owned())
        }
    }
}

/// The process answers; so must every poller give signs of life.
fn healthy(site: &Site) -> Response<Parts> {
    let ailing = site.ledger.ailing(site.clock.now());
    if ailing.is_empty() {
        return text(StatusCode::OK, "healthy: every poller is alive\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, ailing.join("\n") + "\n")
}

/// The first poll of every account has ended, well or not: a failing exchange must not hide the
/// metrics that say so.
fn ready(site: &Site) -> Response<Parts> {
    let unpolled = site.ledger.unpolled();
    if unpolled.is_empty() {
        return text(StatusCode::OK, "ready: every account has been polled\n".to_owned());
    }
    let said = format!("not ready: the first poll has not ended of {}\n", unpolled.join(", "));
    text(StatusCode::SERVICE_UNAVAILABLE, said)
}

/// The limit of the web configuration is reached.
pub(super) fn too_many() -> Response<Parts> {
    text(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit of the web configuration is reached: try again later\n".to_owned(),
    )
}

/// A password is asked for, and what came with the request is none.
pub(super) fn unauthorized() -> Response<Parts> {
    let said = "a user and a password of basic_auth_users are needed, for every path\n";
    // A browser or a scraper that knows better connects again; who does not know keeps no connection.
    let response = with(text(StatusCode::UNAUTHORIZED, said.to_owned()), header::CONNECTION, "close");
    with(response, header::WWW_AUTHENTICATE, "Basic realm=\"xt-balance-exporter\", charset=\"UTF-8\"")
}

/// Too many passwords wait to be checked.
pub(super) fn busy() -> Response<Parts> {
    let said = "too many passwords are being checked: try again in a second\n";
    let response = text(StatusCode::TOO_MANY_REQUESTS, said.to_owned());
    with(with(response, header::RETRY_AFTER, "1"), header::CONNECTION, "close")
}

/// Marks a response that is not sent: the connection is closed, and its client connects again.
#[derive(Clone, Copy, Debug)]
pub(super) struct HangUp;

/// The client that this connection was opened for may not connect any more, or another one may: it has to shake hands again.
/// Without an answer a scraper does that at once, where it would count an error as a failed scrape.
pub(super) fn hang_up() -> Response<Parts> {
    let mut response = text(StatusCode::MISDIRECTED_REQUEST, String::new());
    response.extensions_mut().insert(HangUp);
    response
}

/// A browser asks here for others. The connection is closed.
pub(super) fn foreign(refusal: PolicyRefusal) -> Response<Parts> {
    let (status, said) = match refusal {
        PolicyRefusal::ForeignHost => (
            StatusCode::MISDIRECTED_REQUEST,
            "the request is for a host that this address does not answer for: ask for localhost, or add the name to --web.allowed-hosts\n",
        ),
        PolicyRefusal::CrossSite => (
            StatusCode::FORBIDDEN,
            "the page of another site made this request, and such requests are answered for metrics only\n",
        ),
    };
    with(text(status, said.to_owned()), header::CONNECTION, "close")
}

fn not_found(site: &Site) -> String {
    let mut said = "there is nothing here; these paths are answered:\n".to_owned();
    let reload = site.reloads.is_some().then_some("/-/reload (POST)");
    let paths = ["/", &site.telemetry_path, BALANCES, HEALTHY, READY];
    for path in paths.into_iter().chain(reload) {
        let _ = writeln!(said, "{path}");
    }
    said
}

fn asks_for_gzip(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let Some(first) = asked.next() else { return false };
    match asked.next() {
        None => wants_gzip(first),
        Some(second) => wants_gzip(&[first, second].into_iter().chain(asked).collect::<Vec<_>>().join(",")),
    }
}

/// A body in one of the encodings that the client may choose from.
fn encoded(content_type: &'static str, body: Parts, is_compressed: bool) -> Response<Parts> {
    let response = response(StatusCode::OK, content_type, body);
    let response = with(response, header::VARY, "Accept-Encoding");
    if is_compressed { with(response, header::CONTENT_ENCODING, "gzip") } else { response }
}

pub(super) fn text(status: StatusCode, text: String) -> Response<Parts> {
    response(status, PLAIN, Parts::of(text.into_bytes()))
}

fn response(status: StatusCode, content_type: &'static str, body: Parts) -> Response<Parts> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let response = with(response, header::CONTENT_TYPE, content_type);
    // Balances are private, and a kept copy would show old ones as new.
    let response = with(response, header::CACHE_CONTROL, "no-store");
    with(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn with(mut response: Response<Parts>, name: HeaderName, value: &'static str) -> Response<Parts> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
