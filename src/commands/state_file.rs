//! The file in `$STATE_DIRECTORY` that keeps pauses and refused keys across a restart. A thread of its own reads and writes
//! it, because the file system may hang. A file that cannot be used costs a warning and nothing else.

use std::{
    convert::Infallible,
    env, fs, future,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::{sync::watch, time};

use super::outcome::count;
use crate::{
    blocking::BlockingWorker,
    clock::Clock,
    exchange::{Client, Egress, SAVED_LIMITS_MAX_BYTES, SavedLimits},
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
    directory: Arc<Directory>,
    worker: BlockingWorker<io::Result<Vec<u8>>>,
    /// Whether the file has the last change.
    is_saved: bool,
    /// Whether a failed write was logged since the last success.
    has_warned: bool,
}

impl StateFile {
    /// Opens the file in the first directory of `$STATE_DIRECTORY` and restores the pauses and refused keys of the last
    /// process, for the egress `groups`. Call it before the first poll. `None` if the variable is not set or names no absolute path.
    pub(super) async fn open(exchange: &Client, groups: &[Egress], clock: Clock) -> Option<Self> {
        // First, because the pauses of other groups carry over.
        exchange.set_egress(groups);
        let mut file = Self::from_env()?;
        file.restore(exchange, clock).await;
        Some(file)
    }

    fn from_env() -> Option<Self> {
        let directories = env::var_os("STATE_DIRECTORY").filter(|directories| !directories.is_empty())?;
        // systemd separates several directories by colons.
        let directory = env::split_paths(&directories).next().filter(|path| path.is_absolute());
        if directory.is_none() {
            tracing::warn!(
                "$STATE_DIRECTORY is ignored, so that a restart forgets pauses: it is not an absolute path: \
                 set one such as /var/lib/xt-balance-exporter"
            );
        }
        directory.map(Self::new)
    }

    fn new(directory: PathBuf) -> Self {
        let directory = Arc::new(Directory { path: directory, lock: Mutex::default() });
        Self { directory, worker: BlockingWorker::default(), is_saved: true, has_warned: false }
    }

    async fn restore(&mut self, exchange: &Client, clock: Clock) {
        let Some(saved) = self.load().await else { return };
        let (paused, refused) = exchange.restore_limits(&saved);
        if paused + refused > 0 {
            let (paused, refused) = (count(paused, "paused account"), count(refused, "refused key"));
            tracing::info!("restored from the last process: {paused}, {refused}");
        }
        if saved.age(clock.now().unix).is_none() {
            warn("is from the future: was the clock set back? Its pauses start again with their last length");
            // Otherwise they would start again at every start.
            let _ = time::timeout(LOAD_DEADLINE, self.save(exchange)).await;
        }
    }

    async fn load(&mut self) -> Option<SavedLimits> {
        let directory = Arc::clone(&self.directory);
        let read = move || directory.read();
        let saved = match self.worker.run("state file", LOAD_DEADLINE, read).await.flatten() {
            Ok(bytes) => SavedLimits::from_json(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        saved.map_err(|why| warn(&format!("is ignored: {why}"))).ok()
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

    async fn save(&mut self, exchange: &Client) {
        // Stays so if the caller drops this future.
        self.is_saved = false;
        let (directory, saved) = (Arc::clone(&self.directory), exchange.save_limits());
        let write = move || directory.write(&saved.to_json()).map(|()| Vec::new());
        match self.worker.run("state file", SAVE_DEADLINE, write).await.flatten() {
            Ok(_) => (self.is_saved, self.has_warned) = (true, false),
            Err(error) => {
                if !self.has_warned {
                    warn(&format!("cannot be written, so that a restart forgets pauses: {error}"));
                }
                self.has_warned = true;
            }
        }
    }
}

/// Runs `work`. Saves in `file` every change of pauses and refused keys, meanwhile at once and at the end the last one.
pub(super) async fn save_during<T>(
    file: &mut Option<StateFile>,
    exchange: &Client,
    work: impl Future<Output = T>,
) -> T {
    let Some(file) = file else { return work.await };
    let mut changes = exchange.subscribe_limit_changes();
    let result = tokio::select! {
        result = work => result,
        never = file.save_changes(exchange, &mut changes) => match never {},
    };
    if !file.is_saved || changes.has_changed().unwrap_or(false) {
        let _ = time::timeout(SHUTDOWN_DEADLINE, file.save(exchange)).await;
    }
    result
}

fn warn(why: &str) {
    tracing::warn!("the state file {FILE_NAME} in $STATE_DIRECTORY {why}");
}

/// The directory of the state file. Everything here may block.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Locked by the system as long as it is open.
    lock: Mutex<Option<fs::File>>,
}

impl Directory {
    /// Reads the file, also if another process writes it.
    fn read(&self) -> io::Result<Vec<u8>> {
        // Before reading: a process that writes it now must end first. A failure is reported by the first write.
        let _ = self.lock();
        files::read(&self.path.join(FILE_NAME), SAVED_LIMITS_MAX_BYTES).map(|bytes| bytes.to_vec())
    }

    /// Replaces the file. After a crash, even one of the machine, it holds the old content or the new.
    fn write(&self, content: &[u8]) -> io::Result<()> {
        self.lock()?;
        let path = self.path.join(FILE_NAME);
        // Always the same name, so that crashes leave at most one such file.
        let new = path.with_extension("json.new");
        // Otherwise opening a FIFO would block, and a file of another user would stay readable for that user.
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        give_to_owner_of(&self.path, &file);
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Locks the directory until the end of this process: two processes would overwrite each other's pauses.
    fn lock(&self) -> io::Result<()> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let directory = fs::File::open(&self.path)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    ErrorKind::ResourceBusy,
                    "another process saves its own pauses in this directory: give each process a directory of its own",
                ));
            }
            // Some network file systems have no locks.
            Ok(()) | Err(_) => *held = Some(directory),
        }
        Ok(())
    }
}

/// If root runs a command in the directory of a service, the service must be able to read the file. Ignores failures.
fn give_to_owner_of(directory: &Path, file: &fs::File) {
    let owner = |metadata: fs::Metadata| (metadata.uid(), metadata.gid());
    let (Ok(of_directory), Ok(of_file)) = (fs::metadata(directory).map(owner), file.metadata().map(owner))
    else {
        return;
    };
    if of_directory.0 != of_file.0 {
        let _ = fchown(file, Some(of_directory.0), Some(of_directory.1));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(path: &Path) -> Directory {
        Directory { path: path.to_owned(), lock: Mutex::default() }
    }

    #[tokio::test]
    async fn a_change_that_is_not_saved_yet_is_saved_at_the_end() -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let exchange = Client::simulated(Clock::start())?;
        let file = || StateFile { is_saved: false, ..StateFile::new(folder.path().to_owned()) };
        save_during(&mut Some(file()), &exchange, async {}).await;
        assert!(
            fs::read(folder.path().join(FILE_NAME)).is_ok_and(|json| SavedLimits::from_json(&json).is_ok())
        );
        Ok(())
    }

    #[test]
    fn one_process_writes_and_others_read() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (first, second) = (directory(folder.path()), directory(folder.path()));
        assert_eq!(first.read().map_err(|error| error.kind()), Err(ErrorKind::NotFound));
        first.write(b"first")?;
        assert_eq!(second.read()?, b"first");
        assert_eq!(second.write(b"second").map_err(|error| error.kind()), Err(ErrorKind::ResourceBusy));
        first.write(b"again")?;
        assert_eq!(second.read()?, b"again");
        drop(first);
        second.write(b"second")?;
        assert_eq!(second.read()?, b"second");
        Ok(())
    }

    #[test]
    fn a_link_in_place_of_the_file_is_replaced_and_its_target_stays() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (state, target) = (folder.path().join("state"), folder.path().join("target"));
        fs::create_dir(&state)?;
        fs::write(&target, "target")?;
        for name in ["limits.json", "limits.json.new"] {
            symlink(&target, state.join(name))?;
        }
        let directory = directory(&state);
        assert_eq!(directory.read()?, b"target");
        directory.write(b"new")?;
        assert_eq!((directory.read()?, fs::read(&target)?), (b"new".to_vec(), b"target".to_vec()));
        assert_eq!(fs::read_dir(&state)?.count(), 1);
        let metadata = fs::symlink_metadata(state.join("limits.json"))?;
        assert!(metadata.is_file() && metadata.mode() & 0o777 == 0o600, "{metadata:?}");
        Ok(())
    }
}
