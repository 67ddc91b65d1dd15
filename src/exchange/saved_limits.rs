//! Saved pauses and refused keys, which a restart must not forget. As JSON, for a file.
//!
//! A paused key is identified by its [`KeyId`], a SHA-256 of the access key: limits belong to the access key, so the pause
//! stays if only the secret key changes. A refused key is identified by its [`PairId`], a SHA-256 of both halves: another
//! secret key may work. No key can be found out from its hash, because keys are too long to guess. A reader of the file who
//! has a list of access keys can find out which of them are paused.
//!
//! Everything is restored, also for accounts and keys that this process does not know yet: a reload may add them.
//!
//! The file can only keep times of the wall clock, which may jump. So it has the time at which it was saved, and durations
//! from there. If the clock was set back, a pause lasts as long as at that time, and if it was set forward, the pause ends
//! early.
//! Pure: reads no file and no clock.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    auth_backoff::{RETRY_AFTER, Refusal},
    balance::Wallet,
    client::Client,
    egress::DEFAULT_EGRESS,
    pauses::{ActivePause, ActivePauses, PAUSE_MAX},
    secret::{KeyId, PairId},
};
use crate::clock::UnixTime;

/// The format of the file.
const VERSION: u32 = 1;
/// The most paused accounts, paused keys and refused keys that are saved: of more, those with the longest rest. One egress
/// group cannot have more refused keys, because each takes a call, and the rate limiter permits fewer calls in the five
/// minutes that a refusal lasts. It cannot have more paused accounts, because limit replies to two of its accounts within a
/// minute pause the group as a whole, and the longest pause is a day.
const ENTRIES_MAX: usize = 5_000;
/// More than the size of a file with the most entries.
pub const SAVED_LIMITS_MAX_BYTES: u64 = 4 * 1024 * 1024;

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
    /// The rest of the pause of all accounts of the default egress group.
    all_accounts_ms: Option<u64>,
    /// The pauses of all accounts of the other addresses of egress groups, also of those that are not paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paused_addresses: Vec<SavedAddress>,
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
    key: KeyId,
    rest_ms: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedAddress {
    address: Box<str>,
    /// 0 if it is not paused.
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
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The time from saving to `now`; `None` if the wall clock was set back.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Option<Duration> {
        now.as_millis().checked_sub(self.saved_unix_ms).map(Duration::from_millis)
    }

    fn new(mut pauses: ActivePauses, mut refusals: Vec<(PairId, Refusal)>, now: UnixTime) -> Self {
        // Sorted, so that the same limits always give the same file.
        pauses.accounts.sort_by_cached_key(|(account, pause)| (Reverse(pause.rest), account.clone()));
        pauses.keys.sort_by_key(|(key, rest)| (Reverse(*rest), *key));
        refusals.sort_by_cached_key(|(key, refusal)| (Reverse(refusal.rest()), *key));
        let saved_pause = |pause: ActivePause| SavedPause {
            since_reply_ms: pause.since_reply.map(to_millis),
            rest_ms: to_millis(pause.rest),
        };
        let accounts = pauses.accounts.into_iter().take(ENTRIES_MAX);
        let keys = pauses.keys.into_iter().take(ENTRIES_MAX);
        let refusals = refusals.into_iter().take(ENTRIES_MAX).map(|(key, Refusal(wallets))| {
            let rests = wallets.into_iter();
            let wallets =
                rests.map(|(wallet, rest)| (wallet.label().to_owned(), rest.map(to_millis))).collect();
            SavedRefusal { key, wallets }
        });
        let is_default = |(address, _): &(Box<str>, Duration)| **address == *DEFAULT_EGRESS;
        let all_accounts = pauses.addresses.iter().find(|pause| is_default(pause));
        let all_accounts = all_accounts.map(|(_, rest)| to_millis(*rest)).filter(|rest| *rest > 0);
        pauses.addresses.retain(|pause| !is_default(pause));
        let addresses = pauses.addresses.into_iter().take(ENTRIES_MAX);
        let addresses = addresses.map(|(address, rest)| SavedAddress { address, rest_ms: to_millis(rest) });
        let addresses = addresses.collect();
        Self {
            version: VERSION,
            saved_unix_ms: now.as_millis(),
            paused_accounts: accounts
                .map(|(account, pause)| SavedAccount { account, pause: saved_pause(pause) })
                .collect(),
            paused_keys: keys.map(|(key, rest)| SavedKey { key, rest_ms: to_millis(rest) }).collect(),
            prices: pauses.anyone.map(saved_pause),
            all_accounts_ms: all_accounts,
            paused_addresses: addresses,
            refused_keys: refusals.collect(),
        }
    }

    /// The pauses that are still active `age` after saving.
    fn pauses(&self, age: Duration) -> ActivePauses {
        let rest = |millis: u64| rest(millis, age, PAUSE_MAX);
        let pause = |saved: SavedPause| {
            let since_reply =
                saved.since_reply_ms.map(|time| Duration::from_millis(time).saturating_add(age));
            Some(ActivePause { since_reply, rest: rest(saved.rest_ms)? })
        };
        let accounts = self.paused_accounts.iter();
        let keys = self.paused_keys.iter();
        let all_accounts = self.all_accounts_ms.and_then(rest).map(|rest| (DEFAULT_EGRESS.into(), rest));
        let addresses = self.paused_addresses.iter();
        let addresses =
            addresses.map(|saved| (saved.address.clone(), rest(saved.rest_ms).unwrap_or_default()));
        let addresses = addresses.chain(all_accounts);
        ActivePauses {
            accounts: accounts
                .filter_map(|saved| Some((saved.account.clone(), pause(saved.pause)?)))
                .collect(),
            anyone: self.prices.and_then(pause),
            keys: keys.filter_map(|saved| Some((saved.key, rest(saved.rest_ms)?))).collect(),
            addresses: addresses.collect(),
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
        let pauses = self.limits.rate_limiter.active_pauses();
        let refusals = self.limits.auth_backoff().refusals(now.monotonic);
        SavedLimits::new(pauses, refusals, now.unix)
    }

    /// Restores what an earlier process `saved`. Call it after
    /// [`set_egress`](Self::set_egress) and before the first poll. Returns the numbers of paused accounts and
    /// of refused keys.
    pub fn restore_limits(&self, saved: &SavedLimits) -> (usize, usize) {
        let now = self.clock.now();
        let age = saved.age(now.unix).unwrap_or_default();
        let (pauses, refusals) = (saved.pauses(age), saved.refusals(age));
        let counts = (pauses.accounts.len(), refusals.len());
        self.limits.rate_limiter.restore_pauses(pauses);
        self.limits.auth_backoff().restore(refusals, now.monotonic);
        counts
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        clock::{Clock, MonotonicTime},
        exchange::{
            pauses::{ADDRESS_LIMIT_WINDOW, Caller},
            secret::{KeyPair, Secret},
            share::ADDRESS_CALLS_PER_MINUTE,
        },
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
            keys: vec![(key.id(), 10 * MINUTE)],
            addresses: Vec::new(),
        };
        let refusal = Refusal(vec![(Wallet::Spot, None), (Wallet::Fiat, Some(5 * MINUTE))]);
        SavedLimits::new(pauses, vec![(key.pair_id(), refusal)], SAVED)
    }

    fn read_again(saved: &SavedLimits) -> SavedLimits {
        SavedLimits::from_json(&saved.to_json()).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn the_pause_of_each_address_is_restored() {
        let addresses = vec![(DEFAULT_EGRESS.into(), 9 * MINUTE), ("192.0.2.1".into(), 4 * MINUTE)];
        let pauses = ActivePauses { addresses, ..ActivePauses::default() };
        let saved = read_again(&SavedLimits::new(pauses, Vec::new(), SAVED));
        let left = |age| {
            let mut addresses = saved.pauses(age).addresses;
            addresses.sort_unstable();
            addresses
        };
        let default = |rest| (Box::from(DEFAULT_EGRESS), rest);
        assert_eq!(left(3 * MINUTE), [("192.0.2.1".into(), MINUTE), default(6 * MINUTE)]);
        assert_eq!(left(5 * MINUTE), [("192.0.2.1".into(), Duration::ZERO), default(4 * MINUTE)]);
        let pauses = ActivePauses { addresses: vec![default(MINUTE)], ..ActivePauses::default() };
        let text =
            String::from_utf8(SavedLimits::new(pauses, Vec::new(), SAVED).to_json()).unwrap_or_default();
        assert!(!text.contains("address"), "a version without egress groups can read it: {text}");
    }

    #[test]
    fn a_file_gives_back_what_is_left_and_nothing_after_the_end() {
        let key = pair("visible-access", "visible-secret");
        let saved = saved(&key);
        let text = String::from_utf8(saved.to_json()).unwrap_or_default();
        assert!(!text.contains("visible"), "{text}");
        let saved = read_again(&saved);

        let later = saved.age(SAVED + 3 * MINUTE).unwrap_or_default();
        let pauses = saved.pauses(later);
        let expected = ActivePause { since_reply: Some(3 * MINUTE), rest: 7 * MINUTE };
        assert_eq!(pauses.accounts, [("main".into(), expected)]);
        assert_eq!((pauses.anyone, pauses.keys), (Some(expected), vec![(key.id(), 7 * MINUTE)]));
        let refusal = Refusal(vec![(Wallet::Fiat, Some(2 * MINUTE)), (Wallet::Spot, None)]);
        assert_eq!(saved.refusals(later), [(key.pair_id(), refusal)]);

        assert_eq!(saved.pauses(10 * MINUTE), ActivePauses::default());
        assert_eq!(saved.refusals(5 * MINUTE), [], "a key that works for a wallet is no refusal");
    }

    #[test]
    fn a_clock_that_jumped_neither_prolongs_a_pause_nor_fails() {
        let key = pair("a", "s");
        let client = |unix| {
            let saved = saved(&key);
            (saved.age(unix), saved.pauses(saved.age(unix).unwrap_or_default()).accounts.len())
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
        let rests = read_again(&absurd).pauses(Duration::ZERO).accounts;
        assert!(rests.iter().all(|(_, pause)| pause.rest == PAUSE_MAX), "{rests:?}");
        let refusals = absurd.refusals(Duration::ZERO);
        let mut rests = refusals.iter().flat_map(|(_, Refusal(wallets))| wallets);
        assert!(rests.all(|(_, rest)| *rest == Some(RETRY_AFTER)), "{refusals:?}");
    }

    #[test]
    fn a_broken_file_is_an_error_that_repeats_nothing() {
        let good = String::from_utf8(saved(&pair("a", "s")).to_json()).unwrap_or_default();
        let other_version = good.replace("\"version\":1", "\"version\":2");
        let unknown_field = good.replace("\"prices\"", "\"sekret\"");
        for text in ["", "{}", "sekret", &*other_version, &*unknown_field, &good[..good.len() / 2]] {
            let error = SavedLimits::from_json(text.as_bytes()).err().unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("sekret"), "{text}: {error}");
        }
    }

    #[test]
    fn of_too_many_entries_those_with_the_longest_rest_are_kept_and_the_file_stays_small() {
        let name = |number: usize| format!("{number:05}{}", "\"".repeat(59)).into_boxed_str();
        let numbers = 0..2 * ENTRIES_MAX;
        let keys: Vec<_> = numbers.clone().map(|number| pair(&number.to_string(), "s")).collect();
        let rest = |number: usize| {
            RETRY_AFTER.saturating_sub(Duration::from_millis(u64::try_from(number).unwrap_or(0)))
        };
        let pause = |number| ActivePause { since_reply: Some(MINUTE), rest: rest(number) };
        let limits = |order: &dyn Fn(usize) -> usize| {
            let pauses = ActivePauses {
                accounts: numbers.clone().map(order).map(|number| (name(number), pause(number))).collect(),
                keys: keys.iter().enumerate().map(|(number, key)| (key.id(), pause(number).rest)).collect(),
                ..ActivePauses::default()
            };
            let wallets = |number| Wallet::ALL.into_iter().map(move |wallet| (wallet, Some(rest(number))));
            let refusals = numbers
                .clone()
                .map(order)
                .filter_map(|number| Some((keys.get(number)?.pair_id(), Refusal(wallets(number).collect()))));
            SavedLimits::new(pauses, refusals.collect(), SAVED).to_json()
        };
        let json = limits(&|number| number);
        assert_eq!(json, limits(&|number| 2 * ENTRIES_MAX - 1 - number), "whatever their order");
        let size = json.len() as u64;
        assert!(size > SAVED_LIMITS_MAX_BYTES / 4 && size < SAVED_LIMITS_MAX_BYTES, "{size}");
        let saved = SavedLimits::from_json(&json).unwrap_or_else(|why| panic!("{why}"));
        let longest = |number: usize| number < ENTRIES_MAX;
        let accounts = saved.pauses(Duration::ZERO).accounts;
        assert!(
            numbers
                .clone()
                .filter(|number| longest(*number))
                .map(name)
                .eq(accounts.into_iter().map(|(name, _)| name))
        );
        let refused: Vec<_> = saved.refusals(Duration::ZERO).into_iter().map(|(key, _)| key).collect();
        let expected: Vec<_> = keys.iter().take(ENTRIES_MAX).map(KeyPair::pair_id).collect();
        assert_eq!(refused, expected);
    }

    #[test]
    fn every_key_that_can_be_refused_at_once_is_saved() {
        // The calls of five minutes, and of the minute in which they begin.
        let minutes = usize::try_from(RETRY_AFTER.as_secs() / 60).unwrap_or(usize::MAX);
        assert!(ADDRESS_CALLS_PER_MINUTE * minutes <= ENTRIES_MAX);
        let pauses = PAUSE_MAX.as_secs() / ADDRESS_LIMIT_WINDOW.as_secs();
        assert!(usize::try_from(pauses).is_ok_and(|pauses| pauses <= ENTRIES_MAX));
    }

    /// A new process that restores `saved`.
    fn restart(saved: &SavedLimits, clock: Clock) -> Result<Client, String> {
        let client = Client::simulated(clock)?;
        client.restore_limits(&read_again(saved));
        Ok(client)
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_keeps_a_pause_and_a_refusal_and_so_does_the_next_one() -> Result<(), String> {
        let (clock, key) = (Clock::start(), pair("a", "s"));
        let old = Client::simulated(clock)?;
        let caller = Caller::Account { key: key.id(), name: "main", address: DEFAULT_EGRESS };
        old.limits.rate_limiter.record_limit_reply(caller, None);
        old.limits.auth_backoff().record(key.pair_id(), Wallet::Spot, false, clock.now().monotonic);
        let saved = read_again(&old.save_limits());
        assert_eq!(Client::simulated(clock)?.restore_limits(&saved), (1, 1));

        // Nothing is sent in between, so the second restart knows only what the first one restored.
        let first = restart(&saved, clock)?;
        for new in [restart(&first.save_limits(), clock)?, first] {
            let pause = |key: &KeyPair, name| {
                new.limits
                    .rate_limiter
                    .pause(Caller::Account { key: key.id(), name, address: DEFAULT_EGRESS })
                    .is_some()
            };
            assert!(pause(&key, "main") && pause(&pair("b", "s"), "main"), "the account, whatever its key");
            assert!(pause(&key, "renamed"), "the key, whatever the account");
            assert!(pause(&pair("a", "other"), "renamed"), "limits belong to the access key");
            assert!(!pause(&pair("b", "s"), "other"));
            let is_refused = |key: &KeyPair| {
                let until = new.limits.auth_backoff().blocked_until(key.pair_id(), Wallet::Spot);
                until.is_some_and(|until| until > MonotonicTime::START)
            };
            assert!(is_refused(&key) && !is_refused(&pair("a", "other")));
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_starts_a_pause_again_only_once() -> Result<(), String> {
        let (clock, key) = (Clock::start(), pair("a", "s"));
        let future = SavedLimits { saved_unix_ms: u64::MAX, ..saved(&key) };
        let again = restart(&future, clock)?.save_limits();
        assert!(again.age(clock.now().unix).is_some(), "what is saved then has an age");
        let rests = again.pauses(4 * MINUTE).accounts;
        assert!(rests.iter().all(|(_, pause)| pause.rest <= 6 * MINUTE) && rests.len() == 1, "{rests:?}");
        Ok(())
    }
}
