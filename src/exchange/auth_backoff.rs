//! Remembers which key pairs the exchange refused, for which wallets, and when each may be tried again. A pair that is
//! refused everywhere is tried once in five minutes, however many accounts use it. A pair that works for another wallet
//! lacks a permission: only the refused wallet is skipped. A wallet with a permission of its own blocks no other one, so
//! that it does not matter which wallet is read first.
//! Pure: depends on no request.

use std::{collections::HashMap, time::Duration};

use super::{balance::Wallet, secret::PairId};
use crate::clock::MonotonicTime;

/// The time from a refusal to the next try.
pub(super) const RETRY_AFTER: Duration = Duration::from_mins(5);

/// The result of each pair's last try, by wallet. Pairs that were not tried for long are removed.
#[derive(Debug, Default)]
pub(super) struct AuthBackoff(HashMap<PairId, KeyResult>);

#[derive(Debug)]
struct KeyResult {
    last: MonotonicTime,
    /// `None` if it worked, otherwise when it may be tried again.
    wallets: HashMap<Wallet, Option<MonotonicTime>>,
}

/// The results of a refused pair by wallet: the time until the next try, or `None` if the pair worked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub Vec<(Wallet, Option<Duration>)>);

impl Refusal {
    /// The time until the last try that it blocks.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.0.iter().filter_map(|(_, rest)| *rest).max()
    }
}

impl AuthBackoff {
    /// Records the exchange's answer to a call with `pair` for `wallet`: it worked, or the exchange refused the pair.
    /// Returns whether that begins or ends a refusal.
    pub(super) fn record(&mut self, pair: PairId, wallet: Wallet, worked: bool, now: MonotonicTime) -> bool {
        self.0.retain(|known, tried| {
            *known == pair || now.saturating_duration_since(tried.last) < 12 * RETRY_AFTER
        });
        let tried = self.0.entry(pair).or_insert_with(|| KeyResult { last: now, wallets: HashMap::new() });
        tried.last = now;
        let before = tried.wallets.insert(wallet, (!worked).then_some(now + RETRY_AFTER));
        !worked || before.flatten().is_some()
    }

    /// The refusals that block a pair at `now`.
    #[must_use]
    pub(super) fn refusals(&self, now: MonotonicTime) -> Vec<(PairId, Refusal)> {
        let is_blocking = |until: &Option<MonotonicTime>| until.is_none_or(|until| until > now);
        let rest = |until: &Option<MonotonicTime>| until.map(|until| until.saturating_duration_since(now));
        let refusals = self.0.iter().map(|(pair, KeyResult { wallets, .. })| {
            let wallets = wallets.iter().filter(|(_, until)| is_blocking(until));
            (*pair, Refusal(wallets.map(|(wallet, until)| (*wallet, rest(until))).collect()))
        });
        refusals.filter(|(_, Refusal(wallets))| wallets.iter().any(|(_, rest)| rest.is_some())).collect()
    }

    /// Adds the refusals of an earlier process.
    pub(super) fn restore(&mut self, refusals: Vec<(PairId, Refusal)>, now: MonotonicTime) {
        for (pair, Refusal(wallets)) in refusals {
            let wallets = wallets.into_iter().map(|(wallet, rest)| (wallet, rest.map(|rest| now + rest)));
            self.0.entry(pair).or_insert_with(|| KeyResult { last: now, wallets: wallets.collect() });
        }
    }

    /// Removes the last refusal of `pair` for `wallet`: it was not the key's fault.
    pub(super) fn forget(&mut self, pair: PairId, wallet: Wallet) {
        if let Some(tried) = self.0.get_mut(&pair) {
            tried.wallets.remove(&wallet);
        }
    }

    /// Whether `pair` was refused since `began`, so that `wallet` must not be tried.
    #[must_use]
    pub(super) fn was_refused_since(&self, pair: PairId, wallet: Wallet, began: MonotonicTime) -> bool {
        self.blocked_until(pair, wallet).is_some_and(|until| until >= began + RETRY_AFTER)
    }

    /// When `pair` may be tried again for `wallet`, also if that time is past; `None` if it is not blocked.
    #[must_use]
    pub(super) fn blocked_until(&self, pair: PairId, wallet: Wallet) -> Option<MonotonicTime> {
        let wallets = &self.0.get(&pair)?.wallets;
        let judges_pair = |tried: Wallet, until: Option<MonotonicTime>| {
            until.is_none() || tried == wallet || !tried.needs_own_permission()
        };
        let results = wallets.iter().filter(|(tried, until)| judges_pair(**tried, **until));
        // `None` (it worked) is less than any time.
        match results.clone().map(|(_, until)| *until).min()? {
            None => wallets.get(&wallet).copied().flatten(),
            Some(_) => results.filter_map(|(_, until)| *until).max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::exchange::secret::{KeyPair, Secret};

    fn minute(number: u64) -> MonotonicTime {
        MonotonicTime::START + Duration::from_mins(number)
    }

    fn pair(access: &str, secret: &str) -> PairId {
        let secret_of = |text: &str| Secret::new(&Zeroizing::new(text.to_owned()));
        let pair = secret_of(access).and_then(|access| Ok(KeyPair::new(access, secret_of(secret)?)));
        pair.unwrap_or_else(|why| panic!("{why}")).pair_id()
    }

    #[test]
    fn a_pair_that_works_nowhere_is_tried_for_no_wallet() {
        let mut refusals = AuthBackoff::default();
        let wrong = pair("a", "wrong");
        assert_eq!(refusals.blocked_until(wrong, Wallet::Spot), None);
        refusals.record(wrong, Wallet::Spot, false, minute(1));
        assert_eq!(refusals.blocked_until(wrong, Wallet::Spot), Some(minute(6)));
        assert_eq!(refusals.blocked_until(wrong, Wallet::Fiat), Some(minute(6)), "nor for one not tried yet");
        assert_eq!(
            refusals.blocked_until(pair("a", "right"), Wallet::Spot),
            None,
            "another secret is another pair"
        );

        refusals.record(wrong, Wallet::Fiat, false, minute(7));
        assert_eq!(refusals.blocked_until(wrong, Wallet::Spot), Some(minute(12)), "one try for all wallets");
    }

    #[test]
    fn a_wallet_that_is_not_permitted_does_not_silence_the_others() {
        let mut refusals = AuthBackoff::default();
        let key = pair("a", "s");
        refusals.record(key, Wallet::Spot, true, minute(1));
        refusals.record(key, Wallet::Fiat, false, minute(2));
        assert_eq!(refusals.blocked_until(key, Wallet::Spot), None);
        assert_eq!(refusals.blocked_until(key, Wallet::Wallet), None);
        assert_eq!(refusals.blocked_until(key, Wallet::Fiat), Some(minute(7)));

        refusals.record(key, Wallet::Spot, false, minute(3));
        assert_eq!(
            refusals.blocked_until(key, Wallet::Wallet),
            Some(minute(8)),
            "revoked: it works nowhere now"
        );
        assert_eq!(refusals.blocked_until(key, Wallet::Fiat), Some(minute(8)));
        refusals.record(key, Wallet::Spot, true, minute(8));
        assert_eq!(refusals.blocked_until(key, Wallet::Wallet), None, "and is back");
    }

    #[test]
    fn pairs_of_long_ago_are_forgotten() {
        let mut refusals = AuthBackoff::default();
        for rotation in 0..1_000 {
            refusals.record(pair("a", &format!("{rotation}")), Wallet::Spot, false, minute(rotation));
        }
        assert!(refusals.0.len() <= 60, "{}", refusals.0.len());
    }

    #[test]
    fn a_refusal_for_a_wallet_with_its_own_permission_blocks_no_other_and_a_refused_key_blocks_it() {
        let key = pair("a", "right");
        for wallet in [Wallet::Earn, Wallet::FuturesUsdt, Wallet::FuturesCoin] {
            let mut refusals = AuthBackoff::default();
            refusals.record(key, wallet, false, minute(1));
            assert_eq!(refusals.blocked_until(key, wallet), Some(minute(6)));
            assert_eq!(refusals.blocked_until(key, Wallet::Spot), None, "not even before it was tried");
            refusals.record(key, Wallet::Spot, false, minute(2));
            assert_eq!(refusals.blocked_until(key, Wallet::Spot), Some(minute(7)));
            assert_eq!(refusals.blocked_until(key, wallet), Some(minute(7)), "the key may be a bad one");
            refusals.record(key, Wallet::Spot, true, minute(7));
            assert_eq!(refusals.blocked_until(key, Wallet::Spot), None);
            assert_eq!(refusals.blocked_until(key, wallet), Some(minute(6)), "it is due");
        }
    }
}
