//! The daemon of `serve` and `demo`: listens, polls, serves, reloads and shuts down. Loads no configuration itself.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use tokio::{
    net::TcpListener,
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    change_printer::{self, ChangePrinter},
    config_loader::{ConfigLoader, warn_about_empty_shard},
    descriptors::{self, DescriptorBudget},
    lending,
    outcome::CommandError,
    signals::{SignalEvent, Signals},
    socket_activation,
    state_file::{self, StateFile},
    systemd,
};
use crate::{
    cli::{ListenAddress, WebFlags},
    clock::Clock,
    config::Config,
    exchange::{Client, DEFAULT_EGRESS},
    poller::{self, PollerSet, ReloadSummary},
    quoting,
    snapshot::store::ReloadStatus,
    web::{ReloadRequest, Server, WebConfigWatcher},
};

/// Maximum time that polls and calls to the exchange get at shutdown, as long as responses get.
const POLLS_DEADLINE: Duration = Duration::from_secs(5);

/// Opens every listen address of the flags, or takes over the sockets that systemd passes.
pub(super) async fn listen(flags: &WebFlags) -> Result<Vec<TcpListener>, CommandError> {
    if flags.systemd_socket {
        return socket_activation::take_listeners().map_err(CommandError::Failed);
    }
    check_listen_addresses(flags)?;
    let mut listeners = Vec::new();
    for address in &flags.listen_address {
        let listener = bind(address).await;
        listeners.push(listener.map_err(|error| bind_error("--web.listen-address", address, &error))?);
    }
    Ok(listeners)
}

/// Rejects a telemetry path that contains a key of an account: the log and the status page show it.
pub(super) fn check_telemetry_path(flags: &WebFlags, config: &Config) -> Result<(), CommandError> {
    let is_key =
        config.accounts.iter().any(|account| account.credentials.pair().is_in(&flags.telemetry_path));
    if is_key {
        return Err(CommandError::Usage(
            "--web.telemetry-path contains a key, and is shown in pages and logs: write another path"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Rejects listen addresses that cannot be used together. Opens none.
pub(super) fn check_listen_addresses(flags: &WebFlags) -> Result<(), CommandError> {
    if flags.systemd_socket {
        return Ok(());
    }
    let addresses = &flags.listen_address;
    let conflict = addresses.iter().enumerate().find_map(|(index, first)| {
        let second = addresses.iter().skip(index + 1).find(|second| first.conflicts_with(second))?;
        Some((first, second))
    });
    match conflict {
        None => Ok(()),
        Some((first, second)) if first == second => Err(CommandError::Usage(format!(
            "--web.listen-address{} is set twice: remove one of them",
            quoting::quote_address(&first.to_string())
        ))),
        Some((first, second)) => Err(CommandError::Usage(format!(
            "--web.listen-address{} and{} overlap, because one of them means all addresses: remove one of them",
            quoting::quote_address(&first.to_string()),
            quoting::quote_address(&second.to_string())
        ))),
    }
}

/// Opens the file of `--web.config.file`, if the flag is set.
pub(super) async fn open_web_config(flags: &WebFlags) -> Result<Option<WebConfigWatcher>, CommandError> {
    let Some(path) = &flags.config_file else { return Ok(None) };
    let web_config = WebConfigWatcher::open(path).await.map_err(CommandError::Usage)?;
    for warning in web_config.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(Some(web_config))
}

/// The error for the `address` of `flag` on which the process cannot listen, with the fix.
pub(super) fn bind_error(flag: &str, address: &ListenAddress, error: &io::Error) -> CommandError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "stop the process that uses it, or choose another port",
        ErrorKind::PermissionDenied => "choose a port above 1023",
        ErrorKind::AddrNotAvailable => "choose an address of this machine",
        _ => "choose an IP address of this machine, such as 127.0.0.1",
    };
    CommandError::Failed(format!(
        "cannot listen on {flag}{}: {error}: {advice}",
        quoting::quote_address(&address.to_string())
    ))
}

/// Listens on `address`.
pub(super) async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    match address {
        ListenAddress::Socket(address) => TcpListener::bind(address).await,
        ListenAddress::Name(name, port) => TcpListener::bind((&**name, *port)).await,
        ListenAddress::AllAddresses(port) => match bind_both_families(*port) {
            Err(error) if has_no_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await,
            bound => bound,
        },
    }
}

/// Binds one socket for IPv6 and IPv4, regardless of `net.ipv6.bindv6only`.
fn bind_both_families(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    // Like tokio: a restart must not wait for old connections.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Whether the kernel lacks usable IPv6.
fn has_no_ipv6(error: &io::Error) -> bool {
    let known = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    known.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

/// How a running daemon reloads its configuration.
pub(super) struct ReloadContext {
    /// Loads the configuration.
    pub loader: ConfigLoader,
    /// Whether POST /-/reload is enabled, besides SIGHUP.
    pub on_request: bool,
}

/// Listeners, flags and access control of the web server.
pub(super) struct WebContext<'a> {
    /// Flags of the web server.
    pub flags: &'a WebFlags,
    /// TLS, passwords and headers.
    pub web_config: Option<WebConfigWatcher>,
    /// Sockets that listen for clients.
    pub listeners: Vec<TcpListener>,
}

/// Signals, how to reload, the file for the next process, and what to print.
pub(super) struct Control {
    /// Signals since the start of the process.
    pub signals: Signals,
    /// `None` if the daemon does not reload.
    pub reloading: Option<ReloadContext>,
    /// Where a restart finds pauses and refused keys; `None` if nowhere.
    pub state_file: Option<StateFile>,
    /// Prints changes, and ends the daemon when it has printed the last one; `None` prints nothing.
    pub change_printer: Option<ChangePrinter>,
}

/// Parts of a running daemon.
struct Daemon {
    exchange: Arc<Client>,
    signals: Signals,
    reloading: Option<ReloadContext>,
    reload_status: ReloadStatus,
    pollers: PollerSet,
    connections: ConnectionLimit,
    clock: Clock,
}

/// Maximum number of HTTP connections, which depends on the number of accounts.
struct ConnectionLimit {
    descriptors: u64,
    listeners: usize,
    connections: Arc<AtomicUsize>,
}

impl ConnectionLimit {
    fn update(&self, accounts: usize) -> DescriptorBudget {
        let budget = DescriptorBudget::divide(self.descriptors, accounts, self.listeners);
        self.connections.store(budget.connections, Ordering::Relaxed);
        budget
    }
}

/// Polls and serves according to `config` until a signal asks the process to shut down, or the last change is printed.
pub(super) async fn run(
    exchange: Client,
    config: Config,
    clock: Clock,
    web: WebContext<'_>,
    mut control: Control,
) -> Result<(), CommandError> {
    let mut state_file = control.state_file.take();
    let exchange = Arc::new(exchange);
    let daemon = Box::pin(poll_and_serve(Arc::clone(&exchange), config, clock, web, control));
    state_file::save_during(&mut state_file, &exchange, daemon).await
}

/// The same, without the state file.
async fn poll_and_serve(
    exchange: Arc<Client>,
    config: Config,
    clock: Clock,
    web: WebContext<'_>,
    control: Control,
) -> Result<(), CommandError> {
    let Control { signals, reloading, change_printer, .. } = control;
    let polls = start_polling_thread()
        .map_err(|error| CommandError::Failed(format!("cannot start the polling thread: {error}")))?;
    let mut pollers = PollerSet::new(Arc::clone(&exchange), clock, polls.clone());
    let store = Arc::clone(pollers.store());
    pollers.apply_config(config).await;
    let reload_status = ReloadStatus { last_succeeded: true, last_success: clock.now().unix };
    store.set_reload_status(reload_status);

    let connections = ConnectionLimit {
        descriptors: descriptors::raise_limit(),
        listeners: web.listeners.len(),
        connections: Arc::default(),
    };
    let budget = connections.update(store.accounts().len());
    if let Some(warning) = budget.warning(connections.descriptors) {
        tracing::warn!("{warning}");
    }
    let (reload_sender, mut reload_requests) = mpsc::channel(1);
    let reload_sender = reloading.as_ref().is_some_and(|context| context.on_request).then_some(reload_sender);
    let (permit_sender, permit_requests) = mpsc::channel(lending::REQUESTS_MAX);
    let lending = polls.spawn(lending::lend_permits(Arc::clone(&exchange), clock, permit_requests));
    let WebContext { flags, web_config, listeners } = web;
    let server = Server::new(Arc::clone(&store), clock, flags.telemetry_path.clone(), flags.max_requests)
        .with_allowed_hosts(flags.allowed_hosts.clone())
        .with_connection_limit(Arc::clone(&connections.connections))
        .with_web_config(web_config)
        .with_reloads(reload_sender)
        .with_permits(permit_sender);
    let exposition = Arc::clone(server.exposition());
    polls.spawn(async move { exposition.follow_store().await });
    polls.spawn(poller::keep_publishing_rate_limits(Arc::clone(&exchange), Arc::clone(&store)));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(Arc::new(server).serve(listeners, async {
        let _ = stopped.await;
    }));

    let mut daemon = Daemon { exchange, signals, reloading, reload_status, pollers, connections, clock };
    let why = tokio::select! {
        signal = daemon.reload_until_shutdown(&mut reload_requests) => Some(format!("received {signal}")),
        () = change_printer::print_changes(change_printer, &store, clock) => Some("printed the last change".to_owned()),
        never = systemd::notify_loop(&store, clock) => match never {},
        _ = &mut server => None,
    };
    // Answers a waiting reload request now, and not after the other responses have ended.
    drop(reload_requests);
    // The same for requests for permits.
    lending.abort();
    let _ = stop.send(());
    let Some(why) = why else {
        daemon.stop_polls().await;
        return Err(CommandError::Failed("the HTTP server stopped unexpectedly".to_owned()));
    };
    tracing::info!("{why}, shutting down");
    let _ = tokio::join!(systemd::notify_stopping(), server, daemon.stop_polls());
    Ok(())
}

impl Daemon {
    /// Stops all polls, and waits for the replies to the calls that were sent: they may pause an account.
    async fn stop_polls(&mut self) {
        let stopped = async {
            self.pollers.stop().await;
            self.exchange.wait_for_abandoned_calls().await;
        };
        // The reply that still is missing is lost.
        let _ = timeout(POLLS_DEADLINE, stopped).await;
    }

    /// Reloads on request until a signal asks the process to shut down. Returns the signal's name.
    async fn reload_until_shutdown(&mut self, requests: &mut mpsc::Receiver<ReloadRequest>) -> &'static str {
        loop {
            let request = tokio::select! {
                signal = self.signals.next() => match signal {
                    SignalEvent::Shutdown(name) => return name,
                    SignalEvent::Reload => None,
                },
                Some(request) = requests.recv() => Some(request),
            };
            let Some(ReloadContext { loader, .. }) = &mut self.reloading else { continue };
            let result = tokio::select! {
                name = self.signals.shutdown() => return name,
                result = reload_config(loader, &mut self.pollers, &mut self.reload_status, self.clock) => result,
            };
            self.connections.update(self.pollers.store().accounts().len());
            if let Some(request) = request {
                let _ = request.send(result);
            }
        }
    }
}

/// Loads and applies the configuration; on error the previous one stays active. Logs and returns the result.
async fn reload_config(
    loader: &mut ConfigLoader,
    pollers: &mut PollerSet,
    status: &mut ReloadStatus,
    clock: Clock,
) -> Result<String, String> {
    let now = clock.now().unix;
    let config = loader.load().await;
    let route = config.as_ref().ok().and_then(describe_routes);
    let egress = config.as_ref().ok().and_then(describe_egress);
    status.last_succeeded = config.is_ok();
    let result = match config {
        Ok(config) => {
            warn_about_key_files(&config);
            warn_about_empty_shard(&config);
            status.last_success = now;
            Ok(pollers.apply_config(config).await)
        }
        Err(why) => Err(why),
    };
    // Update the store before logging: a reader of the log must see the new state.
    pollers.store().set_reload_status(*status);
    match result {
        Ok(ReloadSummary { new, changed, removed, unchanged, prices_changed }) => {
            let prices = if prices_changed { "changed" } else { "unchanged" };
            tracing::info!(new, changed, removed, unchanged, prices, route, egress, "configuration reloaded");
            Ok(format!(
                "configuration reloaded. Accounts: {new} new, {changed} changed, {removed} removed, {unchanged} unchanged. Prices: {prices}"
            ))
        }
        Err(why) => {
            let text = format!("configuration reload failed, the previous configuration stays active: {why}");
            tracing::error!("{text}");
            Err(text)
        }
    }
}

/// The routes of all accounts, as in `direct, via proxy proxy.example.com:3128`; `None` without accounts.
pub(super) fn describe_routes(config: &Config) -> Option<String> {
    let routes: BTreeSet<_> = config.accounts.iter().flat_map(|account| account.hosts.routes()).collect();
    (!routes.is_empty()).then(|| routes.into_iter().collect::<Vec<_>>().join(", "))
}

/// The egress groups of all accounts, as in `office,spare`; `None` if the file lists no groups.
pub(super) fn describe_egress(config: &Config) -> Option<String> {
    let groups = config.accounts.iter().filter_map(|account| account.hosts.egress());
    let names: BTreeSet<&str> =
        groups.map(|egress| &*egress.name).filter(|name| *name != DEFAULT_EGRESS).collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(","))
}

/// Logs a warning for each file with a key or password that more users may read than need to.
pub(super) fn warn_about_key_files(config: &Config) {
    for account in &config.accounts {
        for warning in account.credentials.warnings() {
            tracing::warn!(account = %account.name, "{warning}");
        }
    }
    let warnings: BTreeSet<_> =
        config.accounts.iter().flat_map(|account| account.hosts.proxy_warnings()).collect();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Starts the thread that runs all polls, and renders and compresses what they changed. It lives as long as the process.
/// Scrapes do not wait for this work.
fn start_polling_thread() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("polls".to_owned())
        .spawn(move || runtime.block_on(future::pending::<Infallible>()))?;
    Ok(handle)
}
