//! The account poller: reads the wallets of an account in turn and publishes each result.
//! Depends on neither HTTP, JSON nor the text format.

use std::{sync::Arc, time::Duration};

use smol_str::SmolStr;

use super::{
    NextPoll, PollContext, PollTarget, Poller,
    log_lines::{self, Circumstances},
    positions::{self, AfterBalances, PositionReader},
    schedule::first_slot_from,
};
use crate::{
    clock::{MonotonicTime, Timestamp, Uptime},
    config::{self, AccountConfig},
    exchange::{
        ClockReading, ExchangeHosts, KeySource, Paused, RawBody, ReadAnswer, ReadOutcome, ReadRequest,
        Session, SessionRead, Wallet,
    },
    snapshot::{
        positions::{FuturesRisk, PositionsConfig},
        store::{AccountLabels, AccountState},
        wallet::{PollOutcome, PollResult, WalletConfig, WalletSnapshot},
    },
};

/// The pause of `once` before it reads a suspect answer again: longer than a short glitch.
const CONFIRM_DELAY: Duration = Duration::from_secs(2);

/// The poller of an account.
pub type AccountPoller = Poller<AccountTarget>;

/// An account as the target of a poller.
#[derive(Debug)]
pub struct AccountTarget {
    pub(super) session: Session,
    pub(super) spec: Arc<AccountSpec>,
    /// The index of the wallet that is polled next.
    next_wallet: usize,
    /// The slot of the last poll; `None` for a command that polls once.
    slot: Option<MonotonicTime>,
    /// The last error of the key files, which is logged only once.
    last_key_error: Option<String>,
    position_reader: PositionReader,
}

/// The settings of an account's poller. A reload keeps a poller whose settings are equal.
#[derive(Debug, PartialEq)]
pub(super) struct AccountSpec {
    pub labels: AccountLabels,
    pub hosts: ExchangeHosts,
    pub keys: KeySource,
    /// One per wallet, at least one.
    pub wallets: Vec<Arc<WalletConfig>>,
    /// One per wallet whose positions are read.
    pub positions: Vec<Arc<PositionsConfig>>,
    pub interval: Duration,
    pub timeout: Duration,
}

/// How a poll ended, for a command that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollStatus {
    /// The answer was published, and that of positions, if they are read.
    Good,
    /// The answer is suspect: another one must confirm it.
    Suspect,
    /// There was no good answer.
    Failed,
    /// No request was sent: the account is paused, or its key was refused.
    Skipped,
}

/// A poll's reads, apart from their outcome.
struct ReadSummary {
    took: Duration,
    /// Whether an answer was suspect.
    is_suspect: bool,
    /// The clocks that the calls used, by host.
    clocks: Vec<(String, ClockReading)>,
    /// Whether a new key pair was accepted.
    rotated: bool,
}

impl AccountSpec {
    pub(super) fn new(account: &AccountConfig) -> Self {
        let wallet = |wallet: &Wallet| {
            let watch = account.watch.iter().filter(|(watched, _)| watched == wallet);
            Arc::new(WalletConfig {
                account: account.name.clone(),
                wallet: *wallet,
                watch: watch.map(|(_, watch)| watch.clone()).collect(),
                filter: account.filter.clone(),
                max_age: account.max_age,
            })
        };
        let positions = |(wallet, risk): (Wallet, FuturesRisk)| {
            let watch = account.watch.iter().filter(|(watched, _)| *watched == wallet);
            Arc::new(PositionsConfig {
                account: account.name.clone(),
                wallet,
                risk,
                filter: account.filter.clone(),
                watched: watch.map(|(_, watch)| watch.currency.clone()).collect(),
                max_age: account.max_age,
            })
        };
        let risks = account.position_wallets().zip(account.futures_risk.iter().cycle().copied());
        Self {
            labels: Arc::clone(&account.labels),
            positions: risks.map(positions).collect(),
            hosts: account.hosts.clone(),
            keys: account.credentials.source().clone(),
            wallets: account.wallets.iter().map(wallet).collect(),
            interval: account.poll_interval,
            timeout: account.poll_timeout,
        }
    }

    /// The time between two polls of the account, whichever wallets they read.
    pub(super) fn slot_length(&self) -> Duration {
        self.interval / u32::try_from(self.wallets.len()).unwrap_or(u32::MAX).max(1)
    }
}

impl PollTarget for AccountTarget {
    fn account(&self) -> Option<&str> {
        Some(&self.session.account)
    }

    fn pause(&self, context: &PollContext) -> Option<Paused> {
        context.exchange.pause(&self.session)
    }

    fn publish_next_poll(
        &self,
        context: &PollContext,
        now: Timestamp,
        next: NextPoll,
        heartbeat_deadline: Uptime,
    ) {
        context.store.update_account(&self.session.account, |account| {
            account.heartbeat_deadline = heartbeat_deadline;
            self.update_state(context, &mut account.state, now);
            for (wallet, next) in account.wallets.iter_mut().zip(self.next_polls(context, next)) {
                wallet.next_poll = Some(next.max(now.monotonic));
            }
        });
    }

    /// Polls the next wallet, unless the key was rejected for it a short time ago.
    async fn poll_next(&mut self, context: &PollContext, slot: MonotonicTime) {
        self.slot = Some(slot);
        let spec = Arc::clone(&self.spec);
        let index = self.next_wallet;
        self.next_wallet = (index + 1) % spec.wallets.len().max(1);
        if let Some(config) = spec.wallets.get(index)
            && !self.is_key_blocked(context, config.wallet, slot).await
        {
            self.poll_wallet(context, config.wallet).await;
        }
    }
}

impl AccountTarget {
    pub(super) fn new(session: Session, spec: AccountSpec) -> Self {
        Self {
            session,
            spec: Arc::new(spec),
            next_wallet: 0,
            slot: None,
            last_key_error: None,
            position_reader: PositionReader::default(),
        }
    }

    /// Whether `account` is the account that this target polls, and not another one with the same name: it belongs to
    /// the same exchange, and has the same key or the key that replaced it.
    pub(super) fn is_same_account(&self, account: &AccountConfig) -> bool {
        let (old, new) = (&self.spec.hosts, &account.hosts);
        let key = self.session.credentials.pair().id();
        old.api == new.api
            && !config::is_other_exchange(old, new)
            && (self.spec.keys == *account.credentials.source() || key == account.credentials.pair().id())
    }

    /// When each wallet is polled next, if the next poll of the account is `next`. The slots in which a rejected key is not
    /// tried do not count.
    fn next_polls(&self, context: &PollContext, next: NextPoll) -> Vec<MonotonicTime> {
        let count = self.spec.wallets.len();
        let next_of_wallet = |(index, config): (usize, &Arc<WalletConfig>)| {
            let slots_ahead = (index + count - self.next_wallet) % count;
            let ahead = self.spec.slot_length() * u32::try_from(slots_ahead).unwrap_or(u32::MAX);
            let due = next.due + ahead;
            let blocked_until = context.exchange.refused_until(&self.session, config.wallet);
            blocked_until.map_or(due, |earliest| {
                due.max(first_slot_from(next.slot + ahead, self.spec.interval, earliest))
            })
        };
        self.spec.wallets.iter().enumerate().map(next_of_wallet).collect()
    }

    /// When `wallet` is polled next, after a poll that began in `slot` and ended at `now`.
    fn next_try(
        &self,
        context: &PollContext,
        wallet: Wallet,
        slot: MonotonicTime,
        now: Timestamp,
    ) -> MonotonicTime {
        let refused_until = context.exchange.refused_until(&self.session, wallet);
        let paused_until = context.exchange.pause(&self.session).map(|paused| paused.until);
        let earliest = refused_until.max(paused_until).unwrap_or(now.monotonic).max(now.monotonic);
        first_slot_from(slot + self.spec.interval, self.spec.interval, earliest)
    }

    pub(super) fn update_state(&self, context: &PollContext, facts: &mut AccountState, now: Timestamp) {
        let paused = context.exchange.pause(&self.session);
        facts.paused_until =
            paused.map(|paused| now.unix + paused.until.saturating_duration_since(now.monotonic));
        facts.credentials_loaded = self.session.credentials.loaded_at();
    }

    /// Logs why a poller sends no calls: the pause of its account, and each wallet for which the exchange has refused the
    /// key. Both come from another process or from another account with the same key.
    pub(super) fn log_limits(&self, context: &PollContext) {
        let (account, now) = (&self.session.account, context.clock.now());
        if let Some(paused) = context.exchange.pause(&self.session) {
            return log_lines::log_pause(account, paused.until, now);
        }
        for config in &self.spec.wallets {
            if let Some(until) = context.exchange.refused_until(&self.session, config.wallet) {
                log_lines::log_refusal(account, config.wallet, until, now);
            }
        }
    }

    fn publish_state(&self, context: &PollContext) {
        let now = context.clock.now();
        context.store.update_account(&self.session.account, |account| {
            self.update_state(context, &mut account.state, now);
        });
    }

    /// Whether the key was rejected for `wallet` so recently that it must not be tried in `slot`. The slot decides and not the
    /// jitter of the poll, so that the time of the next try is known beforehand.
    async fn is_key_blocked(&mut self, context: &PollContext, wallet: Wallet, slot: MonotonicTime) -> bool {
        let now = context.clock.now();
        let blocked_until = |this: &Self| context.exchange.refused_until(&this.session, wallet);
        let Some(until) = blocked_until(self) else { return false };
        if until <= slot {
            // The time is over: the keys in the files get another chance.
            self.session.credentials.reset_rejected();
        }
        self.refresh_keys(now).await;
        blocked_until(self).is_some_and(|until| until > slot)
    }

    /// Reads the key files if they changed.
    async fn refresh_keys(&mut self, now: Timestamp) {
        let account = &self.session.account;
        let refreshed = self.session.credentials.refresh(now.unix).await;
        let key_error = refreshed.as_ref().err().cloned();
        match &refreshed {
            Ok(true) => tracing::info!(%account, "key files changed, trying the new key pair"),
            Err(error) if key_error != self.last_key_error => {
                tracing::warn!(%account, "cannot use the changed key files, the previous key pair stays in use: {error}");
            }
            _ => {}
        }
        self.last_key_error = key_error;
    }

    /// Polls a wallet and publishes the result.
    async fn poll_wallet(&mut self, context: &PollContext, wallet: Wallet) -> PollStatus {
        self.refresh_keys(context.clock.now()).await;
        let Some(entry) = context.store.account(&self.session.account) else { return PollStatus::Failed };
        let mut entries = entry.wallets.iter();
        let Some(entry) = entries.find(|entry| entry.snapshot.config.wallet == wallet) else {
            return PollStatus::Failed;
        };
        let before = &entry.snapshot;
        let Some((outcome, read)) = self.read(context, wallet, before).await else {
            self.publish_state(context);
            return PollStatus::Skipped;
        };
        let now = context.clock.now();
        // Clocks stay visible for two intervals, so that one failed poll does not hide them.
        let visible_until = now.monotonic + 2 * self.spec.interval + self.spec.timeout;
        context.store.set_clocks(&read.clocks, visible_until);
        if read.rotated {
            self.position_reader.reset_refusals();
            tracing::info!(account = %self.session.account, "new key pair accepted, using it");
        }
        let mut end = match &outcome {
            PollOutcome::Answer { .. } => PollStatus::Good,
            PollOutcome::Suspect(_) => PollStatus::Suspect,
            PollOutcome::Failed(_) => PollStatus::Failed,
        };
        let failure = match &outcome {
            PollOutcome::Failed(failure) => Some(failure.clone()),
            _ => None,
        };
        let took = read.took;
        let after = before.apply(PollResult { at: now, took, is_suspect: read.is_suspect, outcome });
        context.store.update_account(&self.session.account, |account| {
            let entry = account.wallets.iter_mut().find(|entry| entry.snapshot.config.wallet == wallet);
            if let Some(entry) = entry {
                entry.set_snapshot(after.clone());
            }
            self.update_state(context, &mut account.state, now);
        });
        if end == PollStatus::Good {
            context.store.record_history(&after);
        }
        // Update the store before logging: a reader of the line may look at once.
        let next_try = self.slot.map(|slot| self.next_try(context, wallet, slot, now));
        let circumstances = Circumstances { now, took, api: self.session.hosts.api, next_try };
        log_lines::log_transition(before, &after, &circumstances);
        let balances = AfterBalances::new(failure, end == PollStatus::Good, &after);
        let timeout = self.spec.timeout.saturating_sub(took);
        if !self.poll_positions(context, wallet, balances, timeout).await && end == PollStatus::Good {
            end = PollStatus::Failed;
        }
        end
    }

    /// Reads the positions of `wallet` within `timeout` and publishes the result, if they are read at all. Returns
    /// whether they are up to date.
    async fn poll_positions(
        &mut self,
        context: &PollContext,
        wallet: Wallet,
        balances: AfterBalances,
        timeout: Duration,
    ) -> bool {
        let entry = context.store.account(&self.session.account);
        let wallets = entry.iter().flat_map(|entry| &entry.wallets);
        let mut snapshots = wallets.filter_map(|entry| entry.positions.as_ref());
        let Some(before) = snapshots.find(|snapshot| snapshot.config.wallet == wallet) else { return true };
        let (outcome, margins) = match balances {
            AfterBalances::Failed(failure) => (Err(failure), None),
            AfterBalances::Read(margins) => {
                let (exchange, session) = (&context.exchange, &mut self.session);
                let now = context.clock.now().monotonic;
                let read = self.position_reader.read(exchange, session, wallet, timeout, now).await;
                let Some(outcome) = read else { return false };
                (outcome, margins)
            }
        };
        let now = context.clock.now();
        let after = Arc::new(before.apply(now, outcome, margins.as_deref()));
        context.store.update_account(&self.session.account, |account| {
            let entry = account.wallets.iter_mut().find(|entry| entry.snapshot.config.wallet == wallet);
            if let Some(entry) = entry {
                entry.positions = Some(Arc::clone(&after));
            }
            self.update_state(context, &mut account.state, now);
        });
        // Update the store before logging: a reader of the line may look at once.
        positions::log_transition(before, &after, now);
        after.last_failure.is_none()
    }

    /// Reads a wallet. If the answer is suspect and there is another base URL, that one is asked too; if it does not
    /// confirm the answer, the next poll must. `None` if no request was sent.
    async fn read(
        &mut self,
        context: &PollContext,
        wallet: Wallet,
        before: &WalletSnapshot,
    ) -> Option<(PollOutcome, ReadSummary)> {
        let watched: Vec<_> = before.config.watch.iter().map(|watch| watch.currency.clone()).collect();
        let request = ReadRequest {
            wallet,
            last_body: self.comparable_body(context, before),
            timeout: self.spec.timeout,
            excluded_host: None,
            watched: &watched,
        };
        let first = context.exchange.read(&mut self.session, request).await;
        let find_suspect_claims = |read: &ReadAnswer| {
            read.answer.as_ref().and_then(|answer| before.find_suspect_claims(answer, context.clock.now()))
        };
        let mut summary =
            ReadSummary { took: first.took, is_suspect: false, clocks: first.clocks, rotated: first.rotated };
        let answer = match first.outcome {
            ReadOutcome::Answered(answer) => answer,
            ReadOutcome::Failed(failure) => return Some((PollOutcome::Failed(failure), summary)),
            ReadOutcome::Skipped => return None,
        };
        let Some(claims) = find_suspect_claims(&answer) else { return Some((answer.into(), summary)) };
        summary.is_suspect = true;
        // The answer that confirms the loss must ask for each of them again.
        self.session.forget_single_reads(&claims.lost);
        let timeout = request.timeout.saturating_sub(summary.took);
        let request = ReadRequest { timeout, excluded_host: Some(answer.host), ..request };
        let mut second = None;
        if let Some(read) = self.read_elsewhere(context, request).await {
            summary.took += read.took;
            summary.clocks.extend(read.clocks);
            summary.rotated |= read.rotated;
            if let ReadOutcome::Answered(answer) = read.outcome {
                second = Some(answer);
            }
        }
        let confirms =
            |read: &ReadAnswer| find_suspect_claims(read).is_none_or(|other| other.confirms(&claims));
        if let Some(read) = second.filter(confirms) {
            return Some((read.into(), summary));
        }
        self.session.forget_single_reads(&claims.lost);
        Some((PollOutcome::Suspect(claims), summary))
    }

    /// The body of the last good answer; `None` if an equal one must be decoded, because a watched currency that it leaves out is
    /// to be asked for.
    fn comparable_body<'a>(&self, context: &PollContext, before: &'a WalletSnapshot) -> Option<&'a RawBody> {
        let (wallet, now) = (before.config.wallet, context.clock.now().monotonic);
        let good = before.last_good.as_ref()?;
        let is_due = |currency: &SmolStr| self.session.is_single_read_due(wallet, currency, now);
        good.comparable_body().filter(|_| !good.missing_currencies().any(is_due))
    }

    /// Reads a wallet from a base URL other than the excluded one; `None` if there is no other.
    async fn read_elsewhere(
        &mut self,
        context: &PollContext,
        request: ReadRequest<'_>,
    ) -> Option<SessionRead<ReadAnswer>> {
        let has_other = self.session.hosts.for_wallet(request.wallet).len() > 1;
        if !has_other || request.timeout.is_zero() {
            return None;
        }
        Some(context.exchange.read(&mut self.session, request).await)
    }
}

impl AccountPoller {
    /// The name of the account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.target.session.account
    }

    /// Polls every wallet once, and a wallet with a suspect answer a second time, for `once`. Returns the number
    /// of wallets and the number of wallets without a published answer.
    pub async fn run_once(&mut self) -> (usize, usize) {
        let spec = Arc::clone(&self.target.spec);
        let (mut failed, mut has_skipped) = (0, false);
        for config in &spec.wallets {
            let mut end = self.target.poll_wallet(&self.context, config.wallet).await;
            if end == PollStatus::Suspect {
                tokio::time::sleep(CONFIRM_DELAY).await;
                end = self.target.poll_wallet(&self.context, config.wallet).await;
            }
            failed += usize::from(end != PollStatus::Good);
            has_skipped |= end == PollStatus::Skipped;
        }
        if has_skipped {
            self.target.log_limits(&self.context);
        }
        (spec.wallets.len(), failed)
    }

    /// Polls every wallet once. Returns how each poll ended.
    pub async fn poll_wallets(&mut self) -> Vec<PollStatus> {
        let spec = Arc::clone(&self.target.spec);
        let mut ends = Vec::new();
        for config in &spec.wallets {
            ends.push(self.target.poll_wallet(&self.context, config.wallet).await);
        }
        ends
    }
}

impl From<ReadAnswer> for PollOutcome {
    fn from(read: ReadAnswer) -> Self {
        Self::Answer { sent: read.sent, answer: read.answer }
    }
}
