//! Which path answers what: a request in, a response out.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    ReloadRequest, Server,
    balances_api::{self, QueryError},
    body::{ResponseBody, wants_gzip},
    renderer::{RenderError, Rendered, Version},
    request_policy::PolicyRefusal,
    status_page::{self, StatusPage},
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

pub(super) async fn respond<B>(site: &Server, request: &Request<B>) -> Response<ResponseBody> {
    let path = request.uri().path();
    let is_known = [&*site.telemetry_path, "/", HEALTHY, READY, BALANCES].contains(&path);
    if !is_known {
        return text_response(StatusCode::NOT_FOUND, not_found(site));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return method_not_allowed("only GET and HEAD are answered here\n", "GET, HEAD");
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
) -> Response<ResponseBody> {
    let Some(reloads) = reloads else {
        let said = "reloading by request is not enabled: start with --web.enable-lifecycle, or send SIGHUP\n";
        return text_response(StatusCode::NOT_FOUND, said.to_owned());
    };
    if method != Method::POST {
        return method_not_allowed("only POST is answered here\n", "POST");
    }
    let (tell, told) = oneshot::channel();
    // Whoever would be asked is gone only when the process ends.
    let said = match reloads.send(tell).await {
        Ok(()) => told.await.ok(),
        Err(_) => None,
    };
    match said {
        Some(Ok(said)) => text_response(StatusCode::OK, said + "\n"),
        Some(Err(why)) => text_response(StatusCode::INTERNAL_SERVER_ERROR, why + "\n"),
        None => text_response(StatusCode::SERVICE_UNAVAILABLE, "the exporter is ending\n".to_owned()),
    }
}

fn method_not_allowed(said: &str, allowed: &'static str) -> Response<ResponseBody> {
    with_header(text_response(StatusCode::METHOD_NOT_ALLOWED, said.to_owned()), header::ALLOW, allowed)
}

fn metrics(site: &Server, headers: &HeaderMap) -> Response<ResponseBody> {
    let permit = match acquire_scrape_permit(site) {
        Ok(permit) => permit,
        Err(said) => return text_response(StatusCode::SERVICE_UNAVAILABLE, said),
    };
    let whole = site.exposition.scrape(site.clock.now(), site.process_started);
    let is_compressed = asks_for_gzip(headers);
    let body = ResponseBody::new(if is_compressed { whole.gzip } else { whole.plain });
    encoded_response(CONTENT_TYPE, body.with_permit(permit), is_compressed)
}

/// Leave to answer one of the requests that are counted, where they are; otherwise what to say.
fn acquire_scrape_permit(site: &Server) -> Result<Option<OwnedSemaphorePermit>, String> {
    let Some(scrapes) = &site.scrapes else { return Ok(None) };
    let permit = scrapes.free.clone().try_acquire_owned();
    permit
        .map(Some)
        .map_err(|_| format!("--web.max-requests={} is reached: try again later\n", scrapes.limit))
}

async fn exact_balances(site: &Server, query: &str, headers: &HeaderMap) -> Response<ResponseBody> {
    let wanted = match balances_api::parse_query(&site.store.accounts(), query) {
        Ok(wanted) => wanted,
        Err((QueryError::Misspelt, said)) => return text_response(StatusCode::BAD_REQUEST, said + "\n"),
        Err((QueryError::Unknown, said)) => return text_response(StatusCode::NOT_FOUND, said + "\n"),
    };
    let (store, clock, names) = (Arc::clone(&site.store), site.clock, wanted.clone());
    let render = move || {
        let now = clock.now();
        let plain = balances_api::render(&store.accounts(), &names, now);
        Rendered { plain, known_until: store.next_expiry(now) }
    };
    rendered(site, &Document::Balances(wanted), JSON, headers, render).await
}

async fn status_page(site: &Server, headers: &HeaderMap) -> Response<ResponseBody> {
    let (store, clock, telemetry_path) = (Arc::clone(&site.store), site.clock, site.telemetry_path.clone());
    let render = move || {
        let now = clock.now();
        let page = status_page::render(&StatusPage {
            accounts: &store.accounts(),
            prices: store.prices().as_deref(),
            misconfigured: store.reload_status().is_some_and(|reload| !reload.successful),
            now,
            telemetry_path: &telemetry_path,
            version: env!("CARGO_PKG_VERSION"),
        });
        Rendered { plain: page.into_bytes(), known_until: store.next_expiry(now) }
    };
    let response = rendered(site, &Document::StatusPage, HTML, headers, render).await;
    let response =
        with_header(response, header::CONTENT_SECURITY_POLICY, status_page::CONTENT_SECURITY_POLICY);
    with_header(response, header::REFERRER_POLICY, "no-referrer")
}

/// A document of the renderer, or why there is none now.
async fn rendered(
    site: &Server,
    document: &Document,
    content_type: &'static str,
    headers: &HeaderMap,
    render: impl FnOnce() -> Rendered + Send + 'static,
) -> Response<ResponseBody> {
    let version = || Version { now: site.clock.now().elapsed, changes: site.store.change_count() };
    let is_compressed = asks_for_gzip(headers);
    match site.renderer.get(document, is_compressed, version, render).await {
        Ok(bytes) => encoded_response(content_type, ResponseBody::shared(bytes), is_compressed),
        Err(RenderError::Busy) => {
            let said = "too many clients wait for this or are still taking it: try again in a second\n";
            let response = text_response(StatusCode::SERVICE_UNAVAILABLE, said.to_owned());
            with_header(response, header::RETRY_AFTER, "1")
        }
        Err(RenderError::Failed) => {
            let said = "this cannot be rendered: the exporter's log says why; /metrics is not affected\n";
            text_response(StatusCode::INTERNAL_SERVER_ERROR, said.to_owned())
        }
    }
}

/// The process answers; so must every poller give signs of life.
fn healthy(site: &Server) -> Response<ResponseBody> {
    let ailing = site.store.stuck_pollers(site.clock.now());
    if ailing.is_empty() {
        return text_response(StatusCode::OK, "healthy: every poller is alive\n".to_owned());
    }
    text_response(StatusCode::SERVICE_UNAVAILABLE, ailing.join("\n") + "\n")
}

/// The first poll of every account has ended, well or not: a failing exchange must not hide the
/// metrics that say so.
fn ready(site: &Server) -> Response<ResponseBody> {
    let unpolled = site.store.unpolled_accounts();
    if unpolled.is_empty() {
        return text_response(StatusCode::OK, "ready: every account has been polled\n".to_owned());
    }
    let said = format!("not ready: the first poll has not ended of {}\n", unpolled.join(", "));
    text_response(StatusCode::SERVICE_UNAVAILABLE, said)
}

/// The limit of the web configuration is reached.
pub(super) fn too_many_requests() -> Response<ResponseBody> {
    text_response(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limit of the web configuration is reached: try again later\n".to_owned(),
    )
}

/// A password is asked for, and what came with the request is none.
pub(super) fn unauthorized() -> Response<ResponseBody> {
    let said = "a user and a password of basic_auth_users are needed, for every path\n";
    // A browser or a scraper that knows better connects again; who does not know keeps no connection.
    let response =
        with_header(text_response(StatusCode::UNAUTHORIZED, said.to_owned()), header::CONNECTION, "close");
    with_header(response, header::WWW_AUTHENTICATE, "Basic realm=\"xt-balance-exporter\", charset=\"UTF-8\"")
}

/// Too many passwords wait to be checked.
pub(super) fn too_busy() -> Response<ResponseBody> {
    let said = "too many passwords are being checked: try again in a second\n";
    let response = text_response(StatusCode::TOO_MANY_REQUESTS, said.to_owned());
    with_header(with_header(response, header::RETRY_AFTER, "1"), header::CONNECTION, "close")
}

/// Marks a response that is not sent: the connection is closed, and its client connects again.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseConnection;

/// The client that this connection was opened for may not connect any more, or another one may: it has to shake hands again.
/// Without an answer a scraper does that at once, where it would count an error as a failed scrape.
pub(super) fn close_connection() -> Response<ResponseBody> {
    let mut response = text_response(StatusCode::MISDIRECTED_REQUEST, String::new());
    response.extensions_mut().insert(CloseConnection);
    response
}

/// A browser asks here for others. The connection is closed.
pub(super) fn policy_refusal(refusal: PolicyRefusal) -> Response<ResponseBody> {
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
    with_header(text_response(status, said.to_owned()), header::CONNECTION, "close")
}

fn not_found(site: &Server) -> String {
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
fn encoded_response(
    content_type: &'static str,
    body: ResponseBody,
    is_compressed: bool,
) -> Response<ResponseBody> {
    let response = response(StatusCode::OK, content_type, body);
    let response = with_header(response, header::VARY, "Accept-Encoding");
    if is_compressed { with_header(response, header::CONTENT_ENCODING, "gzip") } else { response }
}

pub(super) fn text_response(status: StatusCode, text: String) -> Response<ResponseBody> {
    response(status, PLAIN, ResponseBody::from_text(text.into_bytes()))
}

fn response(status: StatusCode, content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let response = with_header(response, header::CONTENT_TYPE, content_type);
    // Balances are private, and a kept copy would show old ones as new.
    let response = with_header(response, header::CACHE_CONTROL, "no-store");
    with_header(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn with_header(
    mut response: Response<ResponseBody>,
    name: HeaderName,
    value: &'static str,
) -> Response<ResponseBody> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
