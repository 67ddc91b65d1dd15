//! The state of the rate limiter: the calls that count against each limit. Pure: waits for nothing and reads no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    call_window::{Availability, CallWindow, WindowUsage},
    egress::{DEFAULT_EGRESS, Egress},
    pauses::{ActivePauses, Caller, Pauses},
    secret::KeyId,
    share::{CallLimit, LimitShares},
};
use crate::clock::MonotonicTime;

#[derive(Debug)]
pub(super) struct State {
    pub shares: LimitShares,
    /// When a process that was killed just before this one may have ended its last calls.
    others_ended: Option<MonotonicTime>,
    /// The egress groups of the configuration.
    groups: Vec<Group>,
    /// By address. Those that the configuration has no more stay.
    addresses: BTreeMap<Box<str>, AddressState>,
    keys: HashMap<KeyId, KeyState>,
    /// Calls in flight that a change of the egress groups counted against another address too.
    carried: Vec<CarriedCalls>,
    /// By the name of the account; `None` for calls without one.
    callers: HashMap<Option<Box<str>>, CallerState>,
    pub pauses: Pauses,
}

/// An egress group: its name and address.
type Group = (Arc<str>, Arc<str>);

/// Calls in flight of one address that count against another one too.
#[derive(Debug)]
struct CarriedCalls {
    from: Box<str>,
    to: Box<str>,
    in_flight: usize,
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
    /// The address of its account; `None` if no account was registered.
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
            carried: Vec::new(),
            callers: HashMap::new(),
            pauses: Pauses::default(),
        }
    }

    /// Replaces the egress groups. The exchange may already know the address of a new group: the default group may use it, or
    /// a group that was removed. So calls of removed groups count against the default group, and all of these against a new
    /// group. Pauses carry over in the same way. Returns whether the groups changed.
    pub(super) fn set_egress(&mut self, groups: &[Egress], now: MonotonicTime) -> bool {
        let groups = groups.iter().map(|group| (Arc::clone(&group.name), Arc::clone(&group.address)));
        let old = std::mem::replace(&mut self.groups, groups.collect());
        let groups = self.groups.clone();
        let (removed, added) = (new_addresses(&groups, &old), new_addresses(&old, &groups));
        for address in &removed {
            self.carry_calls(address, DEFAULT_EGRESS, now);
        }
        for address in &added {
            self.carry_calls(DEFAULT_EGRESS, address, now);
        }
        self.pauses.carry_over(&removed, &added);
        old != groups
    }

    /// All active pauses, with the addresses that are not paused.
    pub(super) fn active_pauses(&self, now: MonotonicTime) -> ActivePauses {
        let mut pauses = self.pauses.all_active(now);
        let is_paused = |address: &str| pauses.addresses.iter().any(|(paused, _)| **paused == *address);
        let not_paused: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, address)| !is_paused(address))
            .map(|(_, address)| address)
            .collect();
        pauses
            .addresses
            .extend(not_paused.into_iter().map(|address| (Box::from(&**address), Duration::ZERO)));
        pauses
    }

    /// Adds the pauses of an earlier process. They carry over from its egress groups to those of this process as at a reload.
    pub(super) fn restore_pauses(&mut self, saved: ActivePauses, now: MonotonicTime) {
        let group = |address: &str| (Arc::from(DEFAULT_EGRESS), Arc::from(address));
        let saved_groups = saved.addresses.iter().map(|(address, _)| group(address));
        let old: Vec<Group> = saved_groups.chain([group(DEFAULT_EGRESS)]).collect();
        self.pauses.restore(saved, now);
        self.pauses.carry_over(&new_addresses(&self.groups, &old), &new_addresses(&old, &self.groups));
    }

    /// Counts the calls of one address against another one too. Those in flight count until they end.
    fn carry_calls(&mut self, from: &str, to: &str, now: MonotonicTime) {
        let window = self.address(from).window.clone();
        let in_flight = self.address(to).window.count_calls_of(&window, now);
        self.carried.push(CarriedCalls { from: from.into(), to: to.into(), in_flight });
        self.carried.retain(|carried| carried.in_flight > 0);
    }

    /// Records the end of a call of `address`, also at the addresses that it was carried to.
    fn end_address_call(&mut self, address: &str, now: MonotonicTime) {
        self.address(address).window.end(now);
        // An address that calls were carried to may have passed them on later.
        let mut reached: Vec<Box<str>> = vec![address.into()];
        let mut ended = Vec::new();
        for carried in self.carried.iter_mut().filter(|carried| carried.in_flight > 0) {
            if reached.contains(&carried.from) {
                carried.in_flight -= 1;
                reached.push(carried.to.clone());
                ended.push(carried.to.clone());
            }
        }
        for address in ended {
            self.address(&address).window.end(now);
        }
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
        self.end_address_call(address, now);
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

    /// Records the key and the address of an account before its first call.
    pub(super) fn register(&mut self, caller: Caller<'_>) {
        self.caller_slot(caller);
        if let Some(key) = caller.key() {
            self.key_state(key).address = Some(caller.address().into());
        }
    }

    /// The account with `key` whose pause ends last.
    pub(super) fn key_account(&self, key: KeyId) -> Option<Box<str>> {
        let callers = self.callers.iter().filter(|(_, state)| state.key == Some(key));
        let names = callers.filter_map(|(name, _)| name.clone());
        names.max_by_key(|name| self.pauses.account_pause(name))
    }

    /// The address of the account with `key`.
    pub(super) fn key_address(&self, key: KeyId) -> Option<Box<str>> {
        self.keys.get(&key)?.address.clone()
    }

    /// Whether an account of this process has `key`.
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

/// The addresses of `groups` that `known` ones do not have.
fn new_addresses<'a>(known: &[Group], groups: &'a [Group]) -> Vec<&'a str> {
    let is_known = |address: &str| known.iter().any(|(_, known)| **known == *address);
    groups.iter().map(|(_, address)| &**address).filter(|address| !is_known(address)).collect()
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

    /// The addresses that are paused, in the order of their names, and the minutes.
    fn paused(state: &State) -> Vec<(String, u64)> {
        let addresses = state.pauses.all_active(NOW).addresses;
        addresses.into_iter().map(|(address, rest)| (address.into(), rest.as_secs() / 60)).collect()
    }

    fn saved(addresses: &[(&str, u64)]) -> ActivePauses {
        let saved = |(address, minutes): &(&str, u64)| (Box::from(*address), Duration::from_mins(*minutes));
        ActivePauses { addresses: addresses.iter().map(saved).collect(), ..ActivePauses::default() }
    }

    fn paused_list(addresses: &[(&str, u64)]) -> Vec<(String, u64)> {
        addresses.iter().map(|(address, minutes)| ((*address).to_owned(), *minutes)).collect()
    }

    #[test]
    fn the_pause_of_an_address_carries_over_as_its_calls_do() {
        let mut state = State::new(Share::ALL.into(), None);
        let default = Egress::default();
        state.restore_pauses(saved(&[("default", 4)]), NOW);
        assert!(state.set_egress(&[default.clone(), group("a", "192.0.2.1")], NOW));
        assert_eq!(paused(&state), paused_list(&[("192.0.2.1", 4), ("default", 4)]));
        state.restore_pauses(saved(&[("192.0.2.1", 9), ("default", 0)]), NOW);
        assert_eq!(paused(&state), paused_list(&[("192.0.2.1", 9), ("default", 4)]));
        assert!(state.set_egress(&[default.clone(), group("b", "192.0.2.2")], NOW));
        assert_eq!(paused(&state), paused_list(&[("192.0.2.2", 9), ("default", 9)]));
        assert!(!state.set_egress(&[default.clone(), group("b", "192.0.2.2")], NOW));
        assert!(state.set_egress(&[default], NOW));
        assert_eq!(paused(&state), paused_list(&[("default", 9)]));
    }

    #[test]
    fn a_saved_pause_carries_over_to_the_groups_of_the_new_process() {
        let groups = [Egress::default(), group("a", "192.0.2.1"), group("b", "192.0.2.2")];
        for (of_before, expected) in [
            (&[("192.0.2.1", 9), ("192.0.2.2", 0)][..], &[("192.0.2.1", 9)][..]),
            (&[("default", 4), ("192.0.2.1", 9)], &[("192.0.2.1", 9), ("192.0.2.2", 4), ("default", 4)]),
            (&[("default", 4), ("192.0.2.1", 0)], &[("192.0.2.2", 4), ("default", 4)]),
            (&[("192.0.2.3", 5)], &[("192.0.2.1", 5), ("192.0.2.2", 5), ("default", 5)]),
            (&[("192.0.2.1", 0), ("192.0.2.3", 5)], &[("192.0.2.2", 5), ("default", 5)]),
        ] {
            let mut state = State::new(Share::ALL.into(), None);
            state.set_egress(&groups, NOW);
            state.restore_pauses(saved(of_before), NOW);
            assert_eq!(paused(&state), paused_list(expected), "{of_before:?}");
            let mut next = State::new(Share::ALL.into(), None);
            next.set_egress(&groups, NOW);
            next.restore_pauses(state.active_pauses(NOW), NOW);
            assert_eq!(paused(&next), paused_list(expected), "a second restart");
        }
    }
}
