//! What a restart must not forget: pauses after limit replies, and refused keys. As JSON, for a file.
//!
//! A key is identified by its [`PairId`], a SHA-256 of both halves. A reader of the file who has a list of access keys cannot
//! find out which of them is meant, because that also takes the secret key, which is too long to guess.
//!
//! The file can only keep times of the wall clock, which may jump. So it has the time at which it was saved, and durations
//! from there. If the clock was set back, a pause lasts as long as at that time, and if it was set forward, the pause ends
//! early.
//! Pure: reads no file and no clock.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    auth_backoff::{RETRY_AFTER, Refusal},
    balance::Wallet,
    client::Client,
    pauses::{ActivePause, ActivePauses, PAUSE_MAX},
    secret::{KeyId, KeyPair, PairId},
};
use crate::clock::UnixTime;

/// The format of the file.
const VERSION: u32 = 1;
/// The most accounts, and the most keys, that are saved. Two limit replies within a minute pause all accounts, so that
/// this number is never reached in practice.
const ENTRIES_MAX: usize = 1_000;
/// The size of a file with the most entries, rounded up.
pub const SAVED_LIMITS_MAX_BYTES: u64 = 1024 * 1024;

/// Pauses and refused keys at one time.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLimits {
    version: u32,
    /// The time of saving, in Unix milliseconds.
    saved_unix_ms: u64,
    paused_accounts: Vec<SavedAccount>,
    paused_keys: Vec<SavedKey>,
    /// The pause of calls for prices.
    prices: Option<SavedPause>,
    /// The rest of the pause of all accounts.
    all_accounts_ms: Option<u64>,
    refused_keys: Vec<SavedRefusal>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedAccount {
    account: Box<str>,
    pause: SavedPause,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedKey {
    key: PairId,
    rest_ms: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedPause {
    since_reply_ms: Option<u64>,
    rest_ms: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedRefusal {
    key: PairId,
    /// By the label of the wallet: the time until the next try, or nothing if the key works.
    wallets: BTreeMap<String, Option<u64>>,
}

impl SavedLimits {
    /// Reads JSON.
    ///
    /// # Errors
    /// A sentence about the problem, without any part of the text.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let saved: Self = serde_json::from_slice(json)
            .map_err(|error| format!("it is not valid (line {}, column {})", error.line(), error.column()))?;
        if saved.version != VERSION {
            return Err(format!("its version is not {VERSION}: another version of the exporter wrote it"));
        }
        Ok(saved)
    }

    /// Writes JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Fails only for maps whose keys are not texts.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// The time from saving to `now`; `None` if the wall clock was set back.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Option<Duration> {
        now.as_millis().checked_sub(self.saved_unix_ms).map(Duration::from_millis)
    }

    /// Only keys of `pairs` are saved.
    fn new(
        pauses: &ActivePauses,
        refusals: Vec<(PairId, Refusal)>,
        pairs: &HashMap<KeyId, PairId>,
        now: UnixTime,
    ) -> Self {
        let saved_pause = |pause: &ActivePause| SavedPause {
            since_reply_ms: pause.since_reply.map(to_millis),
            rest_ms: to_millis(pause.rest),
        };
        let accounts = pauses.accounts.iter();
        let accounts = accounts
            .map(|(account, pause)| SavedAccount { account: account.clone(), pause: saved_pause(pause) });
        let keys = pauses
            .keys
            .iter()
            .filter_map(|(key, rest)| Some(SavedKey { key: *pairs.get(key)?, rest_ms: to_millis(*rest) }));
        let refusals = refusals.into_iter().map(|(key, Refusal(wallets))| {
            let rests = wallets.into_iter();
            let wallets =
                rests.map(|(wallet, rest)| (wallet.label().to_owned(), rest.map(to_millis))).collect();
            SavedRefusal { key, wallets }
        });
        Self {
            version: VERSION,
            saved_unix_ms: now.as_millis(),
            paused_accounts: accounts.take(ENTRIES_MAX).collect(),
            paused_keys: keys.take(ENTRIES_MAX).collect(),
            prices: pauses.anyone.as_ref().map(saved_pause),
            all_accounts_ms: pauses.all.map(to_millis),
            refused_keys: refusals.take(ENTRIES_MAX).collect(),
        }
    }

    /// The pauses that are still active `age` after saving. `pairs` are the key pairs of this process.
    fn pauses(&self, age: Duration, pairs: &[&KeyPair]) -> ActivePauses {
        let rest = |millis: u64| rest(millis, age, PAUSE_MAX);
        let pause = |saved: SavedPause| {
            let since_reply =
                saved.since_reply_ms.map(|time| Duration::from_millis(time).saturating_add(age));
            Some(ActivePause { since_reply, rest: rest(saved.rest_ms)? })
        };
        let accounts = self.paused_accounts.iter();
        let keys = self.paused_keys.iter().filter_map(|saved| {
            let pair = pairs.iter().find(|pair| pair.pair_id() == saved.key)?;
            Some((pair.id(), rest(saved.rest_ms)?))
        });
        ActivePauses {
            accounts: accounts
                .filter_map(|saved| Some((saved.account.clone(), pause(saved.pause)?)))
                .collect(),
            anyone: self.prices.and_then(pause),
            keys: keys.collect(),
            all: self.all_accounts_ms.and_then(rest),
        }
    }

    /// The refusals that still block a key `age` after saving.
    fn refusals(&self, age: Duration) -> Vec<(PairId, Refusal)> {
        let wallet = |label: &str| Wallet::ALL.into_iter().find(|wallet| wallet.label() == label);
        let refusal = |saved: &SavedRefusal| {
            let wallets = saved.wallets.iter().filter_map(|(label, millis)| {
                let rest = match millis {
                    Some(millis) => Some(rest(*millis, age, RETRY_AFTER)?),
                    None => None,
                };
                Some((wallet(label)?, rest))
            });
            (saved.key, Refusal(wallets.collect()))
        };
        let refusals = self.refused_keys.iter().map(refusal);
        refusals.filter(|(_, Refusal(wallets))| wallets.iter().any(|(_, rest)| rest.is_some())).collect()
    }
}

/// The rest of `millis` after `age`, at most `longest`; `None` if nothing is left.
fn rest(millis: u64, age: Duration, longest: Duration) -> Option<Duration> {
    let rest = Duration::from_millis(millis).min(longest).saturating_sub(age);
    (!rest.is_zero()).then_some(rest)
}

/// Rounds up, so that a pause never ends early.
fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Client {
    /// The pauses and refused keys that a restart must not forget.
    #[must_use]
    pub fn save_limits(&self) -> SavedLimits {
        let now = self.clock.now();
        let pauses = self.rate_limiter.active_pauses();
        let refusals = self.auth_backoff().refusals(now.monotonic);
        let pairs = self.last_sent_keys().values().map(|pair| (pair.id(), pair.pair_id())).collect();
        SavedLimits::new(&pauses, refusals, &pairs, now.unix)
    }

    /// Restores what an earlier process `saved`, for accounts with the key pairs `pairs`. Call it before the first poll.
    /// Returns the numbers of paused accounts and of refused keys.
    pub fn restore_limits(&self, saved: &SavedLimits, pairs: &[&KeyPair]) -> (usize, usize) {
        let now = self.clock.now();
        let age = saved.age(now.unix).unwrap_or_default();
        let pauses = saved.pauses(age, pairs);
        let mut refusals = saved.refusals(age);
        refusals.retain(|(key, _)| pairs.iter().any(|pair| pair.pair_id() == *key));
        let counts = (pauses.accounts.len(), refusals.len());
        self.rate_limiter.restore_pauses(pauses);
        self.auth_backoff().restore(refusals, now.monotonic);
        counts
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        clock::{Clock, MonotonicTime},
        exchange::{auth_backoff::AuthBackoff, pauses::Caller, secret::Secret},
    };

    const SAVED: UnixTime = UnixTime::from_secs(1_700_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn pair(access: &str, secret: &str) -> KeyPair {
        let half =
            |text: &str| Secret::new(&Zeroizing::new(text.to_owned())).unwrap_or_else(|why| panic!("{why}"));
        KeyPair::new(half(access), half(secret))
    }

    /// A file with a pause of ten minutes, a pause of prices, and a refused key.
    fn saved(key: &KeyPair) -> SavedLimits {
        let pause = ActivePause { since_reply: Some(Duration::ZERO), rest: 10 * MINUTE };
        let pauses = ActivePauses {
            accounts: vec![("main".into(), pause)],
            anyone: Some(pause),
            keys: vec![(key.id(), 10 * MINUTE), (pair("unknown", "s").id(), MINUTE)],
            all: None,
        };
        let refusal = Refusal(vec![(Wallet::Spot, None), (Wallet::Fiat, Some(5 * MINUTE))]);
        let pairs = HashMap::from([(key.id(), key.pair_id())]);
        SavedLimits::new(&pauses, vec![(key.pair_id(), refusal)], &pairs, SAVED)
    }

    fn read_again(saved: &SavedLimits) -> SavedLimits {
        SavedLimits::from_json(&saved.to_json()).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn a_file_gives_back_what_is_left_and_nothing_after_the_end() {
        let key = pair("visible-access", "visible-secret");
        let saved = saved(&key);
        let text = String::from_utf8(saved.to_json()).unwrap_or_default();
        assert!(!text.contains("visible"), "{text}");
        let saved = read_again(&saved);

        let later = saved.age(SAVED + 3 * MINUTE).unwrap_or_default();
        let pauses = saved.pauses(later, &[&key]);
        let expected = ActivePause { since_reply: Some(3 * MINUTE), rest: 7 * MINUTE };
        assert_eq!(pauses.accounts, [("main".into(), expected)]);
        assert_eq!((pauses.anyone, pauses.keys), (Some(expected), vec![(key.id(), 7 * MINUTE)]));
        let refusal = Refusal(vec![(Wallet::Fiat, Some(2 * MINUTE)), (Wallet::Spot, None)]);
        assert_eq!(saved.refusals(later), [(key.pair_id(), refusal)]);

        assert!(saved.pauses(later, &[&pair("visible-access", "other")]).keys.is_empty(), "another secret");
        assert_eq!(saved.pauses(10 * MINUTE, &[&key]), ActivePauses::default());
        assert_eq!(saved.refusals(5 * MINUTE), [], "a key that works for a wallet is no refusal");
    }

    #[test]
    fn a_clock_that_jumped_neither_prolongs_a_pause_nor_fails() {
        let key = pair("a", "s");
        let client = |unix| {
            let saved = saved(&key);
            (saved.age(unix), saved.pauses(saved.age(unix).unwrap_or_default(), &[&key]).accounts.len())
        };
        assert_eq!(client(UnixTime::EPOCH), (None, 1));
        assert_eq!(client(UnixTime::from_secs(4_000_000_000)).1, 0);
        let mut absurd = saved(&key);
        for account in &mut absurd.paused_accounts {
            account.pause.rest_ms = u64::MAX;
        }
        for refusal in &mut absurd.refused_keys {
            refusal.wallets.insert("spot".to_owned(), Some(u64::MAX));
        }
        let rests = read_again(&absurd).pauses(Duration::ZERO, &[]).accounts;
        assert!(rests.iter().all(|(_, pause)| pause.rest == PAUSE_MAX), "{rests:?}");
        let refusals = absurd.refusals(Duration::ZERO);
        let mut rests = refusals.iter().flat_map(|(_, Refusal(wallets))| wallets);
        assert!(rests.all(|(_, rest)| *rest == Some(RETRY_AFTER)), "{refusals:?}");
    }

    #[test]
    fn a_broken_file_is_an_error_that_repeats_nothing() {
        let good = String::from_utf8(saved(&pair("a", "s")).to_json()).unwrap_or_default();
        let other_version = good.replace("\"version\": 1", "\"version\": 2");
        let unknown_field = good.replace("\"prices\"", "\"sekret\"");
        for text in ["", "{}", "sekret", &*other_version, &*unknown_field, &good[..good.len() / 2]] {
            let error = SavedLimits::from_json(text.as_bytes()).err().unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("sekret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_has_a_bounded_size() {
        let name = |number: usize| format!("{number}{}", "\u{1}".repeat(60)).into_boxed_str();
        let keys: Vec<_> = (0..2 * ENTRIES_MAX).map(|number| pair(&number.to_string(), "s")).collect();
        let pause = ActivePause { since_reply: Some(MINUTE), rest: PAUSE_MAX };
        let pauses = ActivePauses {
            accounts: (0..2 * ENTRIES_MAX).map(|number| (name(number), pause)).collect(),
            keys: keys.iter().map(|key| (key.id(), PAUSE_MAX)).collect(),
            ..ActivePauses::default()
        };
        let wallets: Vec<_> = Wallet::ALL.into_iter().map(|wallet| (wallet, Some(RETRY_AFTER))).collect();
        let refusals = keys.iter().map(|key| (key.pair_id(), Refusal(wallets.clone()))).collect();
        let pairs = keys.iter().map(|key| (key.id(), key.pair_id())).collect();
        let saved = SavedLimits::new(&pauses, refusals, &pairs, SAVED);
        let size = saved.to_json().len() as u64;
        assert!(size > SAVED_LIMITS_MAX_BYTES / 4 && size < SAVED_LIMITS_MAX_BYTES, "{size}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_client_keeps_a_pause_and_a_refusal_but_not_that_of_another_key() -> Result<(), String> {
        let (clock, key) = (Clock::start(), pair("a", "s"));
        let old = Client::simulated(clock)?;
        old.last_sent_keys().insert("main".into(), key.clone());
        let caller = Caller::Account { key: key.id(), name: "main" };
        old.rate_limiter.record_limit_reply(caller, None);
        old.auth_backoff().record(key.pair_id(), Wallet::Spot, false, clock.now().monotonic);
        let saved = read_again(&old.save_limits());

        let new = Client::simulated(clock)?;
        assert_eq!(new.restore_limits(&saved, &[&key]), (1, 1));
        assert!(new.rate_limiter.pause(caller).is_some());
        let blocked =
            |backoff: &AuthBackoff, key: &KeyPair| backoff.blocked_until(key.pair_id(), Wallet::Spot);
        assert!(blocked(&new.auth_backoff(), &key).is_some_and(|until| until > MonotonicTime::START));

        let (new, other) = (Client::simulated(clock)?, pair("b", "s"));
        assert_eq!(new.restore_limits(&saved, &[&other]), (1, 0));
        assert!(
            blocked(&new.auth_backoff(), &other).is_none() && blocked(&new.auth_backoff(), &key).is_none()
        );
        Ok(())
    }
}
