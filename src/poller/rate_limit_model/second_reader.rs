//! A second reader beside the process, such as `check` beside the daemon: it asks the process for a permit before each call.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::{
    egress::seen_address,
    exchange::{CallInFlight, SharedModel, lock},
    record::{CallResult, RecordedCall},
    scenario::ModelAccount,
};
use crate::{
    config::AccountConfig,
    exchange::{Client, DEFAULT_EGRESS},
};

/// The time between the end of a call with a key and the next one. The reader keeps to it without the process, because the
/// process does not count calls with keys that it has not used yet.
const KEY_INTERVAL: Duration = Duration::from_millis(2_001);

/// Calls the exchange for one account after the other, as often as the process `number` permits, and on average not more
/// often than every `interval`. It has the configuration of the process, made by `create_config`, and so its
/// addresses.
pub(super) async fn run_second_reader(
    client: Arc<Client>,
    model: SharedModel,
    number: usize,
    interval: Duration,
    create_config: fn(&ModelAccount, usize) -> AccountConfig,
) {
    let mut rng = Rng::with_seed(number as u64);
    let mut last_ends = HashMap::<usize, Instant>::new();
    sleep(KEY_INTERVAL).await;
    loop {
        sleep(interval.mul_f64(2.0 * rng.f64())).await;
        let (account, host_count) = {
            let model = lock(&model);
            (rng.choice(&model.polled[&number]).cloned(), model.host_count())
        };
        let Some(account) = account else { continue };
        if last_ends.get(&account.key).is_some_and(|end| end.elapsed() < KEY_INTERVAL) {
            continue;
        }
        let config = create_config(&account, host_count);
        let key = config.credentials.pair().id();
        let Ok(permit) = client.lend(Some(key)).await else { continue };
        let call = {
            let mut state = lock(&model);
            let now = state.now();
            let id = state.push_call(RecordedCall {
                process: number,
                account: account.index,
                key: account.key,
                address: seen_address(account.egress),
                configured_address: config
                    .hosts
                    .egress()
                    .map_or_else(|| DEFAULT_EGRESS.into(), |egress| Arc::clone(&egress.address)),
                is_lent: true,
                host: String::new(),
                path: String::new(),
                wallet: None,
                nonce: None,
                timeout: Duration::MAX,
                start: now,
                end: Duration::MAX,
                good: false,
            });
            CallInFlight { model: Arc::clone(&model), id, result: CallResult::Other }
        };
        let longest = if rng.u8(..) < 16 { 10_000 } else { 200 };
        sleep(Duration::from_millis(rng.u64(0..longest))).await;
        drop(call);
        drop(permit);
        last_ends.insert(account.key, Instant::now());
    }
}
