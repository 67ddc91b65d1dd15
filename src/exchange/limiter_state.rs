//! The state of the rate limiter: the calls that count against each limit. Pure: waits for nothing and reads no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    call_window::{Availability, CallWindow, WindowUsage},
    egress::{DEFAULT_EGRESS, Egress},
    pauses::{Caller, Pauses},
    secret::KeyId,
    share::{CallLimit, LimitShares},
};
use crate::clock::MonotonicTime;

#[derive(Debug)]
pub(super) struct State {
    pub shares: LimitShares,
    /// When a process that was killed just before this one may have ended its last calls.
    others_ended: Option<MonotonicTime>,
    /// The egress groups of the configuration, as name and address.
    groups: Vec<(Arc<str>, Arc<str>)>,
    /// By address. Those that the configuration has no more stay.
    addresses: BTreeMap<Box<str>, AddressState>,
    keys: HashMap<KeyId, KeyState>,
    /// By the name of the account; `None` for calls without one.
    callers: HashMap<Option<Box<str>>, CallerState>,
    pub pauses: Pauses,
}

/// The calls of one address.
#[derive(Debug)]
pub(super) struct AddressState {
    pub window: CallWindow,
    pace: CallWindow,
    /// The calls of other processes, which the other windows count too.
    lent: CallWindow,
    /// Calls wait for the address in the order of their arrival.
    pub queue: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(super) struct KeyState {
    pub window: CallWindow,
    /// The calls of other processes, which the other window counts too.
    lent: CallWindow,
    /// The address of its last call; `None` before the first.
    address: Option<Box<str>>,
    pub slot: Arc<tokio::sync::Mutex<KeySlot>>,
}

#[derive(Debug, Default)]
pub(super) struct CallerState {
    /// Each caller has one call in flight at a time.
    slot: Arc<tokio::sync::Mutex<()>>,
    /// The key of its last call.
    key: Option<KeyId>,
}

/// The state that calls with one key share: one call is in flight at a time, and the nonces for a host only grow.
#[derive(Debug, Default)]
pub(super) struct KeySlot {
    /// The last nonce sent to each host, unless it was released.
    pub nonces: HashMap<Box<str>, u64>,
}

impl State {
    /// State without calls. `others_ended` is when another process may have ended its last calls, if one may have made any.
    pub(super) fn new(shares: LimitShares, others_ended: Option<MonotonicTime>) -> Self {
        Self {
            shares,
            others_ended,
            groups: vec![(DEFAULT_EGRESS.into(), DEFAULT_EGRESS.into())],
            addresses: BTreeMap::new(),
            keys: HashMap::new(),
            callers: HashMap::new(),
            pauses: Pauses::default(),
        }
    }

    /// Replaces the egress groups. The exchange may already know the address of a new group: the default group may use it, or
    /// a group that was removed. So calls of removed groups count against the default group, and all of these against a new
    /// group.
    pub(super) fn set_egress(&mut self, groups: &[Egress], now: MonotonicTime) {
        let old = std::mem::take(&mut self.groups);
        let was_known = |address: &str| old.iter().any(|(_, known)| **known == *address);
        let is_known = |address: &str| groups.iter().any(|group| *group.address == *address);
        for (_, address) in old.iter().filter(|(_, address)| !is_known(address)) {
            let removed = self.address(address).window.clone();
            self.address(DEFAULT_EGRESS).window.count_calls_of(&removed, now);
        }
        let carried = self.address(DEFAULT_EGRESS).window.clone();
        for group in groups.iter().filter(|group| !was_known(&group.address)) {
            self.address(&group.address).window.count_calls_of(&carried, now);
        }
        self.groups =
            groups.iter().map(|group| (Arc::clone(&group.name), Arc::clone(&group.address))).collect();
    }

    /// The use of the address of each egress group, by the name of the group.
    pub(super) fn address_usage(&mut self, now: MonotonicTime) -> Vec<(Box<str>, WindowUsage)> {
        let groups = self.groups.clone();
        let usage = |(name, address): (Arc<str>, Arc<str>)| {
            (Box::from(&*name), self.address(&address).window.usage(now))
        };
        groups.into_iter().map(usage).collect()
    }

    pub(super) fn caller_slot(&mut self, caller: Caller<'_>) -> Arc<tokio::sync::Mutex<()>> {
        let state = self.callers.entry(caller.name().map(Into::into)).or_default();
        state.key = caller.key();
        Arc::clone(&state.slot)
    }

    pub(super) fn key_state(&mut self, key: KeyId) -> &mut KeyState {
        let (shares, others_ended) = (self.shares, self.others_ended);
        let new = || KeyState {
            window: new_window(shares.key_limit(), others_ended),
            lent: CallWindow::new(shares.for_others().key_limit()),
            address: None,
            slot: Arc::default(),
        };
        self.keys.entry(key).or_insert_with(new)
    }

    pub(super) fn address(&mut self, address: &str) -> &mut AddressState {
        let (shares, others_ended) = (self.shares, self.others_ended);
        self.addresses.entry(address.into()).or_insert_with(|| AddressState {
            window: CallWindow::new(shares.address_limit()),
            pace: new_window(shares.pace(), others_ended),
            lent: CallWindow::new(shares.for_others().address_limit()),
            queue: Arc::default(),
        })
    }

    pub(super) fn set_shares(&mut self, shares: LimitShares) {
        self.shares = shares;
        for address in self.addresses.values_mut() {
            address.window.set_limit(shares.address_limit());
            address.pace.set_limit(shares.pace());
            address.lent.set_limit(shares.for_others().address_limit());
        }
        for key in self.keys.values_mut() {
            key.window.set_limit(shares.key_limit());
            key.lent.set_limit(shares.for_others().key_limit());
        }
    }

    /// Counts a call for `caller` if there is room for it.
    pub(super) fn start_call(&mut self, caller: Caller<'_>, now: MonotonicTime) -> Availability {
        let key = caller.key();
        let of_key = key.map_or(Availability::Now, |key| self.key_state(key).window.availability(now));
        let address = self.address(caller.address());
        let availability = address.availability(now).max(of_key);
        if availability == Availability::Now {
            address.start(now);
            if let Some(key) = key {
                let key = self.key_state(key);
                key.window.start();
                if key.address.as_deref() != Some(caller.address()) {
                    key.address = Some(caller.address().into());
                }
            }
        }
        availability
    }

    /// Records the end of such a call.
    pub(super) fn end_call(&mut self, address: &str, key: Option<KeyId>, now: MonotonicTime) {
        self.address(address).window.end(now);
        if let Some(key) = key {
            self.key_state(key).window.end(now);
        }
    }

    /// Counts a call of another process if there is room for it, in the part of the limits that other processes may use.
    pub(super) fn start_lent_call(
        &mut self,
        address: &str,
        key: Option<KeyId>,
        now: MonotonicTime,
    ) -> Availability {
        let of_key = key.map_or(Availability::Now, |key| {
            let key = self.key_state(key);
            key.window.availability(now).max(key.lent.availability(now))
        });
        let address = self.address(address);
        let availability = address.availability(now).max(address.lent.availability(now)).max(of_key);
        if availability == Availability::Now {
            address.start(now);
            address.lent.start();
            if let Some(key) = key.map(|key| self.key_state(key)) {
                key.window.start();
                key.lent.start();
            }
        }
        availability
    }

    /// Records the end of a call of another process.
    pub(super) fn end_lent_call(&mut self, address: &str, key: Option<KeyId>, now: MonotonicTime) {
        self.end_call(address, key, now);
        self.address(address).lent.end(now);
        if let Some(key) = key {
            self.key_state(key).lent.end(now);
        }
    }

    /// The address that the last call with `key` left by.
    pub(super) fn key_address(&self, key: KeyId) -> Option<Box<str>> {
        self.keys.get(&key)?.address.clone()
    }

    /// Whether this process has made a call with `key`.
    pub(super) fn knows_key(&self, key: KeyId) -> bool {
        self.keys.contains_key(&key)
    }

    /// The use of the account's key.
    pub(super) fn key_usage(&mut self, account: &str, now: MonotonicTime) -> WindowUsage {
        let key = self.callers.get(&Some(account.into())).and_then(|caller| caller.key);
        match key.and_then(|key| self.keys.get_mut(&key)) {
            Some(key) => key.window.usage(now),
            None => WindowUsage { calls: 0, capacity: self.shares.key_limit().calls },
        }
    }
}

impl AddressState {
    pub(super) fn availability(&mut self, now: MonotonicTime) -> Availability {
        self.window.availability(now).max(self.pace.availability(now))
    }

    pub(super) fn start(&mut self, now: MonotonicTime) {
        self.window.start();
        self.pace.start();
        self.pace.end(now);
    }
}

/// A window that is full if the calls of another process ended at `others_ended`.
fn new_window(limit: CallLimit, others_ended: Option<MonotonicTime>) -> CallWindow {
    others_ended.map_or_else(|| CallWindow::new(limit), |ended| CallWindow::full(limit, ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::share::Share;

    const NOW: MonotonicTime = MonotonicTime::START;

    fn group(name: &str, address: &str) -> Egress {
        Egress { name: name.into(), address: address.into(), source_address: None }
    }

    fn make_calls(state: &mut State, address: &str, calls: usize) {
        for _ in 0..calls {
            state.address(address).window.start();
            state.address(address).window.end(NOW);
        }
    }

    fn usage(state: &mut State) -> Vec<(String, usize)> {
        let usage = state.address_usage(NOW);
        usage.into_iter().map(|(name, usage)| (name.into(), usage.calls)).collect()
    }

    fn expect(state: &mut State, expected: &[(&str, usize)]) {
        let expected: Vec<_> = expected.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect();
        assert_eq!(usage(state), expected);
    }

    #[test]
    fn the_calls_of_an_address_stay_counted_whatever_its_group_is_called() {
        let mut state = State::new(Share::ALL.into(), None);
        let default = Egress::default();
        expect(&mut state, &[("default", 0)]);
        state.set_egress(&[default.clone(), group("a", "192.0.2.1"), group("b", "192.0.2.2")], NOW);
        make_calls(&mut state, "default", 1);
        make_calls(&mut state, "192.0.2.1", 10);
        make_calls(&mut state, "192.0.2.2", 200);
        expect(&mut state, &[("default", 1), ("a", 10), ("b", 200)]);
        // The addresses change places, and one gets another name.
        state.set_egress(&[default.clone(), group("b", "192.0.2.1"), group("c", "192.0.2.2")], NOW);
        expect(&mut state, &[("default", 1), ("b", 10), ("c", 200)]);
        // A new address may be the one of the default group, or of a group that is gone.
        state.set_egress(&[default.clone(), group("b", "192.0.2.1"), group("new", "192.0.2.3")], NOW);
        expect(&mut state, &[("default", 201), ("b", 10), ("new", 201)]);
        state.set_egress(&[default], NOW);
        expect(&mut state, &[("default", 412)]);
    }

    #[test]
    fn a_full_window_stays_full_and_no_more() {
        let mut state = State::new(Share::ALL.into(), None);
        make_calls(&mut state, "default", 900);
        state.set_egress(&[Egress::default(), group("a", "192.0.2.1")], NOW);
        expect(&mut state, &[("default", 900), ("a", 900)]);
        assert_ne!(state.address("192.0.2.1").availability(NOW), Availability::Now);
        state.set_egress(&[Egress::default()], NOW);
        expect(&mut state, &[("default", 900)]);
    }
}
