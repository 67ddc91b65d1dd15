//! `once`: polls every account once, reads prices if they are enabled, and writes the metrics.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    config_loader::{ConfigLoader, warn_about_empty_shard},
    outcome::{CommandError, count},
    output,
    second_reader::SecondReader,
    state_file::{self, StateFile},
};
use crate::{
    cli::OnceFlags, clock::Clock, config::Config, exchange::Client, exposition, poller,
    quoting::quote_existing_path,
};

/// Maximum number of concurrent polls.
const CONCURRENT_POLLS: usize = 8;

pub(super) async fn run(flags: &OnceFlags) -> Result<(), CommandError> {
    let clock = Clock::start();
    let config = ConfigLoader::new(&flags.account, None, clock).load().await.map_err(CommandError::Usage)?;
    warn_about_empty_shard(&config);
    let reader = SecondReader::new(&flags.reader, config.share);
    let exchange = Arc::new(reader.client(clock).map_err(CommandError::Failed)?);
    let mut state_file = StateFile::open(&exchange, &config.egress, clock).await;
    let polls = poll_and_write(flags, config, &exchange, clock);
    let result = state_file::save_during(&mut state_file, &exchange, polls).await;
    reader.finish().await;
    result
}

async fn poll_and_write(
    flags: &OnceFlags,
    config: Config,
    exchange: &Arc<Client>,
    clock: Clock,
) -> Result<(), CommandError> {
    let (pollers, prices, store) = poller::create_pollers(config.accounts, config.prices, exchange, clock);

    let permits = Arc::new(Semaphore::new(CONCURRENT_POLLS));
    let mut polling = JoinSet::new();
    for mut poller in pollers {
        let permits = Arc::clone(&permits);
        polling.spawn(async move {
            let _permit = permits.acquire_owned().await;
            poller.run_once().await
        });
    }
    let prices_succeeded = match prices {
        Some(mut prices) => prices.run_once().await,
        None => true,
    };
    let (mut polls, mut failed) = (0, 0);
    for (account_polls, account_failures) in polling.join_all().await {
        polls += account_polls;
        failed += account_failures;
    }

    // Omits process metrics: two files in one folder would contain the same series.
    let parts = exposition::cache::render(&store, clock.now(), None).plain.parts;
    match &flags.output {
        Some(path) => output::write(path, &parts).map_err(|error| {
            CommandError::Failed(format!("cannot write --output{}: {error}", quote_existing_path(path)))
        })?,
        None => parts
            .iter()
            .try_for_each(|part| io::stdout().write_all(part))
            .map_err(|error| CommandError::Failed(format!("cannot write the metrics: {error}")))?,
    }
    let failed_polls = (failed > 0).then(|| format!("{failed} of {} failed", count(polls, "poll")));
    let failed_prices = (!prices_succeeded).then(|| "reading prices failed".to_owned());
    let failures: Vec<_> = failed_polls.into_iter().chain(failed_prices).collect();
    if failures.is_empty() { Ok(()) } else { Err(CommandError::Failed(failures.join(", and "))) }
}
