//! Which path answers what: a request in, a response out.

use std::fmt::Write as _;

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    ReloadRequest, Site,
    balances::{self, Refusal},
    body::{Parts, gzip, wants_gzip},
    page::{self, Page},
};
use crate::exposition::text::CONTENT_TYPE;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

pub(super) fn respond<B>(site: &Site, request: &Request<B>) -> Response<Parts> {
    let path = request.uri().path();
    let answer: fn(&Site, &str, &HeaderMap) -> Response<Parts> = match path {
        _ if path == site.telemetry_path => metrics,
        "/" => status_page,
        "/-/healthy" => healthy,
        "/-/ready" => ready,
        "/api/v1/balances" => exact_balances,
        _ => return text(StatusCode::NOT_FOUND, not_found(site)),
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return other_method("only GET and HEAD are answered here\n", "GET, HEAD");
    }
    answer(site, request.uri().query().unwrap_or_default(), request.headers())
}

pub(super) const RELOAD: &str = "/-/reload";

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

fn metrics(site: &Site, _: &str, headers: &HeaderMap) -> Response<Parts> {
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

fn exact_balances(site: &Site, query: &str, headers: &HeaderMap) -> Response<Parts> {
    let permit = match leave(site) {
        Ok(permit) => permit,
        Err(said) => return text(StatusCode::SERVICE_UNAVAILABLE, said),
    };
    match balances::render(&site.ledger.accounts(), query, site.clock.now()) {
        Ok(body) => packed(JSON, body, permit, headers),
        Err((Refusal::Misspelt, said)) => text(StatusCode::BAD_REQUEST, said + "\n"),
        Err((Refusal::Unknown, said)) => text(StatusCode::NOT_FOUND, said + "\n"),
    }
}

fn status_page(site: &Site, _: &str, headers: &HeaderMap) -> Response<Parts> {
    let page = page::render(&Page {
        accounts: &site.ledger.accounts(),
        market: site.ledger.market().as_deref(),
        misconfigured: site.ledger.reload().is_some_and(|reload| !reload.successful),
        now: site.clock.now(),
        telemetry_path: &site.telemetry_path,
        version: env!("CARGO_PKG_VERSION"),
    });
    let response = packed(HTML, page.into_bytes(), None, headers);
    let response = with(response, header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
    with(response, header::REFERRER_POLICY, "no-referrer")
}

/// The process answers; so must every poller give signs of life.
fn healthy(site: &Site, _: &str, _: &HeaderMap) -> Response<Parts> {
    let ailing = site.ledger.ailing(site.clock.now());
    if ailing.is_empty() {
        return text(StatusCode::OK, "healthy: every poller is alive\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, ailing.join("\n") + "\n")
}

/// The first poll of every account has ended, well or not: a failing exchange must not hide the
/// metrics that say so.
fn ready(site: &Site, _: &str, _: &HeaderMap) -> Response<Parts> {
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
    let response = text(StatusCode::UNAUTHORIZED, said.to_owned());
    with(response, header::WWW_AUTHENTICATE, "Basic realm=\"xt-balance-exporter\", charset=\"UTF-8\"")
}

fn not_found(site: &Site) -> String {
    let mut said = "there is nothing here; these paths are answered:\n".to_owned();
    let reload = site.reloads.is_some().then_some("/-/reload (POST)");
    let paths = ["/", &site.telemetry_path, "/api/v1/balances", "/-/healthy", "/-/ready"];
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

/// `body`, compressed if the client likes that.
fn packed(
    content_type: &'static str,
    body: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    headers: &HeaderMap,
) -> Response<Parts> {
    // Compressing into memory does not fail; should it, plain is an answer too.
    let compressed = asks_for_gzip(headers).then(|| gzip(&body).ok()).flatten();
    let is_compressed = compressed.is_some();
    encoded(content_type, Parts::of(compressed.unwrap_or(body)).holding(permit), is_compressed)
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
