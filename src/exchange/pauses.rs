//! The pauses after limit replies: of an account and its key, and of all accounts of an address if the exchange limits that.
//! Pure: depends on no request and reads no clock.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{egress::DEFAULT_EGRESS, secret::KeyId};
use crate::clock::MonotonicTime;

/// The pause after a limit reply: as long as XT's lock.
pub(super) const PAUSE: Duration = Duration::from_mins(10);
/// The longest `Retry-After` that is respected.
pub(super) const PAUSE_MAX: Duration = Duration::from_hours(24);
/// If two accounts of one address get a limit reply within this time, the address is limited and all its accounts pause.
pub(super) const ADDRESS_LIMIT_WINDOW: Duration = Duration::from_mins(1);

/// The account that a call is made for, if any.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller<'a> {
    /// A call for an account, with its key.
    Account {
        /// The key.
        key: KeyId,
        /// The account's name.
        name: &'a str,
        /// The address that the call leaves by; see [`Egress`](super::Egress).
        address: &'a str,
    },
    /// A call without an account and a key, for prices, in the default egress group. The limits of keys do not apply to it.
    /// It pauses like one more account.
    Anyone,
}

impl<'a> Caller<'a> {
    pub(super) fn key(self) -> Option<KeyId> {
        match self {
            Self::Account { key, .. } => Some(key),
            Self::Anyone => None,
        }
    }

    /// The account's name.
    pub(super) fn name(self) -> Option<&'a str> {
        match self {
            Self::Account { name, .. } => Some(name),
            Self::Anyone => None,
        }
    }

    /// The address that the call leaves by.
    pub(super) fn address(self) -> &'a str {
        match self {
            Self::Account { address, .. } => address,
            Self::Anyone => DEFAULT_EGRESS,
        }
    }
}

/// The pause of an account: nothing is sent for it until the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paused {
    /// When the pause ends.
    pub until: MonotonicTime,
}

/// The pauses, by account and by key.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    accounts: BTreeMap<Box<str>, Pause>,
    /// The pause of calls without an account.
    anyone: Option<Pause>,
    /// Two accounts with the same key count as one.
    keys: HashMap<KeyId, MonotonicTime>,
    /// The end of the last pause of all accounts of an address.
    addresses: BTreeMap<Box<str>, MonotonicTime>,
}

#[derive(Debug)]
pub(super) struct Pause {
    /// The last limit reply; `None` if it was so long before the start of this process that no other reply can meet it
    /// within [`ADDRESS_LIMIT_WINDOW`].
    replied: Option<MonotonicTime>,
    /// The address of the call that got the last limit reply; `None` if that was in an earlier process or before a change of
    /// the egress groups, and may have been any address.
    address: Option<Box<str>>,
    until: MonotonicTime,
}

/// What a restart must know of the active pauses, in times before and after now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ActivePauses {
    pub accounts: Vec<(Box<str>, ActivePause)>,
    pub anyone: Option<ActivePause>,
    pub keys: Vec<(KeyId, Duration)>,
    /// The rest of the pause of all accounts of an address; zero if they are not paused.
    pub addresses: Vec<(Box<str>, Duration)>,
}

/// An active pause, in times before and after now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ActivePause {
    /// The time since the last limit reply; `None` if that is long ago.
    pub since_reply: Option<Duration>,
    /// The time until its end.
    pub rest: Duration,
}

impl Pauses {
    pub(super) fn record_limit_reply(&mut self, caller: Caller<'_>, now: MonotonicTime, length: Duration) {
        let until = now + length;
        let recent = |pause: &Pause| {
            let is_same = pause.address.as_deref().is_none_or(|address| address == caller.address());
            let since_reply = pause.replied.map(|replied| now.saturating_duration_since(replied));
            is_same && since_reply.is_some_and(|time| time <= ADDRESS_LIMIT_WINDOW)
        };
        let accounts = self.accounts.iter().map(|(name, pause)| (Some(&**name), pause));
        let mut all = accounts.chain(self.anyone.iter().map(|pause| (None, pause)));
        if all.any(|(name, pause)| name != caller.name() && recent(pause)) {
            self.pause_address(caller.address(), until);
        }
        let pause = self.pause_caller(caller, until);
        pause.replied = Some(now);
        pause.address = Some(caller.address().into());
        if let Some(key) = caller.key() {
            self.pause_key(key, until);
        }
    }

    /// Pauses the account of `caller` alone until then.
    pub(super) fn pause_caller(&mut self, caller: Caller<'_>, until: MonotonicTime) -> &mut Pause {
        let new = Pause { replied: None, address: None, until };
        let pause = match caller.name() {
            Some(name) => self.accounts.entry(name.into()).or_insert(new),
            None => self.anyone.get_or_insert(new),
        };
        pause.until = pause.until.max(until);
        pause
    }

    pub(super) fn active(&self, caller: Caller<'_>, now: MonotonicTime) -> Option<Paused> {
        let own = match caller.name() {
            Some(name) => self.accounts.get(name),
            None => self.anyone.as_ref(),
        };
        let own = own.map(|pause| pause.until);
        let of_key = caller.key().and_then(|key| self.keys.get(&key)).copied();
        let of_address = self.addresses.get(caller.address()).copied();
        let until = own.max(of_key).max(of_address)?;
        (until > now).then_some(Paused { until })
    }

    /// When the own pause of an account ends or ended.
    pub(super) fn account_pause(&self, name: &str) -> Option<MonotonicTime> {
        self.accounts.get(name).map(|pause| pause.until)
    }

    /// All active pauses.
    pub(super) fn all_active(&self, now: MonotonicTime) -> ActivePauses {
        let rest =
            |until: MonotonicTime| Some(until.saturating_duration_since(now)).filter(|rest| !rest.is_zero());
        let active = |pause: &Pause| {
            let since_reply = pause.replied.map(|replied| now.saturating_duration_since(replied));
            Some(ActivePause { since_reply, rest: rest(pause.until)? })
        };
        let accounts = self.accounts.iter().filter_map(|(name, pause)| Some((name.clone(), active(pause)?)));
        let addresses = self.addresses.iter();
        ActivePauses {
            accounts: accounts.collect(),
            anyone: self.anyone.as_ref().and_then(active),
            keys: self.keys.iter().filter_map(|(key, until)| Some((*key, rest(*until)?))).collect(),
            addresses: addresses
                .filter_map(|(address, until)| Some((address.clone(), rest(*until)?)))
                .collect(),
        }
    }

    /// Adds the pauses of an earlier process. Call it before the first limit reply.
    pub(super) fn restore(&mut self, saved: ActivePauses, now: MonotonicTime) {
        let pause = |saved: ActivePause| {
            // A time before the start of this process has no representation. The start is later, so the window lasts
            // longer than needed, by at most its length.
            let is_recent = saved.since_reply.is_some_and(|time| time <= ADDRESS_LIMIT_WINDOW);
            Pause { replied: is_recent.then_some(now), address: None, until: now + saved.rest.min(PAUSE_MAX) }
        };
        for (name, saved) in saved.accounts {
            self.accounts.entry(name).or_insert_with(|| pause(saved));
        }
        if let Some(saved) = saved.anyone {
            self.anyone.get_or_insert_with(|| pause(saved));
        }
        for (key, rest) in saved.keys {
            self.pause_key(key, now + rest.min(PAUSE_MAX));
        }
        for (address, rest) in saved.addresses {
            self.pause_address(&address, now + rest.min(PAUSE_MAX));
        }
    }

    /// Gives the pauses of `removed` addresses to the default group, and the pause of the default group to `added` addresses.
    /// A recent limit reply to a call from one of these may then count for any address. No pause ends later than it did.
    pub(super) fn carry_over(&mut self, removed: &[&str], added: &[&str]) {
        for address in removed {
            if let Some(until) = self.addresses.remove(*address) {
                self.pause_address(DEFAULT_EGRESS, until);
            }
        }
        if let Some(until) = self.addresses.get(DEFAULT_EGRESS).copied() {
            for address in added {
                self.pause_address(address, until);
            }
        }
        let is_uncertain =
            |address: &str| removed.contains(&address) || (!added.is_empty() && address == DEFAULT_EGRESS);
        for pause in self.accounts.values_mut().chain(&mut self.anyone) {
            pause.address = pause.address.take().filter(|address| !is_uncertain(address));
        }
    }

    fn pause_address(&mut self, address: &str, until: MonotonicTime) {
        let of_address = self.addresses.entry(address.into()).or_insert(until);
        *of_address = until.max(*of_address);
    }

    fn pause_key(&mut self, key: KeyId, until: MonotonicTime) {
        let of_key = self.keys.entry(key).or_insert(until);
        *of_key = until.max(*of_key);
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::exchange::secret::{KeyPair, Secret};

    const START: MonotonicTime = MonotonicTime::START;
    const MINUTE: Duration = Duration::from_mins(1);

    fn caller<'a>(key: &str, name: &'a str) -> Caller<'a> {
        let secret = |text: &str| Secret::new(&Zeroizing::new(text.to_owned())).ok();
        let pair = secret(key).zip(secret("s")).map(|(access, secret)| KeyPair::new(access, secret).id());
        Caller::Account { key: pair.unwrap_or_else(|| panic!("{key}")), name, address: DEFAULT_EGRESS }
    }

    #[test]
    fn a_limited_address_pauses_its_own_accounts_and_no_others() {
        let from = |address: &'static str, name: &'static str| match caller(name, name) {
            Caller::Account { key, name, .. } => Caller::Account { key, name, address },
            Caller::Anyone => Caller::Anyone,
        };
        let mut pauses = Pauses::default();
        pauses.record_limit_reply(from("192.0.2.1", "a"), START, PAUSE);
        pauses.record_limit_reply(from("192.0.2.2", "b"), START, PAUSE);
        let is_paused = |pauses: &Pauses, caller| pauses.active(caller, START + MINUTE).is_some();
        assert!(!is_paused(&pauses, from("192.0.2.1", "c")) && !is_paused(&pauses, from("192.0.2.2", "c")));
        pauses.record_limit_reply(from("192.0.2.1", "d"), START, PAUSE);
        assert!(is_paused(&pauses, from("192.0.2.1", "c")));
        assert!(!is_paused(&pauses, from("192.0.2.2", "c")) && !is_paused(&pauses, Caller::Anyone));
        assert!(
            is_paused(&pauses, from("192.0.2.3", "a")),
            "an account keeps its own pause in another group"
        );

        let mut restored = Pauses::default();
        restored.restore(pauses.all_active(START + MINUTE), START + MINUTE);
        assert!(
            is_paused(&restored, from("192.0.2.1", "c")) && !is_paused(&restored, from("192.0.2.2", "c"))
        );
        restored.record_limit_reply(from("192.0.2.9", "e"), START + MINUTE, PAUSE);
        assert!(
            is_paused(&restored, from("192.0.2.9", "f")),
            "an earlier reply may have come to any address"
        );
    }

    #[test]
    fn an_absurd_retry_after_is_limited_to_a_day() {
        let mut pauses = Pauses::default();
        pauses.record_limit_reply(caller("a", "a"), START, Duration::MAX.clamp(PAUSE, PAUSE_MAX));
        assert_eq!(pauses.active(caller("a", "a"), START), Some(Paused { until: START + PAUSE_MAX }));
        let mut restored = Pauses::default();
        let absurd = ActivePause { since_reply: None, rest: Duration::MAX };
        let saved = ActivePauses {
            anyone: Some(absurd),
            addresses: vec![(DEFAULT_EGRESS.into(), Duration::MAX)],
            ..ActivePauses::default()
        };
        restored.restore(saved, START);
        assert_eq!(restored.active(Caller::Anyone, START), Some(Paused { until: START + PAUSE_MAX }));
    }

    #[test]
    fn a_new_process_continues_the_pauses_of_the_last_one() {
        let mut old = Pauses::default();
        old.record_limit_reply(caller("a", "a"), START + 5 * MINUTE, PAUSE);
        old.record_limit_reply(Caller::Anyone, START + 6 * MINUTE, PAUSE);
        let mut new = Pauses::default();
        new.restore(old.all_active(START + 7 * MINUTE), START);
        let until = |paused| new.active(paused, START).map(|paused| paused.until);
        assert_eq!(
            until(caller("other", "a")),
            Some(START + 9 * MINUTE),
            "all, because two replied within a minute"
        );
        assert_eq!(until(caller("c", "c")), Some(START + 9 * MINUTE));

        let mut old = Pauses::default();
        old.record_limit_reply(caller("a", "a"), START + MINUTE, PAUSE);
        let mut new = Pauses::default();
        new.restore(old.all_active(START + 2 * MINUTE), START);
        let is_paused = |pauses: &Pauses, paused| pauses.active(paused, START + MINUTE).is_some();
        assert!(is_paused(&new, caller("other", "a")), "the account");
        assert!(is_paused(&new, caller("a", "other")), "the key");
        assert!(!is_paused(&new, caller("b", "b")));
        new.record_limit_reply(caller("b", "b"), START + MINUTE, PAUSE);
        assert!(is_paused(&new, caller("c", "c")), "the reply before the restart counts for the address");

        let mut new = Pauses::default();
        new.restore(old.all_active(START + 3 * MINUTE), START);
        new.record_limit_reply(caller("b", "b"), START, PAUSE);
        assert!(!is_paused(&new, caller("c", "c")), "unless it is too long ago");
        assert_eq!(old.all_active(START + MINUTE + PAUSE), ActivePauses::default(), "a pause that is over");
    }
}
