//! Reading the configuration, at the start and for a reload, so that a file system that hangs holds up neither polls
//! nor scrapes nor the end of the process. Knows what the flags say, and nothing of what is done with it.

use std::time::Duration;

use crate::{
    blocking::BlockingWorker,
    cli::{AccountFlags, PollFlags},
    clock::Clock,
    config::{Config, ConfigError},
};

/// How long the configuration file and all key files are waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// Reads the configuration that the flags name.
#[derive(Debug)]
pub(super) struct ConfigLoader {
    flags: AccountFlags,
    /// `None` for commands that poll but once.
    poll: Option<PollFlags>,
    clock: Clock,
    worker: BlockingWorker<Result<Config, ConfigError>>,
}

impl ConfigLoader {
    pub(super) fn new(flags: &AccountFlags, poll: Option<&PollFlags>, clock: Clock) -> Self {
        Self { flags: flags.clone(), poll: poll.cloned(), clock, worker: BlockingWorker::default() }
    }

    /// Reads it as it is now. May be given up at any time.
    ///
    /// # Errors
    /// The first thing that is wrong with it; or that it could not be read within ten seconds.
    pub(super) async fn load(&mut self) -> Result<Config, String> {
        let (flags, poll, unix) = (self.flags.clone(), self.poll.clone(), self.clock.now().unix);
        // Compose sets a variable that has no value to the empty text.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let read = move || Config::load(&flags, poll.as_ref(), &variable, unix);
        match self.worker.run("configuration", DEADLINE, read).await {
            Ok(config) => config.map_err(|error| error.to_string()),
            Err(error) => Err(format!("the configuration and its key files cannot be read: {error}")),
        }
    }
}
