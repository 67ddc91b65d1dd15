//! Loads the configuration at the start and for reloads, with a deadline: a file system that hangs must not block polls,
//! scrapes or the shutdown. Applies nothing.

use std::time::Duration;

use super::outcome::count;
use crate::{
    blocking::BlockingWorker,
    cli::{AccountFlags, PollFlags},
    clock::Clock,
    config::{Config, ConfigError},
    shard::Shard,
};

/// Maximum time to read the configuration file and all key files.
const DEADLINE: Duration = Duration::from_secs(10);

/// Loads the configuration from flags, file and environment.
#[derive(Debug)]
pub(super) struct ConfigLoader {
    flags: AccountFlags,
    /// `None` for commands that poll only once.
    poll: Option<PollFlags>,
    clock: Clock,
    worker: BlockingWorker<Result<Config, ConfigError>>,
}

impl ConfigLoader {
    pub(super) fn new(flags: &AccountFlags, poll: Option<&PollFlags>, clock: Clock) -> Self {
        Self { flags: flags.clone(), poll: poll.cloned(), clock, worker: BlockingWorker::default() }
    }

    /// Loads the current configuration. Cancel-safe.
    ///
    /// # Errors
    /// The first error in the configuration, or that it could not be read within ten seconds.
    pub(super) async fn load(&mut self) -> Result<Config, String> {
        let (flags, poll, now) = (self.flags.clone(), self.poll.clone(), self.clock.now().unix);
        // Docker Compose sets a variable without a value to the empty text.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let read = move || Config::load(&flags, poll.as_ref(), &variable, now);
        match self.worker.run("configuration", DEADLINE, read).await {
            Ok(config) => config.map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot read the configuration or its key files: {error}")),
        }
    }
}

/// The number of accounts, as in `3 accounts` or `3 accounts in shard 2/5`.
pub(super) fn describe_accounts(config: &Config) -> String {
    let accounts = count(config.accounts.len(), "account");
    if config.shard == Shard::default() { accounts } else { format!("{accounts} in shard {}", config.shard) }
}

/// Logs a warning if no account belongs to the shard of this process.
pub(super) fn warn_about_empty_shard(config: &Config) {
    if config.accounts.is_empty() {
        tracing::warn!(
            shard = %config.shard,
            "no account belongs to this shard: the process watches nothing until a reload adds one"
        );
    }
}
