//! Serving what is known: `GET /metrics` for scrapers, `GET /` for people, `GET /api/v1/balances` for
//! accountants, `GET /-/healthy` and `GET /-/ready` for supervisors, `POST /-/reload` for whoever changes the
//! configuration. HEAD works wherever GET does.
//! Never calls the exchange: a scrape costs the account nothing.

mod auth;
mod balances_api;
mod body;
mod config;
mod config_watcher;
mod connections;
mod fair_queue;
mod listener;
mod renderer;
mod request_policy;
mod routes;
pub mod status_page;
mod tls;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hyper::{Request, Response, StatusCode, header};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

use self::{
    auth::AuthRefusal, body::ResponseBody, listener::PeerInfo, renderer::Renderer,
    request_policy::RequestPolicy, routes::Document, tls::Tls,
};
pub use self::{config_watcher::WebConfigWatcher, request_policy::HostName, routes::is_reserved};
use crate::{clock::Clock, exposition::cache::ExpositionCache, snapshot::store::Store};

/// Connections at the same time, unless a caller sets another number.
const DEFAULT_CONNECTION_LIMIT: usize = 512;

/// What is served.
#[derive(Debug)]
pub struct Server {
    /// What is known.
    pub store: Arc<Store>,
    /// Answers scrapes.
    pub exposition: Arc<ExpositionCache>,
    /// What time it is.
    pub clock: Clock,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Unix time at which the process started.
    pub process_started: Duration,
    scrapes: Option<ScrapeLimiter>,
    policy: RequestPolicy,
    /// Connections at the same time.
    connections: Arc<AtomicUsize>,
    /// Renders the status page and JSON.
    renderer: Arc<Renderer<Document>>,
    /// Who is let in, if not everybody.
    web_config: Option<Arc<WebConfigWatcher>>,
    /// Who is told that the configuration is to be read again, if requests may ask for that.
    reloads: Option<mpsc::Sender<ReloadRequest>>,
}

/// Asks for the configuration to be read again, and is told in a sentence what came of it.
pub type ReloadRequest = oneshot::Sender<Result<String, String>>;

/// Leave for so many scrapes at a time.
#[derive(Debug)]
struct ScrapeLimiter {
    limit: usize,
    free: Arc<Semaphore>,
}

impl Server {
    /// A site that answers `max_requests` scrapes at the same time, 0 for any number.
    #[must_use]
    pub fn new(store: Arc<Store>, clock: Clock, telemetry_path: String, max_requests: usize) -> Self {
        let free = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
        let scrapes = (max_requests > 0).then_some(ScrapeLimiter { limit: max_requests, free });
        let process_started = clock.now().unix;
        let renderer = Renderer::new();
        Self {
            exposition: Arc::new(ExpositionCache::new(Arc::clone(&store))),
            store,
            clock,
            telemetry_path,
            process_started,
            scrapes,
            policy: RequestPolicy::default(),
            connections: Arc::new(AtomicUsize::new(DEFAULT_CONNECTION_LIMIT)),
            renderer,
            web_config: None,
            reloads: None,
        }
    }

    /// The same site, behind a gate.
    #[must_use]
    pub fn with_web_config(self, web_config: Option<WebConfigWatcher>) -> Self {
        Self { web_config: web_config.map(Arc::new), ..self }
    }

    /// The same site, with at most so many connections; the number may change while it serves.
    #[must_use]
    pub fn with_connection_limit(self, connections: Arc<AtomicUsize>) -> Self {
        Self { connections, ..self }
    }

    /// The same site, which also answers requests for these hosts on a loopback address, and on others for these alone.
    #[must_use]
    pub fn with_allowed_hosts(self, allowed_hosts: Vec<HostName>) -> Self {
        Self { policy: RequestPolicy { allowed_hosts }, ..self }
    }

    /// The same site, where a request may ask `reloads` for the configuration to be read again.
    #[must_use]
    pub fn with_reloads(self, reloads: Option<mpsc::Sender<ReloadRequest>>) -> Self {
        Self { reloads, ..self }
    }

    /// Answers on `listeners` until `shutdown` is done, then lets running answers finish, for at
    /// most five seconds.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let (web_config, connections) = (self.web_config.clone(), Arc::clone(&self.connections));
        let respond = move |request, ends| {
            let site = Arc::clone(&self);
            async move { site.answer(&request, ends).await }
        };
        listener::serve(listeners, web_config, connections, respond, shutdown).await;
    }

    /// Answers the requests of one client, whatever carries them, until it ends or dawdles.
    pub async fn serve_connection(&self, stream: impl AsyncRead + AsyncWrite + 'static) {
        // Nobody asks it to end early.
        let graceful = GracefulShutdown::new();
        let respond = |request| async move { self.answer(&request, PeerInfo::unknown()).await };
        listener::serve_connection(stream, respond, graceful.watcher()).await;
    }

    /// What is answered to whoever is let in, or that they are not.
    async fn answer<B>(&self, request: &Request<B>, ends: PeerInfo) -> Response<ResponseBody> {
        if let Err(refusal) = self.policy.check(request, ends.local, &self.telemetry_path) {
            return routes::policy_refusal(refusal);
        }
        let Some(web_config) = &self.web_config else { return self.respond(request).await };
        let Some(config) = web_config.current().await else {
            let said = "the web configuration cannot be used: the exporter's log says why\n";
            return routes::text_response(StatusCode::INTERNAL_SERVER_ERROR, said.to_owned());
        };
        if ends.trust.as_ref().is_some_and(|trust| config.tls.as_ref().map(Tls::trust) != Some(trust)) {
            return routes::close_connection();
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        let mut response =
            match config.access.authenticate(authorization, ends.peer, self.clock.now().elapsed).await {
                Ok(()) => self.respond(request).await,
                Err(AuthRefusal::TooMany) => routes::too_many_requests(),
                Err(AuthRefusal::Unknown) => routes::unauthorized(),
                Err(AuthRefusal::Busy) => routes::too_busy(),
            };
        for (name, value) in &config.headers {
            // The status page has a policy of its own, which it could not do without.
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        response
    }

    async fn respond<B>(&self, request: &Request<B>) -> Response<ResponseBody> {
        if request.uri().path() == routes::RELOAD {
            return routes::reload(self.reloads.as_ref(), request.method()).await;
        }
        routes::respond(self, request).await
    }
}
