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
    CommandError,
    config_loader::ConfigLoader,
    descriptors::{self, DescriptorBudget},
    serve::warn_about_key_files,
    signals::{SignalEvent, Signals},
    systemd,
};
use crate::{
    cli::WebFlags,
    clock::Clock,
    config::Config,
    exchange::Client,
    poller::{PollerSet, ReloadSummary},
    quoting,
    snapshot::store::ReloadStatus,
    web::{ReloadRequest, Server, WebConfigWatcher},
};

/// Opens every listen address of the flags.
pub(super) async fn listen(flags: &WebFlags) -> Result<Vec<TcpListener>, CommandError> {
    let mut listeners = Vec::new();
    for address in &flags.listen_address {
        let listener = bind(address).await;
        listeners.push(
            listener
                .map_err(|error| bind_error("--web.listen-address", address, &error, "127.0.0.1:10770"))?,
        );
    }
    Ok(listeners)
}

/// The gate of the flags, if there is to be one.
pub(super) async fn open_web_config(flags: &WebFlags) -> Result<Option<WebConfigWatcher>, CommandError> {
    let Some(path) = &flags.config_file else { return Ok(None) };
    let web_config = WebConfigWatcher::open(path).await.map_err(CommandError::Usage)?;
    for warning in web_config.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(Some(web_config))
}

/// Says that nothing can listen on the `address` of `flag`, and what a person can do about it.
pub(super) fn bind_error(flag: &str, address: &str, error: &io::Error, example: &str) -> CommandError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => ": is another exporter running?".to_owned(),
        ErrorKind::AddrNotAvailable => ": is the address one of this machine's?".to_owned(),
        ErrorKind::PermissionDenied => ": choose a port above 1023".to_owned(),
        _ => format!(": write it like {example}"),
    };
    CommandError::Failed(format!(
        "cannot listen on {flag} {}: {error}{advice}",
        quoting::quote_address(address)
    ))
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
pub(super) struct ReloadContext {
    /// Reads it, or says why it cannot be used.
    pub loader: ConfigLoader,
    /// Whether a request may ask for it, and not only SIGHUP.
    pub on_request: bool,
}

/// Listeners, flags and access control of the web server.
pub(super) struct WebContext<'a> {
    /// Its flags.
    pub flags: &'a WebFlags,
    /// TLS, passwords and headers.
    pub web_config: Option<WebConfigWatcher>,
    /// Where it listens.
    pub listeners: Vec<TcpListener>,
}

/// Signals, and how to reload.
pub(super) struct Control {
    /// Signals, listened for since the start of the process.
    pub signals: Signals,
    /// `None` if the configuration is not read again.
    pub reloading: Option<ReloadContext>,
}

/// Polls and serves as `config` says until a signal asks for the end of the process.
pub(super) async fn run(
    exchange: Client,
    config: Config,
    clock: Clock,
    web: WebContext<'_>,
    control: Control,
) -> Result<(), CommandError> {
    let Control { mut signals, mut reloading } = control;
    let (ask, mut asked) = mpsc::channel::<ReloadRequest>(1);

    let polls = start_polling_thread()
        .map_err(|error| CommandError::Failed(format!("cannot start the polls: {error}")))?;
    let mut pollers = PollerSet::new(Arc::new(exchange), clock, polls.clone());
    let mut reload = ReloadStatus { successful: true, success: clock.now().unix };
    let store = Arc::clone(pollers.store());
    pollers.apply_config(config).await;
    store.set_reload_status(reload);

    let WebContext { flags, web_config, listeners } = web;
    let (limit, listening) = (descriptors::raise_limit(), listeners.len());
    let budget = || DescriptorBudget::divide(limit, store.accounts().len(), listening);
    if let Some(warning) = budget().warning(limit) {
        tracing::warn!("{warning}");
    }
    let connections = Arc::new(AtomicUsize::new(budget().connections));
    let site = Server::new(Arc::clone(&store), clock, flags.telemetry_path.clone(), flags.max_requests);
    let exposition = Arc::clone(site.exposition());
    polls.spawn(async move { exposition.follow_store().await });
    let on_request = reloading.as_ref().is_some_and(|reloading| reloading.on_request);
    let site =
        site.with_allowed_hosts(flags.allowed_hosts.clone()).with_connection_limit(Arc::clone(&connections));
    let site = site.with_web_config(web_config).with_reloads(on_request.then_some(ask));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(Arc::new(site).serve(listeners, async {
        let _ = stopped.await;
    }));

    let attended = systemd::notify_loop(&store, clock);
    tokio::pin!(attended);
    let name = loop {
        let request = tokio::select! {
            signal = signals.next() => match signal {
                SignalEvent::Shutdown(name) => break name,
                SignalEvent::Reload => None,
            },
            never = &mut attended => match never {},
            _ = &mut server => return Err(CommandError::Failed("the HTTP server has ended unexpectedly".to_owned())),
            Some(request) = asked.recv() => Some(request),
        };
        let Some(ReloadContext { loader, .. }) = &mut reloading else { continue };
        let said = tokio::select! {
            name = signals.shutdown() => break name,
            said = reload_config(loader, &mut pollers, &mut reload, clock) => said,
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
    let _ = tokio::join!(systemd::stopping(), server);
    Ok(())
}

/// Has the crew follow the configuration that `loader` reads, or go on as before. Returns what is to be said.
async fn reload_config(
    loader: &mut ConfigLoader,
    pollers: &mut PollerSet,
    reload: &mut ReloadStatus,
    clock: Clock,
) -> Result<String, String> {
    let now = clock.now().unix;
    let read = loader.load().await;
    reload.successful = read.is_ok();
    let change = match read {
        Ok(config) => {
            warn_about_key_files(&config);
            reload.success = now;
            Ok(pollers.apply_config(config).await)
        }
        Err(why) => Err(why),
    };
    // What a line says shall be seen by whoever looks because of it.
    pollers.store().set_reload_status(*reload);
    match change {
        Ok(ReloadSummary { new, changed, gone, unchanged, prices }) => {
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
fn start_polling_thread() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("polls".to_owned())
        .spawn(move || runtime.block_on(future::pending::<Infallible>()))?;
    Ok(handle)
}
