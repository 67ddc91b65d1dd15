//! The rate limiter: decides when a call may be sent, whatever the configuration and the faults. XT locks an account
//! for 10 minutes if a key makes more than 3 asset calls in a second or an address more than 1000 calls in a minute.
//! The limiter keeps to 2 and 900 calls in every sliding window, or to the share of these that the process has. A call counts
//! from its start until the length of the window after its end, so that the limit holds whenever in between the exchange
//! counts it. A reload may change the share: calls that were counted stay counted.
//!
//! A caller has one call in flight: the next one waits for its reply, which may be a limit reply, also if a reload has
//! replaced the poller that sent it.
//!
//! Its state ends with the process. A new process assumes that the previous one was killed just now after a window full
//! of calls, and sends nothing for a second, or longer with a small share. Because no second has more than 15 calls, both
//! limits hold over any number of restarts. Without a state file a pause is forgotten: after a restart each account is tried once, and the
//! reply pauses it again.
//! Depends on neither HTTP nor JSON. `poller/rate_limit_model` proves the limits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, OwnedMutexGuard, futures::Notified};

use super::{
    call_window::Availability,
    egress::{DEFAULT_EGRESS, Egress},
    limiter_state::{KeySlot, State},
    pauses::{ActivePauses, Caller, PAUSE, PAUSE_MAX, Paused},
    secret::KeyId,
    share::LimitShares,
    usage::RateLimitUsage,
};
use crate::clock::{Clock, MonotonicTime};

/// The most that a nonce may be ahead of the exchange's time, because of calls within one millisecond or a small
/// correction of the clock. A nonce that is further ahead came from a wrong clock.
const NONCE_LEAD_MAX_MS: u64 = 1_000;

/// The rate limiter that every call of the process passes.
#[derive(Debug)]
pub(super) struct RateLimiter {
    clock: Clock,
    state: Mutex<State>,
    /// Notified when a call ends.
    call_ended: Notify,
    /// Notified when a pause begins. Wakes in the order of waiting, so that a simulation can be repeated.
    pause_began: Notify,
}

/// A permit for one call. The caller holds it until the call has ended.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: Arc<RateLimiter>,
    /// The address that the call leaves by.
    address: Box<str>,
    /// The caller's slot: a reload may replace a poller whose call is still in flight.
    _caller_slot: OwnedMutexGuard<()>,
    /// The key's slot, for a call with a key.
    key_slot: Option<(KeyId, OwnedMutexGuard<KeySlot>)>,
    /// The host of this call's nonce, and the previous nonce for that host.
    previous_nonce: Option<(Box<str>, u64)>,
}

/// A permit for one call of another process. The call counts as in flight until this is dropped.
#[derive(Debug)]
pub struct LentPermit {
    limiter: Arc<RateLimiter>,
    address: Box<str>,
    key: Option<KeyId>,
}

impl RateLimiter {
    /// A limiter without calls that takes `shares` of the exchange's limits. If `others_before`, a process that was killed
    /// just now may have made calls, so nothing is permitted for [`LimitShares::startup_delay`].
    #[must_use]
    pub(super) fn new(clock: Clock, shares: LimitShares, others_before: bool) -> Self {
        let state = State::new(shares, others_before.then(|| clock.now().monotonic));
        Self { clock, state: Mutex::new(state), call_ended: Notify::new(), pause_began: Notify::new() }
    }

    /// Takes other shares of the exchange's limits. Calls that were counted stay counted.
    pub(super) fn set_shares(&self, shares: LimitShares) {
        let mut state = self.state();
        if state.shares != shares {
            state.set_shares(shares);
            drop(state);
            // There may be room now for a call that waits.
            self.call_ended.notify_waiters();
        }
    }

    /// Replaces the egress groups. Calls that were counted stay counted, and pauses stay. Returns whether the groups changed.
    pub(super) fn set_egress(&self, groups: &[Egress]) -> bool {
        let now = self.clock.now().monotonic;
        let is_change = self.state().set_egress(groups, now);
        if is_change {
            // A group may have the pause of another one now.
            self.pause_began.notify_waiters();
        }
        is_change
    }

    /// Records the key and the address of an account before its first call.
    pub(super) fn register(&self, caller: Caller<'_>) {
        self.state().register(caller);
    }

    /// Waits until a call for `caller` may start.
    ///
    /// # Errors
    /// If the caller is paused, now or when the call could start.
    pub(super) async fn permit(self: &Arc<Self>, caller: Caller<'_>) -> Result<Permit, Paused> {
        if let Some(paused) = self.pause(caller) {
            return Err(paused);
        }
        let caller_slot = self.state().caller_slot(caller);
        let caller_slot = caller_slot.lock_owned().await;
        let key_slot = match caller.key() {
            Some(key) => {
                let key_slot = Arc::clone(&self.state().key_state(key).slot);
                let key_slot = key_slot.lock_owned().await;
                self.wait_until_available(caller, |state, now| state.key_state(key).window.availability(now))
                    .await?;
                Some((key, key_slot))
            }
            None => None,
        };
        let address = caller.address();
        let queue = Arc::clone(&self.state().address(address).queue);
        let _first_in_queue = queue.lock().await;
        // Looks at the key again, because a call of another process may have come between.
        self.wait_until_available(caller, |state, now| state.start_call(caller, now)).await?;
        Ok(Permit {
            limiter: Arc::clone(self),
            address: address.into(),
            _caller_slot: caller_slot,
            key_slot,
            previous_nonce: None,
        })
    }

    /// Waits until another process may make a call, with `key` if the call has one. Such calls take at most the part of
    /// [`LimitShares::for_others`], so that they never starve the calls of this process.
    ///
    /// # Errors
    /// If calls with the key are paused.
    pub(super) async fn lend(self: &Arc<Self>, key: Option<KeyId>) -> Result<LentPermit, Paused> {
        // The other process sends a key from the same address as this one.
        let address =
            key.and_then(|key| self.state().key_address(key)).unwrap_or_else(|| DEFAULT_EGRESS.into());
        let name = key.and_then(|key| self.state().key_account(key)).unwrap_or_default();
        let caller =
            key.map_or(Caller::Anyone, |key| Caller::Account { key, name: &name, address: &address });
        // A key that this process does not use has limits of its own, which the other process knows.
        let key = key.filter(|key| self.state().knows_key(*key));
        self.wait_until_available(caller, |state, now| state.start_lent_call(&address, key, now)).await?;
        Ok(LentPermit { limiter: Arc::clone(self), address, key })
    }

    /// Records a limit reply to a call for `caller`. Nothing is sent for the caller or with its key for ten minutes, or
    /// for `retry_after` if that is longer.
    pub(super) fn record_limit_reply(&self, caller: Caller<'_>, retry_after: Option<Duration>) {
        let now = self.clock.now().monotonic;
        let length = retry_after.unwrap_or_default().clamp(PAUSE, PAUSE_MAX);
        self.state().pauses.record_limit_reply(caller, now, length);
        self.pause_began.notify_waiters();
    }

    /// Sends nothing for `caller` for this long, because another process is paused. That is no limit reply to this process,
    /// so it does not count for the address.
    pub(super) fn pause_for(&self, caller: Caller<'_>, remaining: Duration) {
        let until = self.clock.now().monotonic + remaining;
        self.state().pauses.pause_caller(caller, until);
        self.pause_began.notify_waiters();
    }

    /// The active pause of `caller`.
    #[must_use]
    pub(super) fn pause(&self, caller: Caller<'_>) -> Option<Paused> {
        let now = self.clock.now().monotonic;
        self.state().pauses.active(caller, now)
    }

    /// All active pauses, with the addresses that are not paused.
    #[must_use]
    pub(super) fn active_pauses(&self) -> ActivePauses {
        let now = self.clock.now().monotonic;
        self.state().active_pauses(now)
    }

    /// Adds the pauses of an earlier process. Call it after [`Self::set_egress`].
    pub(super) fn restore_pauses(&self, saved: ActivePauses) {
        let now = self.clock.now().monotonic;
        self.state().restore_pauses(saved, now);
    }

    /// How much of each limit is used now. `accounts` are the names of the accounts to tell about.
    #[must_use]
    pub(super) fn usage<'a>(&self, accounts: impl Iterator<Item = &'a str>) -> RateLimitUsage {
        let now = self.clock.now().monotonic;
        let mut state = self.state();
        let addresses = state.address_usage(now);
        let keys = accounts.map(|account| (account.into(), state.key_usage(account, now))).collect();
        RateLimitUsage { addresses, keys }
    }

    /// Completes when any pause begins after this call.
    pub(super) fn wait_for_pause(&self) -> Notified<'_> {
        self.pause_began.notified()
    }

    async fn wait_until_available(
        &self,
        caller: Caller<'_>,
        find_availability: impl Fn(&mut State, MonotonicTime) -> Availability,
    ) -> Result<(), Paused> {
        loop {
            // Created before the state is read, so that no change is missed.
            let (call_ended, pause_began) = (self.call_ended.notified(), self.wait_for_pause());
            let now = self.clock.now().monotonic;
            let availability = {
                let mut state = self.state();
                if let Some(paused) = state.pauses.active(caller, now) {
                    return Err(paused);
                }
                match find_availability(&mut state, now) {
                    Availability::Now => return Ok(()),
                    availability => availability,
                }
            };
            let available = async {
                match availability {
                    Availability::Now => {}
                    Availability::In(time) => tokio::time::sleep(time).await,
                    Availability::WhenACallEnds => call_ended.await,
                }
            };
            tokio::select! {
                biased;
                () = pause_began => {}
                () = available => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single push or count, so a panic leaves a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The next nonce for `host`: the exchange's time in Unix milliseconds, or one more than the key's last nonce for
    /// the host if that is not smaller. Hosts have clocks of their own, so their nonces are independent. A time far
    /// below the last nonce comes from a corrected clock and is used as it is.
    pub(super) fn next_nonce(&mut self, host: &str, exchange_time: u64) -> u64 {
        let Some((_, key_slot)) = &mut self.key_slot else { return exchange_time };
        let last = key_slot.nonces.entry(host.into()).or_default();
        self.previous_nonce = Some((host.into(), *last));
        let is_correction = last.saturating_sub(exchange_time) > NONCE_LEAD_MAX_MS;
        *last = if is_correction { exchange_time } else { exchange_time.max(last.saturating_add(1)) };
        *last
    }

    /// Releases the last nonce: the exchange did not accept it, and it may have been wrong.
    pub(super) fn release_nonce(&mut self) {
        if let (Some((_, key_slot)), Some((host, previous))) =
            (&mut self.key_slot, self.previous_nonce.take())
        {
            key_slot.nonces.insert(host, previous);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.limiter.clock.now().monotonic;
        let key = self.key_slot.as_ref().map(|(key, _)| *key);
        self.limiter.state().end_call(&self.address, key, now);
        self.limiter.call_ended.notify_waiters();
    }
}

impl Drop for LentPermit {
    fn drop(&mut self) {
        let now = self.limiter.clock.now().monotonic;
        self.limiter.state().end_lent_call(&self.address, self.key, now);
        self.limiter.call_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        call_window::WindowUsage,
        pauses::ADDRESS_LIMIT_WINDOW,
        secret::{KeyPair, Secret},
        share::{ADDRESS_CALLS_PER_MINUTE, ADDRESS_SPAN, KEY_SPAN, PACE_CALLS, PACE_SPAN, Share},
    };
    use zeroize::Zeroizing;

    /// The caller of an account with this key.
    fn caller<'a>(key: &str, name: &'a str) -> Caller<'a> {
        let secret = |text: &str| Secret::new(&Zeroizing::new(text.to_owned())).ok();
        let pair = secret(key).zip(secret("s")).map(|(access, secret)| KeyPair::new(access, secret).id());
        Caller::Account { key: pair.unwrap_or_else(|| panic!("{key}")), name, address: DEFAULT_EGRESS }
    }

    fn start_limiter() -> (Arc<RateLimiter>, Clock) {
        let clock = Clock::start();
        (Arc::new(RateLimiter::new(clock, Share::ALL.into(), true)), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_makes_two_calls_in_any_second_counted_at_any_time_of_a_call() {
        let (limiter, clock) = start_limiter();
        let mut calls = Vec::new();
        for length in [900, 0, 10, 300, 0, 0, 0, 1_500, 0, 0] {
            let permit = limiter.permit(caller("a", "main")).await;
            let start = clock.now().monotonic;
            tokio::time::sleep(Duration::from_millis(length)).await;
            drop(permit);
            calls.push((start, clock.now().monotonic));
        }
        for three in calls.windows(3) {
            if let [(_, first_end), _, (third_start, _)] = three {
                assert!(*third_start > *first_end + KEY_SPAN, "{calls:?}");
            }
        }
        let patience = MonotonicTime::START + Duration::from_secs(9);
        assert!(clock.now().monotonic < patience, "not slower than necessary: {calls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_process_sends_nothing_for_a_second_and_fifteen_calls_in_the_next() {
        for others_before in [true, false] {
            let clock = Clock::start();
            let limiter = Arc::new(RateLimiter::new(clock, Share::ALL.into(), others_before));
            let mut sent = Vec::new();
            for call in 0..=PACE_CALLS {
                drop(limiter.permit(caller(&format!("key{call}"), "main")).await);
                sent.push(clock.now().monotonic);
            }
            let silence = if others_before { KEY_SPAN } else { Duration::ZERO };
            let begin = MonotonicTime::START + silence;
            assert!(sent.iter().all(|sent| *sent > begin || !others_before), "{sent:?}");
            let late = |sent: &MonotonicTime| sent.saturating_duration_since(begin) > PACE_SPAN;
            assert_eq!(sent.iter().position(late), Some(PACE_CALLS), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_that_share_a_key_share_its_pause() {
        let (limiter, _) = start_limiter();
        limiter.record_limit_reply(caller("a", "one"), None);
        assert!(limiter.permit(caller("a", "two")).await.is_err());
        assert!(limiter.pause(caller("a", "two")).is_some());
        assert!(limiter.permit(caller("b", "three")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_makes_900_calls_a_minute() {
        let (limiter, clock) = start_limiter();
        let mut in_flight = Vec::new();
        let mut sent = Vec::new();
        for call in 0..ADDRESS_CALLS_PER_MINUTE {
            let name = format!("key{call}");
            in_flight.push(limiter.permit(caller(&name, &name)).await);
            sent.push(clock.now().monotonic);
        }
        let took = sent.last().zip(sent.first()).map(|(last, first)| last.saturating_duration_since(*first));
        assert!(took.is_some_and(|took| took < ADDRESS_SPAN), "not slower than necessary: {took:?}");

        let next = limiter.permit(caller("next", "main"));
        tokio::pin!(next);
        let wait = Duration::from_hours(1);
        assert!(tokio::time::timeout(wait, &mut next).await.is_err(), "900 calls are in flight");
        let ended = clock.now().monotonic;
        drop(in_flight);
        assert!(next.await.is_ok());
        assert!(
            clock.now().monotonic > ended + ADDRESS_SPAN,
            "a call counts at any time between its start and end"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_of_a_caller_is_in_flight() {
        let (limiter, _) = start_limiter();
        // A reload may replace the key of an account, and prices have none.
        for (one, other) in [(caller("a", "a"), caller("other", "a")), (Caller::Anyone, Caller::Anyone)] {
            let permit = limiter.permit(one).await;
            let second = limiter.permit(other);
            tokio::pin!(second);
            assert!(tokio::time::timeout(Duration::from_mins(1), &mut second).await.is_err());
            drop(permit);
            assert!(second.await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_of_a_key_is_in_flight_and_nonces_of_a_host_grow() {
        let (limiter, _) = start_limiter();
        let Ok(mut first) = limiter.permit(caller("a", "main")).await else { panic!("not paused") };
        assert_eq!(first.next_nonce("x", 10_000), 10_000);
        assert_eq!(first.next_nonce("x", 10_000), 10_001);
        let second = limiter.permit(caller("a", "other"));
        assert!(tokio::time::timeout(Duration::from_mins(1), second).await.is_err());
        drop(first);
        let Ok(mut third) = limiter.permit(caller("a", "main")).await else { panic!("not paused") };
        assert_eq!(third.next_nonce("x", 9_500), 10_002, "also after a small correction of the clock");
        assert_eq!(third.next_nonce("y", 500), 500, "each host has its own clock");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_or_far_too_high_nonce_does_not_raise_later_nonces() {
        let (limiter, _) = start_limiter();
        let Ok(mut permit) = limiter.permit(caller("a", "main")).await else { panic!("not paused") };
        assert_eq!(permit.next_nonce("x", 1_700_000_000_000), 1_700_000_000_000);
        assert_eq!(permit.next_nonce("x", 1_700_000_000_900), 1_700_000_000_900);
        permit.release_nonce();
        assert_eq!(
            permit.next_nonce("x", 1_700_000_000_500),
            1_700_000_000_500,
            "the refused nonce does not count"
        );
        permit.release_nonce();
        permit.release_nonce();
        assert_eq!(permit.next_nonce("x", 1_699_999_999_500), 1_700_000_000_001, "released only once");
        assert_eq!(permit.next_nonce("x", u64::MAX), u64::MAX, "a host with an absurd time");
        assert_eq!(permit.next_nonce("x", u64::MAX), u64::MAX, "this is the largest nonce");
        assert_eq!(permit.next_nonce("x", 1_700_000_001_000), 1_700_000_001_000, "the clock was corrected");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_reply_pauses_its_account_and_two_pause_all() {
        let (limiter, clock) = start_limiter();
        let pause_began = limiter.wait_for_pause();
        limiter.record_limit_reply(caller("a", "a"), None);
        assert!(tokio::time::timeout(Duration::ZERO, pause_began).await.is_ok());
        assert!(limiter.permit(caller("a", "a")).await.is_err());
        assert!(limiter.permit(caller("b", "b")).await.is_ok(), "one limit reply pauses only its account");

        tokio::time::advance(Duration::from_secs(61)).await;
        limiter.record_limit_reply(caller("b", "b"), Some(Duration::from_hours(1)));
        assert!(limiter.pause(caller("c", "c")).is_none(), "the other limit reply is more than a minute old");
        tokio::time::advance(Duration::from_mins(1)).await;
        limiter.record_limit_reply(caller("d", "d"), Some(Duration::from_secs(1)));
        let until = limiter.pause(caller("c", "c")).map(|paused| paused.until);
        assert!(until.is_some_and(|until| until >= clock.now().monotonic + PAUSE), "{until:?}");

        tokio::time::advance(PAUSE).await;
        assert!(limiter.pause(caller("c", "c")).is_none());
        assert!(limiter.pause(caller("b", "b")).is_some(), "a longer Retry-After is respected");
        assert!(limiter.permit(caller("a", "a")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_key_has_its_own_pause_and_only_the_limits_of_the_process() {
        let (limiter, clock) = start_limiter();
        let account_call = limiter.permit(caller("a", "a")).await;
        let first = limiter.permit(Caller::Anyone).await;
        assert!(account_call.is_ok() && first.is_ok(), "it does not wait for a key");
        limiter.record_limit_reply(Caller::Anyone, None);
        assert!(limiter.permit(Caller::Anyone).await.is_err());
        assert!(limiter.pause(caller("b", "b")).is_none(), "it pauses no account");
        limiter.record_limit_reply(caller("a", "a"), None);
        assert!(limiter.pause(caller("b", "b")).is_some(), "two limit replies within a minute pause all");

        tokio::time::advance(PAUSE + ADDRESS_LIMIT_WINDOW).await;
        drop((account_call, first));
        limiter.record_limit_reply(caller("a", "a"), None);
        assert!(limiter.pause(Caller::Anyone).is_none());
        limiter.record_limit_reply(caller("b", "b"), None);
        assert!(limiter.permit(Caller::Anyone).await.is_err(), "a pause of all includes calls without a key");

        tokio::time::advance(PAUSE).await;
        let mut sent = Vec::new();
        for _ in 0..=PACE_CALLS {
            drop(limiter.permit(Caller::Anyone).await);
            sent.push(clock.now().monotonic);
        }
        let span = sent.last().zip(sent.first()).map(|(last, first)| last.saturating_duration_since(*first));
        assert!(span.is_some_and(|span| span > PACE_SPAN), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_the_wait_for_a_permit() {
        let (limiter, _) = start_limiter();
        drop(limiter.permit(caller("a", "a")).await);
        drop(limiter.permit(caller("a", "a")).await);
        let waiting = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move { limiter.permit(caller("a", "a")).await.map(drop) }
        });
        tokio::task::yield_now().await;
        limiter.record_limit_reply(caller("a", "a"), None);
        assert!(waiting.await.is_ok_and(|permit| permit.is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_kept_from_the_start_and_another_one_from_the_next_call() {
        let clock = Clock::start();
        let share = |text: &str| LimitShares::from(text.parse::<Share>().unwrap_or(Share::ALL));
        let limiter = Arc::new(RateLimiter::new(clock, share("1/4"), true));
        let mut waits = Vec::new();
        for shares in ["1/4", "1/4", "1/2", "1", "1", "1/20"] {
            limiter.set_shares(share(shares));
            let began = clock.now();
            drop(limiter.permit(caller("a", "a")).await);
            waits.push(began.age(clock.now()).as_millis());
        }
        // With the whole share the second call finds one call of before, and the third two.
        assert_eq!(waits, [2_001, 2_001, 1_001, 0, 1_001, 10_001]);
        let usage = |calls, capacity| WindowUsage { calls, capacity };
        let expected = RateLimitUsage {
            addresses: vec![("default".into(), usage(6, 45))],
            keys: vec![("a".into(), usage(1, 1)), ("new".into(), usage(0, 1))],
        };
        assert_eq!(limiter.usage(["a", "new"].into_iter()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_other_processes_count_and_leave_room_for_the_own_ones() {
        let (limiter, clock) = start_limiter();
        drop(limiter.permit(caller("a", "a")).await);
        let Caller::Account { key, .. } = caller("a", "") else { panic!("an account") };
        let ask = || limiter.lend(Some(key));
        let wait = Duration::from_mins(1);
        let lent = ask().await;
        assert!(tokio::time::timeout(wait, ask()).await.is_err(), "one call with a key is lent at a time");
        let usage = |limiter: &Arc<RateLimiter>| limiter.usage(["a"].into_iter());
        assert_eq!(usage(&limiter).keys, [("a".into(), WindowUsage { calls: 1, capacity: 2 })]);

        // The other process never ends its call, and this one still makes a call a second.
        let began = clock.now();
        for _ in 0..3 {
            drop(limiter.permit(caller("a", "a")).await);
        }
        assert_eq!(began.age(clock.now()).as_millis(), 2_002);
        drop(lent);
        let began = clock.now();
        drop(ask().await);
        assert_eq!(began.age(clock.now()).as_millis(), 2_001, "a quarter of the limit is lent");

        limiter.record_limit_reply(caller("a", "a"), None);
        assert!(ask().await.is_err());
        assert!(limiter.lend(None).await.is_ok(), "the address is not paused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_an_unknown_key_is_a_call_of_the_address_only() {
        let (limiter, _) = start_limiter();
        let Caller::Account { key, .. } = caller("unknown", "") else { panic!("an account") };
        let mut lent = Vec::new();
        let most = LimitShares::from(Share::ALL).for_others().address_limit().calls;
        for _ in 0..most {
            lent.push(limiter.lend(Some(key)).await);
        }
        assert!(tokio::time::timeout(Duration::from_hours(1), limiter.lend(Some(key))).await.is_err());
        let usage = limiter.usage(std::iter::empty());
        assert_eq!(usage.addresses, [("default".into(), WindowUsage { calls: 90, capacity: 900 })]);
        assert!(limiter.permit(caller("a", "a")).await.is_ok());
    }
}
