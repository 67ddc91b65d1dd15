//! Serving what is known: `GET /metrics` for scrapers, `GET /` for people, `GET /api/v1/balances` for
//! accountants, `GET /-/healthy` and `GET /-/ready` for supervisors. HEAD works wherever GET does.
//! Never calls the exchange: a scrape costs the account nothing.

mod balances;
mod body;
mod listener;
pub mod page;
mod routes;

use std::{sync::Arc, time::Duration};

use hyper_util::server::graceful::GracefulShutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

use crate::{ledger::Ledger, moment::Clock};

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
}

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
        Self { ledger, clock, telemetry_path, process_started: clock.now().unix, scrapes }
    }

    /// Answers on `listeners` until `shutdown` is done, then lets running answers finish, for at
    /// most five seconds.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        listener::serve(listeners, move |request| routes::respond(&self, &request), shutdown).await;
    }

    /// Answers the requests of one client, whatever carries them, until it ends or dawdles.
    pub async fn converse(&self, stream: impl AsyncRead + AsyncWrite + 'static) {
        // Nobody asks it to end early.
        let graceful = GracefulShutdown::new();
        listener::converse(stream, |request| routes::respond(self, &request), graceful.watcher()).await;
    }
}
