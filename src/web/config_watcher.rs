//! The web configuration in force: read again when a file of it changes, as exporter-toolkit does (R39). While
//! it cannot be used nobody is let in. Knows no route and no connection.

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

/// How long the start waits for the files.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// How long a request waits for the files to be looked at; after that the last configuration stays in force.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);

/// What stands between the server and its clients.
#[derive(Debug)]
pub struct WebConfigWatcher {
    path: PathBuf,
    /// Whether connections are encrypted; fixed at the start.
    is_tls: bool,
    newest: ArcSwap<LoadedConfig>,
    /// One look at a time. It returns a reading if there is a newer one.
    looks: Mutex<FileCheck>,
}

#[derive(Debug, Default)]
struct FileCheck {
    worker: BlockingWorker<Option<LoadedConfig>>,
    /// Whether the last look failed: a look that hangs is logged once.
    failing: bool,
}

impl WebConfigWatcher {
    /// The gate that the web configuration file at `path` describes.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file, or with one that it names.
    pub async fn open(path: &Path) -> Result<Self, String> {
        let mut worker = BlockingWorker::default();
        let read = {
            let path = path.to_owned();
            move || (LoadedConfig::of(&path), quote_existing_path(&path))
        };
        let read = worker.run("web configuration", OPEN_DEADLINE, read).await;
        let (reading, shown) = read.map_err(|error| format!("--web.config.file: cannot be read: {error}"))?;
        let config = reading.config.as_ref().map_err(|why| format!("--web.config.file{shown}: {why}"))?;
        let is_tls = config.tls.is_some();
        Ok(Self {
            path: path.to_owned(),
            is_tls,
            newest: ArcSwap::from_pointee(reading),
            looks: Mutex::default(),
        })
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Number of users who may ask; 0 if no password is needed.
    #[must_use]
    pub fn users(&self) -> usize {
        self.newest.load().config.as_ref().map_or(0, |config| config.access.users())
    }

    /// Sentences about files that more users could read than need to when they were read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.newest.load().warnings.clone()
    }

    /// The web configuration as the files have it now; `None` while it cannot be used. While the files cannot be looked
    /// at, which says nothing of what is in them, it is the last one.
    pub(super) async fn current(&self) -> Option<Arc<WebConfig>> {
        self.refresh().await;
        self.newest.load().config.as_ref().ok().cloned()
    }

    /// TLS for a new connection; `None` while it cannot be had.
    pub(super) async fn tls(&self) -> Option<Tls> {
        self.current().await?.tls.clone()
    }

    /// Reads the files if one has changed.
    async fn refresh(&self) {
        let mut looks = self.looks.lock().await;
        let (before, path) = (self.newest.load_full(), self.path.clone());
        let look = {
            let before = Arc::clone(&before);
            move || before.is_stale().then(|| LoadedConfig::of(&path))
        };
        let looked = looks.worker.run("web configuration", CHECK_DEADLINE, look).await;
        let had_failed = std::mem::replace(&mut looks.failing, looked.is_err());
        let file = self.path.display();
        match looked {
            Ok(Some(mut reading)) => {
                if self.is_tls && reading.config.as_ref().is_ok_and(|config| config.tls.is_none()) {
                    reading.config = Err("TLS is gone from it, and is not switched off while the exporter runs: put it back, or restart".to_owned());
                }
                let reading = Arc::new(reading);
                self.newest.store(Arc::clone(&reading));
                drop(looks);
                self.log_change(&before.config, &reading.config);
            }
            Err(error) if !had_failed => {
                drop(looks);
                tracing::error!(%file, "cannot look whether the web configuration has changed, and the last one stays in force: {error}");
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Says what has become of the file, once.
    fn log_change(&self, before: &Result<Arc<WebConfig>, String>, now: &Result<Arc<WebConfig>, String>) {
        let file = self.path.display();
        match (before, now) {
            (Err(before), Err(now)) if before == now => {}
            (_, Err(why)) => {
                tracing::error!(%file, "the web configuration cannot be used, and every request is refused until it is mended: {why}");
            }
            (_, Ok(config)) if config.tls.is_some() && !self.is_tls => {
                tracing::warn!(%file, "the web configuration asks for TLS, which is not switched on while the exporter runs: restart it");
            }
            (_, Ok(_)) => tracing::info!(%file, "the web configuration has changed, and is in force"),
        }
    }
}
