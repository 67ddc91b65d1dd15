//! Publishes the use of the rate limits, so that a scrape needs no lock that a call holds.

use std::{convert::Infallible, sync::Arc, time::Duration};

use crate::{exchange::Client, snapshot::store::Store};

/// Time between two publications. A scrape shows a use that is at most so old.
const INTERVAL: Duration = Duration::from_secs(1);

/// Publishes in `store` how much of each rate limit `exchange` uses, once a second.
pub async fn keep_publishing_rate_limits(exchange: Arc<Client>, store: Arc<Store>) -> Infallible {
    loop {
        publish_rate_limits(&exchange, &store);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Publishes in `store` how much of each rate limit `exchange` uses now.
pub(super) fn publish_rate_limits(exchange: &Client, store: &Store) {
    let accounts = store.accounts();
    store.set_rate_limits(exchange.rate_limit_usage(accounts.iter().map(|account| &*account.state.name)));
}
