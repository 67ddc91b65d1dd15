//! The part of a daemon that `serve` and `demo` share: listen, poll, serve, and end for a reason.

use std::{
    collections::HashMap,
    convert::Infallible,
    future,
    io::{self, ErrorKind},
    sync::Arc,
    thread,
};

use tokio::{
    net::TcpListener,
    runtime::{self, Handle},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
};

use super::{Ended, supervisor};
use crate::{
    cli::WebFlags,
    ledger::Ledger,
    moment::Clock,
    poll::{Poller, PricePoller, Ticks},
    web::{Gate, Site},
};

/// Opens every listen address of the flags.
pub(super) async fn listen(flags: &WebFlags) -> Result<Vec<TcpListener>, Ended> {
    let mut listeners = Vec::new();
    for address in &flags.listen_address {
        let listener = bind(address).await;
        listeners.push(
            listener.map_err(|error| refused("--web.listen-address", address, &error, "127.0.0.1:10770"))?,
        );
    }
    Ok(listeners)
}

/// The gate of the flags, if there is to be one.
pub(super) fn gate(flags: &WebFlags) -> Result<Option<Gate>, Ended> {
    let Some(path) = &flags.config_file else { return Ok(None) };
    let gate = Gate::open(path).map_err(Ended::Misused)?;
    for warning in gate.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(Some(gate))
}

/// Says that nothing can listen on the `address` of `flag`, and what a person can do about it.
pub(super) fn refused(flag: &str, address: &str, error: &io::Error, example: &str) -> Ended {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => ": is another exporter running?".to_owned(),
        ErrorKind::AddrNotAvailable => ": is the address one of this machine's?".to_owned(),
        ErrorKind::PermissionDenied => ": choose a port above 1023".to_owned(),
        _ => format!(": write it like {example}"),
    };
    Ended::With(format!("cannot listen on {flag} {address}: {error}{advice}"))
}

/// Binds `host:port`, or `:port` for every address of this machine.
pub(super) async fn bind(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        // One socket takes both families, where there are both.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
        None => TcpListener::bind(address).await,
    }
}

/// Polls and serves until the process is told to end.
pub(super) async fn run(
    pollers: Vec<Poller>,
    prices: Option<PricePoller>,
    ledger: &Arc<Ledger>,
    clock: Clock,
    flags: &WebFlags,
    gate: Option<Gate>,
    listeners: Vec<TcpListener>,
) -> Result<(), Ended> {
    let terminate =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) =
        terminate.map_err(|error| Ended::With(format!("cannot listen for signals: {error}")))?;

    let site =
        Site::new(Arc::clone(ledger), clock, flags.telemetry_path.clone(), flags.max_requests).behind(gate);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(Arc::new(site).serve(listeners, async {
        let _ = stopped.await;
    }));

    let (polls, ticks) =
        polling_thread().map_err(|error| Ended::With(format!("cannot start the polls: {error}")))?;
    // By the account that is polled; prices are of none.
    let mut names = HashMap::new();
    let mut polling = JoinSet::new();
    for poller in pollers {
        let name: Box<str> = poller.account().into();
        names.insert(polling.spawn_on(poller.run(ticks), &polls).id(), Some(name));
    }
    names.extend(prices.map(|prices| (polling.spawn_on(prices.run(ticks), &polls).id(), None)));
    let attended = supervisor::attend(ledger, clock);
    tokio::pin!(attended);
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
            _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
            never = &mut attended => match never {},
            _ = &mut server => return Err(Ended::With("the HTTP server has ended unexpectedly".to_owned())),
            dead = polling.join_next_with_id() => {
                bury(dead, &mut names, ledger, clock);
                if !names.values().any(Option::is_some) {
                    return Err(Ended::With("every poller has died: there is nothing left to do".to_owned()));
                }
                continue;
            }
        }
        supervisor::stopping().await;
        let _ = stop.send(());
        let _ = server.await;
        return Ok(());
    }
}

/// A thread for polls alone, as long as the process lives: a scrape shall not wait for a poll's decoding, nor
/// a poll for a scrape's compressing, and what a poll does is handed from none to another.
fn polling_thread() -> io::Result<(Handle, Ticks)> {
    let ticks = Ticks::begin();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("polls".to_owned())
        .spawn(move || runtime.block_on(future::pending::<Infallible>()))?;
    Ok((handle, ticks))
}

/// Pollers do not end but by a panic. The others go on, and `/-/healthy` tells of this one.
fn bury(
    dead: Option<Result<(Id, Infallible), JoinError>>,
    names: &mut HashMap<Id, Option<Box<str>>>,
    ledger: &Ledger,
    clock: Clock,
) {
    let Some(Err(error)) = dead else { return };
    let now = clock.now();
    match names.remove(&error.id()) {
        Some(Some(name)) => {
            tracing::error!(account = %name, "the poller of this account has died, and its balances will become unknown: {error}");
            ledger.update(&name, |account| account.alive_until = now);
        }
        Some(None) => {
            tracing::error!("the poller of prices has died, and they will become unknown: {error}");
            ledger.update_market(|market| market.alive_until = now);
        }
        None => {}
    }
}
