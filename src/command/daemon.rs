//! The part of a daemon that `serve` and `demo` share: listen, poll, serve, take another configuration, and end
//! for a reason.

use std::{
    convert::Infallible,
    future,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use tokio::{
    net::TcpListener,
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
};

use super::{
    Ended,
    config_loader::ConfigLoader,
    descriptors::{self, DescriptorBudget},
    serve::warn_of_keys,
    signals::{SignalEvent, Signals},
    supervisor,
};
use crate::{
    cli::WebFlags,
    config::Config,
    exchange::Exchange,
    exposition::own::Reload,
    moment::Clock,
    poll::{Change, Crew, Ticks},
    quoting,
    web::{Gate, ReloadRequest, Site},
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
pub(super) async fn gate(flags: &WebFlags) -> Result<Option<Gate>, Ended> {
    let Some(path) = &flags.config_file else { return Ok(None) };
    let gate = Gate::open(path).await.map_err(Ended::Misused)?;
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
    Ended::With(format!("cannot listen on {flag} {}: {error}{advice}", quoting::address(address)))
}

/// Binds `host:port`, or `:port` for every address of this machine.
pub(super) async fn bind(address: &str) -> io::Result<TcpListener> {
    let Some(port) = address.strip_prefix(':') else { return TcpListener::bind(address).await };
    let port =
        port.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, "the port is not a number"))?;
    match bind_both_families(port) {
        Err(error) if has_no_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    }
}

/// One socket for IPv6 and IPv4, whatever `net.ipv6.bindv6only` says.
fn bind_both_families(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    // As tokio does: a restart must not wait for connections of before.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Whether the kernel has no IPv6, or none that can be used.
fn has_no_ipv6(error: &io::Error) -> bool {
    let known = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    known.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

/// How the configuration is read again while a daemon runs.
pub(super) struct Reloading {
    /// Reads it, or says why it cannot be used.
    pub loader: ConfigLoader,
    /// Whether a request may ask for it, and not only SIGHUP.
    pub on_request: bool,
}

/// Listeners, flags and access control of the web server.
pub(super) struct Web<'a> {
    /// Its flags.
    pub flags: &'a WebFlags,
    /// TLS, passwords and headers.
    pub gate: Option<Gate>,
    /// Where it listens.
    pub listeners: Vec<TcpListener>,
}

/// Signals, and how to reload.
pub(super) struct Control {
    /// Signals, listened for since the start of the process.
    pub signals: Signals,
    /// `None` if the configuration is not read again.
    pub reloading: Option<Reloading>,
}

/// Polls and serves as `config` says until a signal asks for the end of the process.
pub(super) async fn run(
    exchange: Exchange,
    config: Config,
    clock: Clock,
    web: Web<'_>,
    control: Control,
) -> Result<(), Ended> {
    let Control { mut signals, mut reloading } = control;
    let (ask, mut asked) = mpsc::channel::<ReloadRequest>(1);

    let (polls, ticks) =
        polling_thread().map_err(|error| Ended::With(format!("cannot start the polls: {error}")))?;
    let mut crew = Crew::new(Arc::new(exchange), clock, polls, ticks);
    let mut reload = Reload { successful: true, success: clock.now().unix };
    let ledger = Arc::clone(crew.ledger());
    crew.follow(config).await;
    ledger.set_reload(reload);

    let Web { flags, gate, listeners } = web;
    let (limit, listening) = (descriptors::raise_limit(), listeners.len());
    let budget = || DescriptorBudget::divide(limit, ledger.accounts().len(), listening);
    if let Some(warning) = budget().warning(limit) {
        tracing::warn!("{warning}");
    }
    let connections = Arc::new(AtomicUsize::new(budget().connections));
    let site = Site::new(Arc::clone(&ledger), clock, flags.telemetry_path.clone(), flags.max_requests);
    let on_request = reloading.as_ref().is_some_and(|reloading| reloading.on_request);
    let site = site.answering_for(flags.allowed_hosts.clone()).limited_to(Arc::clone(&connections));
    let site = site.behind(gate).reloaded_by(on_request.then_some(ask));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(Arc::new(site).serve(listeners, async {
        let _ = stopped.await;
    }));

    let attended = supervisor::attend(&ledger, clock);
    tokio::pin!(attended);
    let name = loop {
        let request = tokio::select! {
            signal = signals.next() => match signal {
                SignalEvent::Shutdown(name) => break name,
                SignalEvent::Reload => None,
            },
            never = &mut attended => match never {},
            _ = &mut server => return Err(Ended::With("the HTTP server has ended unexpectedly".to_owned())),
            is_polling = crew.bury() => {
                if is_polling { continue }
                return Err(Ended::With("every poller has died: there is nothing left to do".to_owned()));
            }
            Some(request) = asked.recv() => Some(request),
        };
        let Some(Reloading { loader, .. }) = &mut reloading else { continue };
        let said = tokio::select! {
            name = signals.shutdown() => break name,
            said = read_again(loader, &mut crew, &mut reload, clock) => said,
        };
        connections.store(budget().connections, Ordering::Relaxed);
        if let Some(request) = request {
            let _ = request.send(said);
        }
    };
    tracing::info!("received {name}, shutting down");
    // A request for a reload that still waits is answered now, and not after the drain.
    drop(asked);
    let _ = stop.send(());
    let _ = tokio::join!(supervisor::stopping(), server);
    Ok(())
}

/// Has the crew follow the configuration that `loader` reads, or go on as before. Returns what is to be said.
async fn read_again(
    loader: &mut ConfigLoader,
    crew: &mut Crew,
    reload: &mut Reload,
    clock: Clock,
) -> Result<String, String> {
    let now = clock.now().unix;
    let read = loader.load().await;
    reload.successful = read.is_ok();
    let change = match read {
        Ok(config) => {
            warn_of_keys(&config);
            reload.success = now;
            Ok(crew.follow(config).await)
        }
        Err(why) => Err(why),
    };
    // What a line says shall be seen by whoever looks because of it.
    crew.ledger().set_reload(*reload);
    match change {
        Ok(Change { new, changed, gone, unchanged, prices }) => {
            let other = if prices { "changed" } else { "unchanged" };
            tracing::info!(
                new,
                changed,
                gone,
                unchanged,
                prices = other,
                "the configuration was read again and is in force"
            );
            Ok(format!(
                "the configuration is in force. Accounts: {new} new, {changed} changed, {gone} gone, {unchanged} unchanged. Prices: {other}"
            ))
        }
        Err(why) => {
            let said = format!("the configuration cannot be used, and the one before stays in force: {why}");
            tracing::error!("{said}");
            Err(said)
        }
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
