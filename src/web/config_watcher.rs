//! Reloads the web configuration when one of its files changes, as exporter-toolkit does (R39). While it is invalid, all
//! requests are rejected. Depends on neither routes nor connections.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{
    config::{LoadedConfig, WebConfig},
    tls::Tls,
};
use crate::{blocking::BlockingWorker, quoting::quote_existing_path};

/// Maximum time to read the files at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time that a request waits for a check of the files; after that the last configuration stays active.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The warning about an address that other machines can connect to without a password or certificate.
pub const OPEN_WARNING: &str = "other machines can read the balances without a password: set basic_auth_users in --web.config.file, \
     listen on 127.0.0.1, or set --web.allow-insecure if the network admits only machines that may read them";

/// The web configuration file, and the last result of reading it.
#[derive(Debug)]
pub struct WebConfigWatcher {
    path: PathBuf,
    /// Whether connections use TLS; fixed at the start.
    is_tls: bool,
    /// Whether to warn when clients no longer need a password or certificate.
    warns_if_open: bool,
    loaded: ArcSwap<LoadedConfig>,
    /// One check runs at a time.
    check: Mutex<FileCheck>,
}

#[derive(Debug, Default)]
struct FileCheck {
    /// Returns the new configuration if a file has changed.
    worker: BlockingWorker<Option<LoadedConfig>>,
    /// Whether the last check failed: a check that hangs is logged once.
    is_failing: bool,
}

impl WebConfigWatcher {
    /// Reads the web configuration file at `path`.
    ///
    /// # Errors
    /// If the file, or a file that it names, is invalid or cannot be read.
    pub async fn open(path: &Path) -> Result<Self, String> {
        let mut worker = BlockingWorker::default();
        let read = {
            let path = path.to_owned();
            move || (LoadedConfig::load(&path), quote_existing_path(&path))
        };
        let read = worker.run("web configuration", OPEN_TIMEOUT, read).await;
        let (loaded, quoted_path) =
            read.map_err(|error| format!("cannot read --web.config.file: {error}"))?;
        let config = loaded.config.as_ref();
        let config = config.map_err(|error| format!("--web.config.file{quoted_path}: {error}"))?;
        let is_tls = config.tls.is_some();
        Ok(Self {
            path: path.to_owned(),
            is_tls,
            warns_if_open: false,
            loaded: ArcSwap::from_pointee(loaded),
            check: Mutex::default(),
        })
    }

    /// Whether connections use TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Number of users; 0 if no password is needed.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.loaded.load().config.as_ref().map_or(0, |config| config.authenticator.user_count())
    }

    /// Whether clients need a password or a certificate.
    #[must_use]
    pub fn requires_authentication(&self) -> bool {
        let loaded = self.loaded.load();
        loaded.config.as_ref().is_ok_and(|config| config.requires_authentication(self.is_tls))
    }

    /// Warns from now on when a changed configuration needs neither password nor certificate.
    pub fn warn_if_open(&mut self) {
        self.warns_if_open = true;
    }

    /// Warnings about secret files that other users of the system could read when they were loaded.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.loaded.load().warnings.clone()
    }

    /// The current web configuration; `None` while it is invalid. If the files cannot be checked in time, it is the last one.
    pub(super) async fn current(&self) -> Option<Arc<WebConfig>> {
        self.refresh().await;
        self.loaded.load().config.as_ref().ok().cloned()
    }

    /// TLS for a new connection; `None` while the configuration is invalid.
    pub(super) async fn tls(&self) -> Option<Tls> {
        self.current().await?.tls.clone()
    }

    /// Reloads the files if one has changed.
    async fn refresh(&self) {
        let mut check = self.check.lock().await;
        let (before, path) = (self.loaded.load_full(), self.path.clone());
        let reload = {
            let before = Arc::clone(&before);
            move || before.is_stale().then(|| LoadedConfig::load(&path))
        };
        let result = check.worker.run("web configuration", CHECK_TIMEOUT, reload).await;
        let was_failing = std::mem::replace(&mut check.is_failing, result.is_err());
        let file = self.path.display();
        match result {
            Ok(Some(mut loaded)) => {
                if self.is_tls && loaded.config.as_ref().is_ok_and(|config| config.tls.is_none()) {
                    let error = "tls_server_config was removed, and TLS cannot be disabled while the exporter runs: restore it, or restart the exporter";
                    loaded.config = Err(error.to_owned());
                }
                let loaded = Arc::new(loaded);
                self.loaded.store(Arc::clone(&loaded));
                drop(check);
                self.log_change(&before.config, &loaded.config);
            }
            Err(error) if !was_failing => {
                drop(check);
                tracing::error!(%file, "cannot check the web configuration for changes, the last one stays active: {error}");
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Logs a change of the configuration, or a new error in it.
    fn log_change(&self, before: &Result<Arc<WebConfig>, String>, now: &Result<Arc<WebConfig>, String>) {
        let file = self.path.display();
        match (before, now) {
            (Err(before), Err(now)) if before == now => {}
            (_, Err(error)) => {
                tracing::error!(%file, "invalid web configuration, all requests are rejected until it is fixed: {error}");
            }
            (_, Ok(config)) if config.tls.is_some() && !self.is_tls => {
                tracing::warn!(%file, "the web configuration enables TLS, which needs a restart: restart the exporter");
            }
            (_, Ok(_)) => tracing::info!(%file, "web configuration reloaded"),
        }
        let is_open = |config: &Arc<WebConfig>| !config.requires_authentication(self.is_tls);
        let was_open = before.as_ref().is_ok_and(is_open);
        if self.warns_if_open && !was_open && now.as_ref().is_ok_and(is_open) {
            tracing::warn!(%file, "{OPEN_WARNING}");
        }
    }
}
