//! The web configuration in force: read again when a file of it changes, as exporter-toolkit does (R39). While
//! it cannot be used nobody is let in. Knows no route and no connection.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    config::{Reading, WebConfig},
    tls::Tls,
};

/// What stands between the server and its clients.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    /// Whether connections are encrypted; fixed at the start.
    is_tls: bool,
    newest: Mutex<Reading>,
}

impl Gate {
    /// The gate that the web configuration file at `path` describes.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file, or with one that it names.
    pub fn open(path: &Path) -> Result<Self, String> {
        let reading = Reading::of(path);
        let shown = path.display();
        let config = reading.config.as_ref().map_err(|why| format!("--web.config.file {shown}: {why}"))?;
        let is_tls = config.tls.is_some();
        Ok(Self { path: path.to_owned(), is_tls, newest: Mutex::new(reading) })
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// How many users may ask; 0 if whoever comes may.
    #[must_use]
    pub fn users(&self) -> usize {
        self.current().map_or(0, |config| config.access.users())
    }

    /// Sentences about files that more users may read than need to.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).warnings()
    }

    /// What is in force now; `None` while it cannot be used.
    pub(super) fn current(&self) -> Option<Arc<WebConfig>> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_stale() {
            let mut reading = Reading::of(&self.path);
            if self.is_tls && reading.config.as_ref().is_ok_and(|config| config.tls.is_none()) {
                reading.config = Err("TLS is gone from it, and is not switched off while the exporter runs: put it back, or restart".to_owned());
            }
            self.tell(&newest.config, &reading.config);
            *newest = reading;
        }
        newest.config.as_ref().ok().cloned()
    }

    /// TLS for a new connection; `None` while it cannot be had.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.current()?.tls.clone()
    }

    /// Says what has become of the file, once.
    fn tell(&self, before: &Result<Arc<WebConfig>, String>, now: &Result<Arc<WebConfig>, String>) {
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
