//! `serve`: the daemon.

use super::{
    Ended,
    config_loader::ConfigLoader,
    daemon::{self, Control, Reloading, Web},
    say,
    signals::Signals,
};
use crate::{cli::Serve, config::Config, exchange::Exchange, moment::Clock, web::Gate};

pub(super) async fn run(flags: &Serve, mut signals: Signals) -> Result<(), Ended> {
    let clock = Clock::start();
    let mut loader = ConfigLoader::new(&flags.account, Some(&flags.poll), clock);
    let read = async {
        let config = loader.load().await.map_err(Ended::Misused)?;
        Ok((config, daemon::gate(&flags.web).await?))
    };
    let (config, gate) = tokio::select! {
        read = read => read?,
        name = signals.shutdown() => {
            tracing::info!("received {name}, shutting down");
            return Ok(());
        }
    };
    warn_of_keys(&config);
    if flags.config_check {
        say(&format!("the configuration is valid: {}\n", count(config.accounts.len(), "account")));
        return Ok(());
    }
    let listeners = daemon::listen(&flags.web).await?;
    let exchange = Exchange::new(clock).map_err(Ended::With)?;
    if let Some(warning) = exchange.trust_warning() {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("XT_REVISION"),
        accounts = config.accounts.len(),
        "starting xt-balance-exporter"
    );
    let tls = gate.as_ref().is_some_and(Gate::is_tls);
    let users = gate.as_ref().map_or(0, Gate::users);
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, path = flags.web.telemetry_path, tls, users, "listening");
        }
    }
    let reloading = Some(Reloading { loader, on_request: flags.enable_lifecycle });
    let web = Web { flags: &flags.web, gate, listeners };
    daemon::run(exchange, config, clock, web, Control { signals, reloading }).await
}

/// Logs which key files more users may read than need to.
pub(super) fn warn_of_keys(config: &Config) {
    for account in &config.accounts {
        for warning in account.keyring.warnings() {
            tracing::warn!(account = %account.name, "{warning}");
        }
    }
}

/// `1 account`, `2 accounts`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
