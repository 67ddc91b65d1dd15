//! When to ask, and what a good or bad answer changes. One poller an account: it asks for its
//! wallets in turn, spread evenly over the interval, and writes what it learns into the ledger. Where
//! prices are wanted, one more reads them for all.
//! Knows no HTTP, no JSON and no text format.

mod prices;
#[cfg(test)]
mod rate_limit_model;
mod restart;
mod set;

use std::{
    convert::Infallible,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use self::restart::Restarts;
pub use self::{
    prices::PricePoller,
    set::{PollerSet, ReloadSummary, create_pollers},
};
use crate::{
    clock::{Clock, Timestamp},
    config::AccountConfig,
    exchange::{
        Client, ClockReading, Endpoints, KeySource, Paused, ReadAnswer, ReadOutcome, ReadRequest, Session,
        Skipped, Wallet,
    },
    snapshot::store::AccountFacts,
    snapshot::store::Store,
    snapshot::wallet::{Doubt, LastGood, PollOutcome, PollResult, WalletConfig, WalletSnapshot},
};

/// The longest that a poll takes beside the time of its calls: two reads may each wait a minute for a permit.
const PERMIT_WAIT_MAX: Duration = Duration::from_secs(130);
/// How often a poller renews its heartbeat while a poll runs.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Whoever wakes later than this after its slot leaves it out.
const LATE_WAKE_UP: Duration = Duration::from_secs(1);
/// A sleeping poller looks at the clock again after this time, because timers stand still while the machine is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(4);
/// The pause of `once` before the read that is to confirm an answer. It outlasts short glitches only.
const CONFIRM_DELAY: Duration = Duration::from_secs(2);
/// So many slots in a row are left out at the most: a machine that is always late polls all the same.
const MAX_SKIPPED_SLOTS: u32 = 5;

/// The keeper of one account.
#[derive(Debug)]
pub struct Poller {
    session: Session,
    plan: Arc<PollSpec>,
    schedule: Schedule,
    /// When its next poll is due, on [`Moment::elapsed`].
    due: Duration,
    context: PollContext,
    /// What is wrong with the key files, once it has been said.
    last_key_error: Option<String>,
    restarts: Restarts,
}

/// What an account is polled by, but for its name: pollers with equal plans do the same.
#[derive(Debug, PartialEq)]
struct PollSpec {
    endpoints: Endpoints,
    keys: KeySource,
    /// One a wallet.
    wallet_configs: Vec<Arc<WalletConfig>>,
    interval: Duration,
    timeout: Duration,
}

impl PollSpec {
    fn new(account: &AccountConfig) -> Self {
        let wallet_config = |wallet: &Wallet| {
            let watch = account.watch.iter();
            Arc::new(WalletConfig {
                account: account.name.clone(),
                wallet: *wallet,
                watch: watch.filter(|(place, _)| place == wallet).map(|(_, watch)| watch.clone()).collect(),
                filter: account.filter.clone(),
                max_age: account.max_age,
            })
        };
        Self {
            endpoints: account.endpoints.clone(),
            keys: account.credentials.source().clone(),
            wallet_configs: account.wallets.iter().map(wallet_config).collect(),
            interval: account.poll_interval,
            timeout: account.poll_timeout,
        }
    }

    fn wallets(&self) -> impl Iterator<Item = Wallet> + Clone {
        self.wallet_configs.iter().map(|wallet_config| wallet_config.wallet)
    }

    /// Time from one poll of the account to the next, of whichever wallet.
    fn slot(&self) -> Duration {
        self.interval / u32::try_from(self.wallet_configs.len()).unwrap_or(u32::MAX).max(1)
    }
}

/// What every poller needs.
#[derive(Clone, Debug)]
struct PollContext {
    exchange: Arc<Client>,
    store: Arc<Store>,
    clock: Clock,
}

impl Poller {
    /// The account it keeps.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.session.account
    }

    /// Polls on schedule, forever. Restarts again after a panic, with a growing
    /// pause. May be given up at any time.
    pub async fn run(&mut self) -> Infallible {
        loop {
            let (ran, text) = restart::until_panic(self.poll_on_schedule()).await;
            let delay = self.restarts.after_panic(ran);
            let restart_seconds = delay.as_secs();
            tracing::error!(
                account = %self.account(),
                restart_seconds,
                "a bug: the poller panicked and is started again after a pause: {text}"
            );
            // What panicked may have been this.
            let publish = || self.publish_facts();
            let _ = panic::catch_unwind(AssertUnwindSafe(publish));
            tokio::time::sleep(delay).await;
        }
    }

    async fn poll_on_schedule(&mut self) -> Infallible {
        let plan = Arc::clone(&self.plan);
        for (place, wallet) in plan.wallets().enumerate().cycle() {
            self.wait_until_due(place).await;
            if !self.is_refused(wallet).await {
                let _ = self.poll_wallet(wallet).await;
            }
            self.due = self.schedule.next(self.context.clock.now().elapsed, fastrand::f64());
        }
        // An account has at least one wallet, so the cycle has no end.
        std::future::pending().await
    }

    /// Polls every wallet once, for a command that does not stay, and a second time where an answer must be confirmed.
    /// Returns how many wallets there were and how many could not be published.
    pub async fn run_once(&mut self) -> (usize, usize) {
        let plan = Arc::clone(&self.plan);
        let mut failed = 0;
        for wallet in plan.wallets() {
            let mut end = self.poll_wallet(wallet).await;
            if end == PollEnd::Doubted {
                tokio::time::sleep(CONFIRM_DELAY).await;
                end = self.poll_wallet(wallet).await;
            }
            failed += usize::from(end != PollEnd::Good);
        }
        (plan.wallet_configs.len(), failed)
    }

    /// Polls every wallet once. Returns how each poll ended.
    pub async fn poll_each(&mut self) -> Vec<PollEnd> {
        let plan = Arc::clone(&self.plan);
        let mut ends = Vec::new();
        for wallet in plan.wallets() {
            ends.push(self.poll_wallet(wallet).await);
        }
        ends
    }

    /// Waits until a poll is due, of the wallet in this `place`, and the account not paused, and keeps the ledger told.
    async fn wait_until_due(&self, place: usize) {
        let pause = || self.context.exchange.pause(&self.session);
        let tell = |now: Timestamp, ahead| {
            self.context.store.update(self.account(), |account| {
                account.facts = self.facts(now);
                for (wallet, next) in
                    account.wallets.iter_mut().zip(self.next_polls(place, now.elapsed + ahead))
                {
                    wallet.next_poll = Some(now.later(next.saturating_sub(now.elapsed)));
                }
                account.heartbeat_deadline = now.later(self.schedule.life);
            });
        };
        self.schedule.wait_until(self.due, &self.context, pause, tell).await;
    }

    fn publish_facts(&self) {
        let facts = self.facts(self.context.clock.now());
        self.context.store.update(self.account(), |account| account.facts = facts.clone());
    }

    /// When each wallet is polled next, if the one in this `place` is due at `due`: a wallet that the key was refused for
    /// is left out until the key may be tried again.
    fn next_polls(&self, place: usize, due: Duration) -> Vec<Duration> {
        let wallets: Vec<_> = self.plan.wallets().collect();
        let next = |(at, wallet): (usize, &Wallet)| {
            let slots_ahead = (at + wallets.len() - place) % wallets.len();
            let slot = due + self.plan.slot() * u32::try_from(slots_ahead).unwrap_or(u32::MAX);
            let refused_until = self.context.exchange.refused_until(&self.session, *wallet);
            first_slot_from(slot, self.plan.interval, refused_until.unwrap_or_default())
        };
        wallets.iter().enumerate().map(next).collect()
    }

    fn facts(&self, now: Timestamp) -> AccountFacts {
        let paused = self.context.exchange.pause(&self.session);
        let paused_until = paused.map(|paused| now.unix + paused.until.saturating_sub(now.elapsed));
        let credentials_loaded = self.session.credentials.loaded_at();
        let poller_restarts = self.restarts.count;
        AccountFacts { name: self.account().into(), paused_until, credentials_loaded, poller_restarts }
    }

    /// Whether the key was refused too short a time ago to be tried for `wallet`.
    async fn is_refused(&mut self, wallet: Wallet) -> bool {
        let now = self.context.clock.now();
        let until = |this: &Self| this.context.exchange.refused_until(&this.session, wallet);
        let Some(known) = until(self) else { return false };
        if known <= now.elapsed {
            // Time is up for the key: whatever stands in the files gets another chance.
            self.session.credentials.reset_rejected();
        }
        self.refresh_key(now).await;
        until(self).is_some_and(|until| until > now.elapsed)
    }

    /// Reads the key files if they have changed.
    async fn refresh_key(&mut self, now: Timestamp) {
        let account = &self.session.account;
        let refreshed = self.session.credentials.refresh(now.unix).await;
        let complaint = refreshed.as_ref().err().cloned();
        match &refreshed {
            Ok(true) => tracing::info!(%account, "the key files have changed: the new pair is tried"),
            Err(error) if complaint != self.last_key_error => {
                tracing::warn!(%account, "the changed key files are not used: {error}");
            }
            _ => {}
        }
        self.last_key_error = complaint;
    }

    /// Polls one wallet and writes down what came of it.
    async fn poll_wallet(&mut self, wallet: Wallet) -> PollEnd {
        self.refresh_key(self.context.clock.now()).await;
        let Some(mine) = self.context.store.account(&self.session.account) else { return PollEnd::Failed };
        let mut snapshots = mine.wallets.iter().map(|known| &known.snapshot);
        let Some(before) = snapshots.find(|known| known.config.wallet == wallet) else {
            return PollEnd::Failed;
        };
        let (context, life, longest) =
            (self.context.clone(), self.schedule.life, self.plan.timeout + PERMIT_WAIT_MAX);
        let name = self.session.account.clone();
        let beat = || {
            let alive_until = context.clock.now().later(life);
            context.store.update(&name, |account| account.heartbeat_deadline = alive_until);
        };
        let Ok((outcome, read)) = run_with_heartbeat(self.read(wallet, before), longest, beat).await else {
            self.publish_facts();
            return PollEnd::Failed;
        };
        let now = self.context.clock.now();
        // For two more intervals, so that one failed poll does not hide a clock.
        let shown_until = now.elapsed + 2 * self.plan.interval + self.plan.timeout;
        self.context.store.set_clocks(&read.clocks, shown_until);
        if read.rotated {
            tracing::info!(account = %self.session.account, "the new key pair has worked and is in use");
        }
        let end = match &outcome {
            PollOutcome::Answer { .. } => PollEnd::Good,
            PollOutcome::Doubted(_) => PollEnd::Doubted,
            PollOutcome::Failed(_) => PollEnd::Failed,
        };
        let took = read.took;
        let after = before.apply(PollResult { at: now, took, is_suspect: read.is_suspect, outcome });
        self.context.store.update(&self.session.account, |account| {
            let known = account.wallets.iter_mut().find(|known| known.snapshot.config.wallet == wallet);
            if let Some(known) = known {
                known.set(after.clone());
            }
            account.facts = self.facts(self.context.clock.now());
        });
        // The store is updated before the line is logged: a reader of the line may look at once.
        log_transition(before, &after, took);
        end
    }

    /// Reads a wallet. An answer that must be confirmed is held against another base URL's, if there is another; where
    /// that does not settle it, the next poll does.
    async fn read(
        &mut self,
        wallet: Wallet,
        before: &WalletSnapshot,
    ) -> Result<(PollOutcome, ReadSummary), Skipped> {
        let known = before.last_good.as_ref().and_then(LastGood::comparable_body);
        let request =
            ReadRequest { wallet, last_body: known, timeout: self.plan.timeout, excluded_host: None };
        let first = self.context.exchange.read(&mut self.session, request).await?;
        let clock = self.context.clock;
        let doubt_of = |read: &ReadAnswer| {
            read.answer.as_ref().and_then(|answer| before.find_doubt(answer, clock.now()))
        };
        let mut beside =
            ReadSummary { took: first.took, is_suspect: false, clocks: first.clocks, rotated: first.rotated };
        let answer = match first.outcome {
            Ok(answer) => answer,
            Err(failure) => return Ok((PollOutcome::Failed(failure), beside)),
        };
        let Some(doubt) = doubt_of(&answer) else { return Ok((answer.into(), beside)) };
        beside.is_suspect = true;
        let timeout = request.timeout.saturating_sub(beside.took);
        let request = ReadRequest { timeout, excluded_host: Some(answer.host), ..request };
        let mut second = None;
        if let Some(read) = self.read_elsewhere(request).await {
            beside.took += read.took;
            beside.clocks.extend(read.clocks);
            beside.rotated |= read.rotated;
            second = read.outcome.ok();
        }
        let agrees = |read: &ReadAnswer| doubt_of(read).is_none_or(|other| other.confirms(&doubt));
        let outcome = match second.filter(agrees) {
            Some(read) => read.into(),
            None => PollOutcome::Doubted(doubt),
        };
        Ok((outcome, beside))
    }

    /// Reads a wallet from a base URL other than the excepted one; `None` if there is no other, or nothing is sent.
    async fn read_elsewhere(&mut self, request: ReadRequest<'_>) -> Option<ReadOutcome> {
        let is_possible =
            self.session.endpoints.for_wallet(request.wallet).len() > 1 && !request.timeout.is_zero();
        if !is_possible {
            return None;
        }
        self.context.exchange.read(&mut self.session, request).await.ok()
    }
}

/// The details of a poll's reads, beside their outcome.
struct ReadSummary {
    took: Duration,
    /// Whether an answer had to be confirmed.
    is_suspect: bool,
    /// The clocks that the calls used, by host.
    clocks: Vec<(String, ClockReading)>,
    /// Whether a new key pair has worked.
    rotated: bool,
}

/// How a poll ended, for the command that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollEnd {
    /// Its answer is published.
    Good,
    /// Its answer must be confirmed.
    Doubted,
    /// There was no good answer, or nothing was asked.
    Failed,
}

impl From<ReadAnswer> for PollOutcome {
    fn from(read: ReadAnswer) -> Self {
        Self::Answer { sent: read.sent, answer: read.answer }
    }
}

/// Does `work`, with a `beat` now and then: a poller that waits for the exchange or for a permit is no stuck one. It
/// beats no more after the `longest` time that the work can take.
async fn run_with_heartbeat<T>(work: impl Future<Output = T>, longest: Duration, beat: impl Fn()) -> T {
    let began = Instant::now();
    tokio::pin!(work);
    loop {
        beat();
        if began.elapsed() >= longest {
            return work.await;
        }
        if let Ok(done) = tokio::time::timeout(HEARTBEAT_INTERVAL, &mut work).await {
            return done;
        }
    }
}

/// The first of the moments `due`, `due + interval` and so on that is not before `until`.
fn first_slot_from(due: Duration, interval: Duration, until: Duration) -> Duration {
    let intervals = until.saturating_sub(due).as_nanos().div_ceil(interval.as_nanos().max(1));
    due + interval * u32::try_from(intervals).unwrap_or(u32::MAX)
}

enum WakeUp {
    /// Before its slot.
    Early,
    InTime,
    Late(Duration),
}

/// When a poller's polls are due: a grid of slots, one wallet a slot.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    first: Duration,
    slot: Duration,
    /// How long a poller passes for alive after a heartbeat: two intervals and a timeout.
    life: Duration,
}

impl Schedule {
    fn new(first: Duration, slot: Duration, interval: Duration, timeout: Duration) -> Self {
        Self { first, slot, life: 2 * interval + timeout }
    }

    /// The first slot after `now`, and up to a tenth of a slot later by `random` in 0 to 1. Slots
    /// that were missed are left out: catching up would be a burst.
    fn next(self, now: Duration, random: f64) -> Duration {
        let slot = self.slot.max(Duration::from_millis(1));
        let passed = now.saturating_sub(self.first).as_nanos() / slot.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let jitter = slot.mul_f64(random.clamp(0.0, 1.0) / 10.0).min(Duration::from_secs(1));
        self.first + slot * (passed + u32::from(now >= self.first)) + jitter
    }

    /// Waits until a poll is due and no `pause` is on. Tells `tell` what time it is and how far ahead
    /// the poll is, often enough to be a heartbeat.
    async fn wait_until(
        self,
        due: Duration,
        context: &PollContext,
        pause: impl Fn() -> Option<Paused>,
        tell: impl Fn(Timestamp, Duration),
    ) {
        let PollContext { exchange, clock, .. } = context;
        let mut due = due;
        let mut left_out = 0;
        loop {
            let pause_begins = exchange.pause_begins();
            let now = clock.now();
            if let Some(paused) = pause() {
                // All may be paused until the same moment: each resumes in its own slot.
                due = due.max(self.next(paused.until, 0.0));
            }
            tell(now, due.saturating_sub(now.elapsed));
            tokio::select! {
                biased;
                () = pause_begins => {}
                awake = self.sleep_until_due(due, *clock) => match awake {
                    WakeUp::Early => {}
                    WakeUp::Late(now) if left_out < MAX_SKIPPED_SLOTS => {
                        left_out += 1;
                        due = self.next(now, fastrand::f64());
                    }
                    WakeUp::InTime | WakeUp::Late(_) => return,
                },
            }
        }
    }

    /// Sleeps until `due` or for a short nap on the way there: timers stand still while the machine is suspended, and
    /// after it wakes the balances are old. A poller that wakes late says so, for all do at once.
    async fn sleep_until_due(self, due: Duration, clock: Clock) -> WakeUp {
        let now = clock.now().elapsed;
        match due.saturating_sub(now) {
            Duration::ZERO if now.saturating_sub(due) > self.slot.min(LATE_WAKE_UP) => WakeUp::Late(now),
            Duration::ZERO => WakeUp::InTime,
            ahead => {
                tokio::time::sleep(ahead.min(self.life / 2).min(SLEEP_MAX)).await;
                WakeUp::Early
            }
        }
    }
}

/// One line at a change of state, not one a poll.
fn log_transition(before: &WalletSnapshot, after: &WalletSnapshot, took: Duration) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    let duration_seconds = took.as_secs_f64();
    if let Some(doubt) = after.doubt.as_ref().filter(|_| after.last_failure.is_none()) {
        return log_doubt(after, doubt, took);
    }
    match (&before.last_failure, &after.last_failure) {
        (None, None) if before.last_good.is_none() => {
            tracing::info!(%account, wallet, duration_seconds, "the first poll was good");
        }
        (None, None) if before.doubt.is_some() => {
            tracing::info!(%account, wallet, duration_seconds, "the doubt is settled, the balances are current");
        }
        (None, None) => tracing::debug!(%account, wallet, duration_seconds, "the poll was good"),
        (Some(failure), None) => {
            let failing_seconds =
                after.last_good.as_ref().map_or(0, |good| failure.since.age(good.at).as_secs());
            tracing::info!(%account, wallet, duration_seconds, failing_seconds, "polls are good again");
        }
        (old, Some(failure)) => {
            let reason = failure.failure.reason.label();
            if old.as_ref().is_some_and(|old| old.failure.reason == failure.failure.reason) {
                tracing::debug!(%account, wallet, reason, duration_seconds, "the poll failed again: {}", failure.failure.text);
            } else {
                tracing::warn!(%account, wallet, reason, duration_seconds, "the poll failed: {}", failure.failure.text);
            }
        }
    }
    let rejected = after.counters.rows_rejected - before.counters.rows_rejected;
    let rejecting = before.counters.rows_rejected > 0;
    if rejected > 0 && !rejecting {
        tracing::warn!(%account, wallet, rejected, "rows of a good answer were unusable; the others are published");
    }
}

/// After a start every watched currency without money is doubted once: that is no reason to warn.
fn log_doubt(after: &WalletSnapshot, doubt: &Doubt, took: Duration) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    let duration_seconds = took.as_secs_f64();
    if after.last_good.is_some() {
        tracing::warn!(%account, wallet, duration_seconds, "{doubt}: the last balances are held until another answer confirms that");
    } else {
        tracing::info!(%account, wallet, duration_seconds, "{doubt}: the balances are unknown until another answer confirms that");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_try_is_the_first_slot_at_which_one_is_made() {
        let seconds = Duration::from_secs;
        for (until, expected) in [(0, 40), (40, 40), (41, 70), (100, 100), (301, 310)] {
            assert_eq!(
                first_slot_from(seconds(40), seconds(30), seconds(until)),
                seconds(expected),
                "{until}"
            );
        }
    }

    #[test]
    fn slots_lie_on_a_grid_and_missed_ones_are_left_out() {
        let seconds = Duration::from_secs;
        let schedule = Schedule { first: seconds(7), slot: seconds(10), life: seconds(20) };
        for (now, expected) in [(0, 7), (6, 7), (7, 17), (16, 17), (17, 27), (60, 67)] {
            assert_eq!(schedule.next(seconds(now), 0.0), seconds(expected), "after {now}");
        }
        let late = schedule.next(seconds(8), 1.0);
        assert_eq!(late, seconds(18), "jitter is a tenth of a slot at the most");
        assert_eq!(schedule.next(late, 0.0), seconds(27), "and shifts no later slot");
        let slow = Schedule { first: Duration::ZERO, slot: seconds(3_600), life: seconds(7_200) };
        assert_eq!(slow.next(seconds(1), 1.0), seconds(3_601), "nor more than a second");
    }
}
