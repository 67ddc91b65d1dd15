//! The server as its callers set it up, and the checks that every request passes before its route.

use std::sync::{Arc, atomic::AtomicUsize};

use hyper::{Request, Response, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, watch},
};

use super::{
    auth::AuthRefusal,
    config_watcher::WebConfigWatcher,
    listener::{self, PeerInfo},
    permits::PermitRequest,
    request_policy::{HostName, PolicyRefusal, RequestPolicy},
    response::{ResponseBody, reconnect_response, text_response, with_header},
    routes::{ReloadRequest, Routes},
    tls::Tls,
};
use crate::{clock::Clock, exposition::cache::ExpositionCache, snapshot::store::Store};

/// Maximum number of concurrent connections, unless the caller sets another.
const DEFAULT_CONNECTION_LIMIT: usize = 512;

/// The HTTP server.
#[derive(Debug)]
pub struct Server {
    routes: Routes,
    clock: Clock,
    policy: RequestPolicy,
    /// Maximum number of concurrent connections.
    connection_limit: Arc<AtomicUsize>,
    /// TLS, passwords, headers and the rate limit, if they are configured.
    web_config: Option<Arc<WebConfigWatcher>>,
}

impl Server {
    /// A server with metrics at `telemetry_path` that answers `max_requests` scrapes at the same time, 0 for any number.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, telemetry_path: String, max_requests: usize) -> Self {
        Self {
            routes: Routes::new(store, clock, telemetry_path, max_requests),
            clock,
            policy: RequestPolicy::default(),
            connection_limit: Arc::new(AtomicUsize::new(DEFAULT_CONNECTION_LIMIT)),
            web_config: None,
        }
    }

    /// Adds TLS, passwords, headers and a rate limit.
    #[must_use]
    pub fn with_web_config(self, web_config: Option<WebConfigWatcher>) -> Self {
        Self { web_config: web_config.map(Arc::new), ..self }
    }

    /// Sets the maximum number of concurrent connections; the number may change while the server runs.
    #[must_use]
    pub fn with_connection_limit(self, connection_limit: Arc<AtomicUsize>) -> Self {
        Self { connection_limit, ..self }
    }

    /// Adds hosts to the names of loopback addresses. If there are any, other addresses accept only these hosts too.
    #[must_use]
    pub fn with_allowed_hosts(self, allowed_hosts: Vec<HostName>) -> Self {
        Self { policy: RequestPolicy { allowed_hosts }, ..self }
    }

    /// Lets requests reload the configuration: each sends a [`ReloadRequest`] to `reloads`.
    #[must_use]
    pub fn with_reloads(self, reloads: Option<mpsc::Sender<ReloadRequest>>) -> Self {
        Self { routes: self.routes.with_reloads(reloads), ..self }
    }

    /// Lets other processes ask for permits: each request sends a [`PermitRequest`] to `permits`.
    #[must_use]
    pub fn with_permits(self, permits: mpsc::Sender<PermitRequest>) -> Self {
        Self { routes: self.routes.with_permits(permits), ..self }
    }

    /// The cache that renders the metrics.
    #[must_use]
    pub fn exposition(&self) -> &Arc<ExpositionCache> {
        self.routes.exposition()
    }

    /// Serves on `listeners` until `shutdown` resolves, then waits at most five seconds for running responses.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let (web_config, connection_limit) = (self.web_config.clone(), Arc::clone(&self.connection_limit));
        let respond = move |request, peer_info| {
            let server = Arc::clone(&self);
            async move { server.respond(&request, peer_info).await }
        };
        listener::serve(listeners, web_config, connection_limit, respond, shutdown).await;
    }

    /// Serves one connection over any `stream` until it ends or times out. Without TLS and connection limit.
    pub async fn serve_connection(&self, stream: impl AsyncRead + AsyncWrite + 'static) {
        // The sender lives until the end of this function, so the server never shuts down.
        let (_running, shutting_down) = watch::channel(false);
        let respond = |request| async move { self.respond(&request, PeerInfo::unspecified()).await };
        listener::serve_connection(stream, respond, shutting_down).await;
    }

    async fn respond<B>(&self, request: &Request<B>, peer_info: PeerInfo) -> Response<ResponseBody> {
        if let Err(refusal) = self.policy.check(request, peer_info.local, self.routes.telemetry_path()) {
            return respond_to_policy_refusal(refusal);
        }
        let Some(web_config) = &self.web_config else {
            return self.routes.respond(request, peer_info.peer).await;
        };
        let Some(config) = web_config.current().await else {
            let text = "invalid web configuration: see the exporter's log\n";
            return text_response(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned());
        };
        if peer_info.trust.as_ref().is_some_and(|trust| config.tls.as_ref().map(Tls::trust) != Some(trust)) {
            return reconnect_response();
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        let now = self.clock.now().monotonic;
        let mut response = match config.authenticator.authenticate(authorization, peer_info.peer, now).await {
            Ok(()) => self.routes.respond(request, peer_info.peer).await,
            Err(refusal) => respond_to_auth_refusal(refusal),
        };
        for (name, value) in &config.headers {
            // The status page sets a Content-Security-Policy that it needs to work.
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        response
    }
}

fn respond_to_policy_refusal(refusal: PolicyRefusal) -> Response<ResponseBody> {
    let (status, text) = match refusal {
        PolicyRefusal::ForeignHost => (
            StatusCode::MISDIRECTED_REQUEST,
            "host not allowed: use localhost, or add the host to --web.allowed-hosts\n",
        ),
        PolicyRefusal::CrossSite => (
            StatusCode::FORBIDDEN,
            "cross-site request rejected: pages of other sites may request the metrics only\n",
        ),
    };
    with_header(text_response(status, text.to_owned()), header::CONNECTION, "close")
}

fn respond_to_auth_refusal(refusal: AuthRefusal) -> Response<ResponseBody> {
    match refusal {
        AuthRefusal::RateLimited => text_response(
            StatusCode::TOO_MANY_REQUESTS,
            "rate limit exceeded (rate_limit in the web configuration): try again later\n".to_owned(),
        ),
        AuthRefusal::InvalidCredentials => {
            let text = "authentication required: send a user and password of basic_auth_users\n";
            // A client without credentials keeps no connection; one with credentials connects again.
            let response = text_response(StatusCode::UNAUTHORIZED, text.to_owned());
            let response = with_header(response, header::CONNECTION, "close");
            let challenge = "Basic realm=\"xt-balance-exporter\", charset=\"UTF-8\"";
            with_header(response, header::WWW_AUTHENTICATE, challenge)
        }
        AuthRefusal::QueueFull => {
            let text = "too many passwords are waiting to be checked: try again in a second\n";
            let response = text_response(StatusCode::TOO_MANY_REQUESTS, text.to_owned());
            with_header(with_header(response, header::RETRY_AFTER, "1"), header::CONNECTION, "close")
        }
    }
}
