//! `serve`: loads the configuration, then runs the daemon.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::{
    config_loader::{ConfigLoader, describe_accounts, warn_about_empty_shard},
    daemon::{self, Control, ReloadContext, WebContext},
    outcome::{CommandError, print},
    signals::Signals,
    state_file::StateFile,
};
use crate::{
    cli::ServeFlags,
    clock::Clock,
    exchange::Client,
    exposition::listing::list_metrics,
    web::{OPEN_WARNING, WebConfigWatcher},
};

pub(super) async fn run(flags: &ServeFlags, mut signals: Signals) -> Result<(), CommandError> {
    if flags.metrics {
        print(&list_metrics());
        return Ok(());
    }
    let clock = Clock::start();
    let mut loader = ConfigLoader::new(&flags.account, Some(&flags.poll), clock);
    let read = async {
        let config = loader.load().await.map_err(CommandError::Usage)?;
        Ok((config, daemon::open_web_config(&flags.web).await?))
    };
    let (config, mut web_config) = tokio::select! {
        read = read => read?,
        name = signals.shutdown() => {
            tracing::info!("received {name}, shutting down");
            return Ok(());
        }
    };
    daemon::warn_about_key_files(&config);
    daemon::check_listen_addresses(&flags.web)?;
    daemon::check_telemetry_path(&flags.web, &config)?;
    let exchange = Client::new(clock, config.share.into()).map_err(CommandError::Failed)?;
    if let Some(warning) = exchange.trust_warning() {
        tracing::warn!("{warning}");
    }
    if flags.config_check {
        print(&format!("configuration is valid: {}\n", describe_accounts(&config)));
        return Ok(());
    }
    warn_about_empty_shard(&config);
    let listeners = daemon::listen(&flags.web).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("XT_REVISION"),
        accounts = config.accounts.len(),
        shard = %config.shard,
        limits_share = %config.share,
        route = daemon::describe_routes(&config),
        egress = daemon::describe_egress(&config),
        "starting xt-balance-exporter"
    );
    let state_file = StateFile::open(&exchange, &config.egress, clock).await;
    let tls = web_config.as_ref().is_some_and(WebConfigWatcher::is_tls);
    let users = web_config.as_ref().map_or(0, WebConfigWatcher::user_count);
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, path = flags.web.telemetry_path, tls, users, "listening");
        }
    }
    if !flags.allow_insecure {
        warn_if_open(&listeners, web_config.as_mut());
    }
    let reloading = Some(ReloadContext { loader, on_request: flags.enable_lifecycle });
    let web = WebContext { flags: &flags.web, web_config, listeners };
    daemon::run(
        exchange,
        config,
        clock,
        web,
        Control { signals, reloading, state_file, change_printer: None },
    )
    .await
}

/// Warns if other machines can connect without a password or certificate, now and after each change of the web
/// configuration.
fn warn_if_open(listeners: &[TcpListener], web_config: Option<&mut WebConfigWatcher>) {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let is_exposed = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    let exposed: Vec<_> = addresses.filter(is_exposed).map(|address| address.to_string()).collect();
    if exposed.is_empty() {
        return;
    }
    if !web_config.as_deref().is_some_and(WebConfigWatcher::requires_authentication) {
        tracing::warn!(address = exposed.join(","), "{OPEN_WARNING}");
    }
    if let Some(web_config) = web_config {
        web_config.warn_if_open();
    }
}
