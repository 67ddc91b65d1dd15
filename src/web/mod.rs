//! Serving what is known: `GET /metrics` for scrapers, `GET /` for people, `GET /api/v1/balances` for
//! accountants, `GET /-/healthy` and `GET /-/ready` for supervisors, `POST /-/reload` for whoever changes the
//! configuration. HEAD works wherever GET does.
//! Never calls the exchange: a scrape costs the account nothing.

mod access;
mod balances;
mod body;
mod config;
mod connections;
mod fair_queue;
mod gate;
mod listener;
pub mod page;
mod renderer;
mod request_policy;
mod routes;
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
    access::Refusal, body::Parts, listener::Ends, renderer::Renderer, request_policy::RequestPolicy,
    routes::Document, tls::Tls,
};
pub use self::{gate::Gate, request_policy::HostName, routes::is_reserved};
use crate::{ledger::Ledger, moment::Clock};

/// Connections at the same time, unless a caller sets another number.
const CONNECTIONS: usize = 512;

/// What is served.
#[derive(Debug)]
pub struct Site {
    /// What is known.
    pub ledger: Arc<Ledger>,
    /// What time it is.
    pub clock: Clock,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Unix time at which the process started.
    pub process_started: Duration,
    scrapes: Option<Scrapes>,
    policy: RequestPolicy,
    /// Connections at the same time.
    connections: Arc<AtomicUsize>,
    /// Renders the status page and JSON.
    renderer: Arc<Renderer<Document>>,
    /// Who is let in, if not everybody.
    gate: Option<Arc<Gate>>,
    /// Who is told that the configuration is to be read again, if requests may ask for that.
    reloads: Option<mpsc::Sender<ReloadRequest>>,
}

/// Asks for the configuration to be read again, and is told in a sentence what came of it.
pub type ReloadRequest = oneshot::Sender<Result<String, String>>;

/// Leave for so many scrapes at a time.
#[derive(Debug)]
struct Scrapes {
    limit: usize,
    free: Arc<Semaphore>,
}

impl Site {
    /// A site that answers `max_requests` scrapes at the same time, 0 for any number.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, clock: Clock, telemetry_path: String, max_requests: usize) -> Self {
        let free = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
        let scrapes = (max_requests > 0).then_some(Scrapes { limit: max_requests, free });
        let process_started = clock.now().unix;
        let renderer = Renderer::new();
        Self {
            ledger,
            clock,
            telemetry_path,
            process_started,
            scrapes,
            policy: RequestPolicy::default(),
            connections: Arc::new(AtomicUsize::new(CONNECTIONS)),
            renderer,
            gate: None,
            reloads: None,
        }
    }

    /// The same site, behind a gate.
    #[must_use]
    pub fn behind(self, gate: Option<Gate>) -> Self {
        Self { gate: gate.map(Arc::new), ..self }
    }

    /// The same site, with at most so many connections; the number may change while it serves.
    #[must_use]
    pub fn limited_to(self, connections: Arc<AtomicUsize>) -> Self {
        Self { connections, ..self }
    }

    /// The same site, which also answers requests for these hosts on a loopback address, and on others for these alone.
    #[must_use]
    pub fn answering_for(self, allowed_hosts: Vec<HostName>) -> Self {
        Self { policy: RequestPolicy { allowed_hosts }, ..self }
    }

    /// The same site, where a request may ask `reloads` for the configuration to be read again.
    #[must_use]
    pub fn reloaded_by(self, reloads: Option<mpsc::Sender<ReloadRequest>>) -> Self {
        Self { reloads, ..self }
    }

    /// Answers on `listeners` until `shutdown` is done, then lets running answers finish, for at
    /// most five seconds.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let (gate, connections) = (self.gate.clone(), Arc::clone(&self.connections));
        let respond = move |request, ends| {
            let site = Arc::clone(&self);
            async move { site.answer(&request, ends).await }
        };
        listener::serve(listeners, gate, connections, respond, shutdown).await;
    }

    /// Answers the requests of one client, whatever carries them, until it ends or dawdles.
    pub async fn converse(&self, stream: impl AsyncRead + AsyncWrite + 'static) {
        // Nobody asks it to end early.
        let graceful = GracefulShutdown::new();
        let respond = |request| async move { self.answer(&request, Ends::unknown()).await };
        listener::converse(stream, respond, graceful.watcher()).await;
    }

    /// What is answered to whoever is let in, or that they are not.
    async fn answer<B>(&self, request: &Request<B>, ends: Ends) -> Response<Parts> {
        if let Err(refusal) = self.policy.check(request, ends.local, &self.telemetry_path) {
            return routes::foreign(refusal);
        }
        let Some(gate) = &self.gate else { return self.respond(request).await };
        let Some(config) = gate.current().await else {
            let said = "the web configuration cannot be used: the exporter's log says why\n";
            return routes::text(StatusCode::INTERNAL_SERVER_ERROR, said.to_owned());
        };
        if ends.trust.as_ref().is_some_and(|trust| config.tls.as_ref().map(Tls::trust) != Some(trust)) {
            return routes::hang_up();
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        let mut response = match config.access.admit(authorization, ends.peer, self.clock.now().elapsed).await
        {
            Ok(()) => self.respond(request).await,
            Err(Refusal::TooMany) => routes::too_many(),
            Err(Refusal::Unknown) => routes::unauthorized(),
            Err(Refusal::Busy) => routes::busy(),
        };
        for (name, value) in &config.headers {
            // The status page has a policy of its own, which it could not do without.
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        response
    }

    async fn respond<B>(&self, request: &Request<B>) -> Response<Parts> {
        if request.uri().path() == routes::RELOAD {
            return routes::reload(self.reloads.as_ref(), request.method()).await;
        }
        routes::respond(self, request).await
    }
}
