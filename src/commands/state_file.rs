//! The file in `$STATE_DIRECTORY` that keeps pauses and refused keys across a restart. A thread of its own reads and writes
//! it, because the file system may hang. A file that cannot be used costs one warning and nothing else.

use std::{
    convert::Infallible,
    env, fs, future,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, time};

use super::outcome::count;
use crate::{
    blocking::BlockingWorker,
    clock::Clock,
    config::Config,
    exchange::{Client, SAVED_LIMITS_MAX_BYTES, SavedLimits},
    files,
};

const FILE_NAME: &str = "limits.json";
/// Maximum time that the start of the process waits for the file.
const LOAD_DEADLINE: Duration = Duration::from_secs(2);
/// Maximum time to write the file.
const SAVE_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum delay of a shutdown by the last change.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(1);
/// Time from a failed write to the next try.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The state file of this process.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    worker: BlockingWorker<io::Result<Vec<u8>>>,
    /// Whether the file has the last change.
    is_saved: bool,
    /// Whether a failure was logged since the last success.
    has_warned: bool,
}

impl StateFile {
    /// The file in the first directory of `$STATE_DIRECTORY`; `None` if the variable is not set.
    pub(super) fn from_env() -> Option<Self> {
        let directories = env::var_os("STATE_DIRECTORY")?;
        // systemd separates several directories by colons.
        let directory = env::split_paths(&directories).next().filter(|path| path.is_absolute())?;
        Some(Self::new(directory.join(FILE_NAME)))
    }

    fn new(path: PathBuf) -> Self {
        Self { path, worker: BlockingWorker::default(), is_saved: true, has_warned: false }
    }

    /// Restores the pauses and refused keys of the last process for the accounts of `config`. Call it before the first
    /// poll.
    pub(super) async fn restore(&mut self, exchange: &Client, config: &Config, clock: Clock) {
        let Some(saved) = self.load().await else { return };
        if saved.age(clock.now().unix).is_none() {
            self.warn(
                "is from the future: was the clock set back? Its pauses start again with their last length",
            );
        }
        let pairs: Vec<_> = config.accounts.iter().map(|account| account.credentials.pair()).collect();
        let (paused, refused) = exchange.restore_limits(&saved, &pairs);
        if paused + refused > 0 {
            let (paused, refused) = (count(paused, "paused account"), count(refused, "refused key"));
            tracing::info!("restored from the last process: {paused}, {refused}");
        }
    }

    async fn load(&mut self) -> Option<SavedLimits> {
        let path = self.path.clone();
        let read = move || files::read(&path, SAVED_LIMITS_MAX_BYTES).map(|bytes| bytes.to_vec());
        let read = self.worker.run("state file", LOAD_DEADLINE, read).await.flatten();
        let saved = match read {
            Ok(bytes) => SavedLimits::from_json(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        saved.map_err(|why| self.warn(&format!("is ignored: {why}"))).ok()
    }

    async fn save_changes(&mut self, exchange: &Client, changes: &mut watch::Receiver<u64>) -> Infallible {
        loop {
            let next_change = async {
                if changes.changed().await.is_err() {
                    future::pending::<()>().await;
                }
            };
            if self.is_saved {
                next_change.await;
            } else {
                let _ = time::timeout(RETRY_AFTER, next_change).await;
            }
            self.save(exchange).await;
        }
    }

    async fn finish(&mut self, exchange: &Client, changes: &watch::Receiver<u64>) {
        if !self.is_saved || changes.has_changed().unwrap_or(false) {
            let _ = time::timeout(SHUTDOWN_DEADLINE, self.save(exchange)).await;
        }
    }

    async fn save(&mut self, exchange: &Client) {
        // Stays so if the caller drops this future.
        self.is_saved = false;
        let (path, saved) = (self.path.clone(), exchange.save_limits());
        let write = move || write(&path, &saved.to_json()).map(|()| Vec::new());
        match self.worker.run("state file", SAVE_DEADLINE, write).await.flatten() {
            Ok(_) => (self.is_saved, self.has_warned) = (true, false),
            Err(error) => {
                self.warn(&format!("cannot be written, so that a restart forgets pauses: {error}"));
            }
        }
    }

    fn warn(&mut self, why: &str) {
        if !self.has_warned {
            tracing::warn!("the state file {FILE_NAME} in $STATE_DIRECTORY {why}");
        }
        self.has_warned = true;
    }
}

/// Saves every change in `file`, forever.
pub(super) async fn save_changes(
    file: &mut Option<StateFile>,
    exchange: &Client,
    changes: &mut watch::Receiver<u64>,
) -> Infallible {
    match file {
        Some(file) => file.save_changes(exchange, changes).await,
        None => future::pending().await,
    }
}

/// Saves a change that is not in `file` yet, at the end of the process.
pub(super) async fn finish(file: &mut Option<StateFile>, exchange: &Client, changes: &watch::Receiver<u64>) {
    if let Some(file) = file {
        file.finish(exchange, changes).await;
    }
}

/// Replaces the file at `path`. After a crash, even one of the machine, it holds the old content or the new.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    // Always the same name, so that crashes leave at most one such file.
    let new = path.with_extension("json.new");
    // Otherwise opening a FIFO would block, and a file of another user would stay readable for that user.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)
}
