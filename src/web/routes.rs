//! Paths and their responses. Depends on neither connections, passwords nor the browser policy.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{self, HeaderValue},
};
use percent_encoding::percent_decode_str;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    balances_api::{self, QueryError},
    permits::{self, PERMIT_PATH, PermitRequest},
    renderer::{RenderError, Rendered, Renderer, Version},
    response::{
        ResponseBody, accepts_gzip, encoded_response, method_not_allowed, text_response, with_header,
    },
    status_page::{self, PageScope, SortKey, StatusPage},
};
use crate::{
    clock::{Clock, Timestamp, UnixTime},
    exposition::{cache::ExpositionCache, text::CONTENT_TYPE},
    snapshot::store::{Entries, Store},
};

const HEALTHY_PATH: &str = "/-/healthy";
const READY_PATH: &str = "/-/ready";
const RELOAD_PATH: &str = "/-/reload";
const BALANCES_PATH: &str = "/api/v1/balances";
/// The account's name follows, percent-encoded.
const ACCOUNT_PREFIX: &str = "/account/";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// A request to reload the configuration. The receiver answers with one sentence: the result or the error.
pub type ReloadRequest = oneshot::Sender<Result<String, String>>;

/// All paths, and the data that their responses need.
#[derive(Debug)]
pub(super) struct Routes {
    store: Arc<Store>,
    /// Renders the metrics.
    exposition: Arc<ExpositionCache>,
    clock: Clock,
    telemetry_path: String,
    /// Unix time.
    process_started: UnixTime,
    scrape_limiter: Option<ScrapeLimiter>,
    /// Renders the status page and JSON.
    renderer: Arc<Renderer<Document>>,
    /// The receiver of reload requests; `None` if reload over HTTP is disabled.
    reloads: Option<mpsc::Sender<ReloadRequest>>,
    /// The receiver of requests for permits; `None` if nobody gives any.
    permits: Option<mpsc::Sender<PermitRequest>>,
}

/// A document of the [`Renderer`].
#[derive(Clone, Debug, PartialEq)]
enum Document {
    StatusPage(PageRequest),
    /// Balances of the accounts with these names; of all accounts if the set is empty.
    Balances(BTreeSet<Box<str>>),
}

/// A status page.
#[derive(Clone, Debug, PartialEq)]
struct PageRequest {
    /// The name of the account; `None` for the page of all accounts.
    account: Option<Box<str>>,
    sort: Option<SortKey>,
}

/// Limits the number of concurrent scrapes.
#[derive(Debug)]
struct ScrapeLimiter {
    limit: usize,
    permits: Arc<Semaphore>,
}

/// Whether `path` belongs to this server or is kept free for it, so that metrics cannot be there.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    let is_below = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    path == "/" || is_below("/-") || is_below("/api") || is_below("/account")
}

impl Routes {
    pub(super) fn new(store: Arc<Store>, clock: Clock, telemetry_path: String, max_scrapes: usize) -> Self {
        let permits = Arc::new(Semaphore::new(max_scrapes.min(Semaphore::MAX_PERMITS)));
        Self {
            exposition: Arc::new(ExpositionCache::new(Arc::clone(&store))),
            store,
            clock,
            telemetry_path,
            process_started: clock.now().unix,
            scrape_limiter: (max_scrapes > 0).then_some(ScrapeLimiter { limit: max_scrapes, permits }),
            renderer: Renderer::new(),
            reloads: None,
            permits: None,
        }
    }

    pub(super) fn with_reloads(self, reloads: Option<mpsc::Sender<ReloadRequest>>) -> Self {
        Self { reloads, ..self }
    }

    pub(super) fn with_permits(self, permits: mpsc::Sender<PermitRequest>) -> Self {
        Self { permits: Some(permits), ..self }
    }

    pub(super) fn telemetry_path(&self) -> &str {
        &self.telemetry_path
    }

    pub(super) fn exposition(&self) -> &Arc<ExpositionCache> {
        &self.exposition
    }

    /// The response to `request` of the client at `peer`.
    pub(super) async fn respond<B>(&self, request: &Request<B>, peer: IpAddr) -> Response<ResponseBody> {
        let (path, headers) = (request.uri().path(), request.headers());
        if path == RELOAD_PATH {
            return self.reload(request.method()).await;
        }
        if path == PERMIT_PATH
            && let Some(permits) = &self.permits
        {
            if !peer.to_canonical().is_loopback() && self.reloads.is_none() {
                let text = "permits are for this machine: start with --web.enable-lifecycle to give them to others\n";
                return text_response(StatusCode::FORBIDDEN, text.to_owned());
            }
            return permits::respond(permits, request.method(), request.uri().query()).await;
        }
        let is_metrics_folder = path.strip_suffix('/') == Some(&self.telemetry_path);
        let is_known = [&*self.telemetry_path, "/", HEALTHY_PATH, READY_PATH, BALANCES_PATH].contains(&path);
        let account = path.strip_prefix(ACCOUNT_PREFIX);
        if !is_known && !is_metrics_folder && account.is_none() {
            return text_response(StatusCode::NOT_FOUND, self.list_paths());
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return method_not_allowed("method not allowed: use GET or HEAD\n", "GET, HEAD");
        }
        match path {
            "/" => self.serve_status_page(None, request).await,
            HEALTHY_PATH => self.serve_health(),
            READY_PATH => self.serve_readiness(),
            BALANCES_PATH => self.serve_balances(request.uri().query().unwrap_or_default(), headers).await,
            _ if let Some(name) = account => self.serve_account_page(name, request).await,
            _ if is_metrics_folder => self.redirect_to_metrics(request.uri().query()),
            _ => self.serve_metrics(headers),
        }
    }

    /// Responds with the exposition, unless too many scrapes are running.
    fn serve_metrics(&self, headers: &HeaderMap) -> Response<ResponseBody> {
        let permit = match self.acquire_scrape_permit() {
            Ok(permit) => permit,
            Err(text) => return text_response(StatusCode::SERVICE_UNAVAILABLE, text),
        };
        let exposition = self.exposition.scrape(self.clock.now(), self.process_started);
        let is_gzip = accepts_gzip(headers);
        let body = ResponseBody::new(if is_gzip { exposition.gzip } else { exposition.plain });
        encoded_response(CONTENT_TYPE, body.with_permit(permit), is_gzip)
    }

    /// The response to the telemetry path with a slash at its end. The location is relative, because a reverse proxy may
    /// serve the metrics under a longer path.
    fn redirect_to_metrics(&self, query: Option<&str>) -> Response<ResponseBody> {
        let name = self.telemetry_path.rsplit('/').next().unwrap_or_default();
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let text = format!("the metrics are at {}\n", self.telemetry_path);
        let mut response = text_response(StatusCode::TEMPORARY_REDIRECT, text);
        if let Ok(location) = HeaderValue::try_from(format!("../{name}{query}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    /// `Ok(None)` if scrapes are not limited.
    ///
    /// # Errors
    /// The text of the response if the limit is reached.
    fn acquire_scrape_permit(&self) -> Result<Option<OwnedSemaphorePermit>, String> {
        let Some(limiter) = &self.scrape_limiter else { return Ok(None) };
        limiter.permits.clone().try_acquire_owned().map(Some).map_err(|_| {
            format!("too many concurrent scrapes (--web.max-requests={}): try again later\n", limiter.limit)
        })
    }

    /// Responds with the balances of the accounts that the query names, as JSON.
    async fn serve_balances(&self, query: &str, headers: &HeaderMap) -> Response<ResponseBody> {
        let names = match balances_api::parse_query(&self.store.accounts(), query) {
            Ok(names) => names,
            Err(QueryError::UnknownParameter(text)) => {
                return text_response(StatusCode::BAD_REQUEST, text + "\n");
            }
            Err(QueryError::UnknownAccount(text)) => {
                return text_response(StatusCode::NOT_FOUND, text + "\n");
            }
        };
        let (store, clock, rendered_names) = (Arc::clone(&self.store), self.clock, names.clone());
        let render = move || {
            let now = clock.now();
            let plain = balances_api::render(&store.accounts(), &rendered_names, now);
            Rendered { plain, expires: store.next_expiry(now) }
        };
        self.serve_document(&Document::Balances(names), JSON, headers, render).await
    }

    /// Responds with the page of the account whose percent-encoded name is `name`.
    async fn serve_account_page<B>(&self, name: &str, request: &Request<B>) -> Response<ResponseBody> {
        let name = percent_decode_str(name).decode_utf8().ok();
        let Some(name) = name.filter(|name| self.store.account(name).is_some()) else {
            let text = "no account has this name: the status page lists all accounts\n";
            return text_response(StatusCode::NOT_FOUND, text.to_owned());
        };
        self.serve_status_page(Some(name.into()), request).await
    }

    /// Responds with the status page of all accounts or of one. Parameters that are not known belong to the page's script.
    async fn serve_status_page<B>(
        &self,
        account: Option<Box<str>>,
        request: &Request<B>,
    ) -> Response<ResponseBody> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let sort = form_urlencoded::parse(query).find(|(parameter, _)| parameter == "sort");
        let sort = sort.and_then(|(_, label)| SortKey::from_label(&label));
        let page_request = PageRequest { account, sort };
        let (store, clock, telemetry_path) =
            (Arc::clone(&self.store), self.clock, self.telemetry_path.clone());
        let rendered_request = page_request.clone();
        let render = move || {
            let now = clock.now();
            Rendered {
                plain: render_page(&store, &rendered_request, &telemetry_path, now).into_bytes(),
                expires: store.next_expiry(now),
            }
        };
        let document = Document::StatusPage(page_request);
        let response = self.serve_document(&document, HTML, request.headers(), render).await;
        let policy = status_page::CONTENT_SECURITY_POLICY;
        let response = with_header(response, header::CONTENT_SECURITY_POLICY, policy);
        with_header(response, header::REFERRER_POLICY, "no-referrer")
    }

    /// Responds with a document of the renderer, or with an error.
    async fn serve_document(
        &self,
        document: &Document,
        content_type: &'static str,
        headers: &HeaderMap,
        render: impl FnOnce() -> Rendered + Send + 'static,
    ) -> Response<ResponseBody> {
        let version = || Version { now: self.clock.now().monotonic, changes: self.store.change_count() };
        let is_gzip = accepts_gzip(headers);
        match self.renderer.get(document, is_gzip, version, render).await {
            Ok(bytes) => encoded_response(content_type, ResponseBody::shared(bytes), is_gzip),
            Err(RenderError::Busy) => {
                let text =
                    "too many clients are waiting for this document or receiving it: try again in a second\n";
                let response = text_response(StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
                with_header(response, header::RETRY_AFTER, "1")
            }
            Err(RenderError::Failed) => {
                let text = "cannot render this document: see the exporter's log; the metrics still work\n";
                text_response(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
            }
        }
    }

    /// Responds with 200 unless a poller is stuck.
    fn serve_health(&self) -> Response<ResponseBody> {
        let stuck = self.store.stuck_pollers(self.clock.now());
        if stuck.is_empty() {
            return text_response(StatusCode::OK, "healthy: all pollers are running\n".to_owned());
        }
        text_response(StatusCode::SERVICE_UNAVAILABLE, stuck.join("\n") + "\n")
    }

    /// Responds with 200 after the first poll of every account, even a failed one: a supervisor must not hide the metrics that
    /// show the failure.
    fn serve_readiness(&self) -> Response<ResponseBody> {
        let unpolled = self.store.unpolled_accounts();
        if unpolled.is_empty() {
            return text_response(StatusCode::OK, "ready: every account has been polled\n".to_owned());
        }
        let text = format!("not ready: waiting for the first poll of {}\n", unpolled.join(", "));
        text_response(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// Reloads the configuration, if that is enabled, and responds with the result.
    async fn reload(&self, method: &Method) -> Response<ResponseBody> {
        let Some(reloads) = &self.reloads else {
            let text = "reload over HTTP is disabled: start with --web.enable-lifecycle, or send SIGHUP\n";
            return text_response(StatusCode::NOT_FOUND, text.to_owned());
        };
        if method != Method::POST {
            return method_not_allowed("method not allowed: use POST\n", "POST");
        }
        let (request, result) = oneshot::channel();
        // Sending fails only while the process ends.
        let result = match reloads.send(request).await {
            Ok(()) => result.await.ok(),
            Err(_) => None,
        };
        match result {
            Some(Ok(summary)) => text_response(StatusCode::OK, summary + "\n"),
            Some(Err(error)) => text_response(StatusCode::INTERNAL_SERVER_ERROR, error + "\n"),
            None => {
                text_response(StatusCode::SERVICE_UNAVAILABLE, "the exporter is shutting down\n".to_owned())
            }
        }
    }

    fn list_paths(&self) -> String {
        let mut text = "not found; available paths:\n".to_owned();
        let reload = self.reloads.is_some().then_some("/-/reload (POST)");
        let paths = ["/", "/account/NAME", &self.telemetry_path, BALANCES_PATH, HEALTHY_PATH, READY_PATH];
        for path in paths.into_iter().chain(reload) {
            let _ = writeln!(text, "{path}");
        }
        text
    }
}

fn render_page(store: &Store, request: &PageRequest, telemetry_path: &str, now: Timestamp) -> String {
    let Entries { accounts, prices } = store.entries();
    let (accounts, scope) = match &request.account {
        None => (accounts, PageScope::All),
        Some(name) => {
            (accounts.into_iter().filter(|entry| entry.state.name == *name).collect(), PageScope::Account)
        }
    };
    status_page::render(&StatusPage {
        accounts: &accounts,
        prices: prices.as_deref(),
        history: &store.history(),
        misconfigured: store.reload_status().is_some_and(|reload| !reload.last_succeeded),
        now,
        telemetry_path,
        version: env!("CARGO_PKG_VERSION"),
        sort: request.sort,
        scope,
    })
}
