//! `once`: one poll of every account, and the metrics of it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{Ended, serve::count};
use crate::{
    cli::Once,
    config::{Config, Env},
    moment::Clock,
    poll,
};

/// Accounts polled at the same time.
const AT_ONCE: usize = 8;

pub(super) async fn run(flags: &Once, env: Env<'_>) -> Result<(), Ended> {
    let clock = Clock::start();
    let config = Config::load(&flags.account, None, env, clock.now().unix);
    let config = config.map_err(|error| Ended::Misused(error.to_string()))?;
    let exchange = Arc::new(super::exchange(clock, &config.accounts)?);
    let (pollers, ledger) = poll::pollers(config.accounts, &exchange, clock);

    let free = Arc::new(Semaphore::new(AT_ONCE));
    let mut polling = JoinSet::new();
    for mut poller in pollers {
        let free = Arc::clone(&free);
        polling.spawn(async move {
            let _permit = free.acquire_owned().await;
            poller.run_once().await
        });
    }
    let (mut polls, mut failed) = (0, 0);
    for (ended, failures) in polling.join_all().await {
        polls += ended;
        failed += failures;
    }

    // The process's own metrics would clash with those of whoever reads the file.
    let parts = ledger.exposition(clock.now(), None).plain.parts;
    match &flags.output {
        Some(path) => replace(path, &parts)
            .map_err(|error| Ended::With(format!("cannot write --output {}: {error}", path.display())))?,
        None => parts
            .iter()
            .try_for_each(|part| io::stdout().write_all(part))
            .map_err(|error| Ended::With(format!("cannot write the metrics: {error}")))?,
    }
    if failed > 0 {
        return Err(Ended::With(format!("{failed} of {} failed", count(polls, "poll"))));
    }
    Ok(())
}

/// Puts a new file in the place of `path`, whole or not at all: a collector may read at any time.
fn replace(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    // A textfile collector reads *.prom only, so it passes over this name.
    let draft = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = fs::File::create_new(&draft)?;
        parts.iter().try_for_each(|part| file.write_all(part.as_ref()))?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}
