//! `once`: one poll of every account, of the prices if they are wanted, and the metrics of it.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{CommandError, config_loader::ConfigLoader, output, serve::count};
use crate::{
    cli::OnceFlags, clock::Clock, exchange::Client, exposition, poller, quoting::quote_existing_path,
};

/// Accounts polled at the same time.
const AT_ONCE: usize = 8;

pub(super) async fn run(flags: &OnceFlags) -> Result<(), CommandError> {
    let clock = Clock::start();
    let config = ConfigLoader::new(&flags.account, None, clock).load().await.map_err(CommandError::Usage)?;
    let exchange = Arc::new(Client::new(clock).map_err(CommandError::Failed)?);
    let (pollers, prices, store) = poller::create_pollers(config.accounts, config.prices, &exchange, clock);

    let free = Arc::new(Semaphore::new(AT_ONCE));
    let mut polling = JoinSet::new();
    for mut poller in pollers {
        let free = Arc::clone(&free);
        polling.spawn(async move {
            let _permit = free.acquire_owned().await;
            poller.run_once().await
        });
    }
    let is_priced = match prices {
        Some(mut prices) => prices.run_once().await,
        None => true,
    };
    let (mut polls, mut failed) = (0, 0);
    for (ended, failures) in polling.join_all().await {
        polls += ended;
        failed += failures;
    }

    // The exporter's own metrics are left out: two files in one folder would repeat their series.
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
    let failed = (failed > 0).then(|| format!("{failed} of {} failed", count(polls, "poll")));
    let unpriced = (!is_priced).then(|| "the prices could not be read".to_owned());
    let said: Vec<_> = failed.into_iter().chain(unpriced).collect();
    if said.is_empty() { Ok(()) } else { Err(CommandError::Failed(said.join(", and "))) }
}
