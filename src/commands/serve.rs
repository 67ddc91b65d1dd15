//! `serve`: loads the configuration, then runs the daemon.

use super::{
    config_loader::ConfigLoader,
    daemon::{self, Control, ReloadContext, WebContext},
    outcome::{CommandError, count, print},
    signals::Signals,
    state_file::StateFile,
};
use crate::{cli::ServeFlags, clock::Clock, exchange::Client, web::WebConfigWatcher};

pub(super) async fn run(flags: &ServeFlags, mut signals: Signals) -> Result<(), CommandError> {
    let clock = Clock::start();
    let mut loader = ConfigLoader::new(&flags.account, Some(&flags.poll), clock);
    let read = async {
        let config = loader.load().await.map_err(CommandError::Usage)?;
        Ok((config, daemon::open_web_config(&flags.web).await?))
    };
    let (config, web_config) = tokio::select! {
        read = read => read?,
        name = signals.shutdown() => {
            tracing::info!("received {name}, shutting down");
            return Ok(());
        }
    };
    daemon::warn_about_key_files(&config);
    if flags.config_check {
        print(&format!("configuration is valid: {}\n", count(config.accounts.len(), "account")));
        return Ok(());
    }
    let listeners = daemon::listen(&flags.web).await?;
    let exchange = Client::new(clock).map_err(CommandError::Failed)?;
    if let Some(warning) = exchange.trust_warning() {
        tracing::warn!("{warning}");
    }
    let mut state_file = StateFile::from_env();
    if let Some(state_file) = &mut state_file {
        state_file.restore(&exchange, &config, clock).await;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("XT_REVISION"),
        accounts = config.accounts.len(),
        route = daemon::describe_routes(&config),
        "starting xt-balance-exporter"
    );
    let tls = web_config.as_ref().is_some_and(WebConfigWatcher::is_tls);
    let users = web_config.as_ref().map_or(0, WebConfigWatcher::user_count);
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, path = flags.web.telemetry_path, tls, users, "listening");
        }
    }
    let reloading = Some(ReloadContext { loader, on_request: flags.enable_lifecycle });
    let web = WebContext { flags: &flags.web, web_config, listeners };
    daemon::run(exchange, config, clock, web, Control { signals, reloading, state_file }).await
}
