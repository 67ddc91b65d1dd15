//! Log lines about polls: what changed, until when the last good answer counts, when the exporter tries again, and what to
//! do. Sends nothing and changes nothing.

use std::time::Duration;

use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{
        ApiVersion, Failure, Reason, Wallet, suggest_fix, suggest_opening_wallet, suggest_other_version,
    },
    snapshot::wallet::{HoldingState, LastFailure, SuspectClaims, WalletSnapshot},
};

/// The circumstances of a poll.
pub(super) struct Circumstances {
    /// When the poll ended.
    pub now: Timestamp,
    pub took: Duration,
    pub api: ApiVersion,
    /// When the wallet is polled next; `None` if nobody schedules polls, as in `once`.
    pub next_try: Option<MonotonicTime>,
}

/// Whether the last good answer still counts, as fields of a line.
pub(super) struct LastAnswer {
    /// `held` or `unknown`.
    pub state: &'static str,
    /// Until when it is held.
    pub held_until: Option<String>,
}

impl LastAnswer {
    /// `visible_until`: until when the last good answer is shown, if it is.
    pub(super) fn new(visible_until: Option<MonotonicTime>, now: Timestamp) -> Self {
        let held_until = visible_until.map(|until| format_time(until, now));
        Self { state: if held_until.is_some() { "held" } else { "unknown" }, held_until }
    }
}

/// What a failed poll changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureChange {
    /// The poll before it did not fail, or for another reason.
    NewReason,
    /// The reason is the same, and the last good answer became too old since the poll before.
    Expired,
    Nothing,
}

impl FailureChange {
    /// `old` and `new`: the failures of the previous and of this poll. `was_visible`: whether the last good answer was shown
    /// at a time. `is_visible`: whether it is shown now.
    pub(super) fn new(
        old: Option<&LastFailure>,
        new: &LastFailure,
        was_visible: impl FnOnce(Timestamp) -> bool,
        is_visible: bool,
    ) -> Self {
        match old {
            Some(old) if old.failure.reason != new.failure.reason => Self::NewReason,
            Some(old) if !is_visible && was_visible(old.at) => Self::Expired,
            Some(_) => Self::Nothing,
            None => Self::NewReason,
        }
    }
}

/// In seconds, rounded to a millisecond.
fn round_to_seconds(took: Duration) -> f64 {
    let millis = took.saturating_add(Duration::from_micros(500)).as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).as_secs_f64()
}

fn format_time(at: MonotonicTime, now: Timestamp) -> String {
    let at = now.unix + at.saturating_duration_since(now.monotonic);
    humantime::format_rfc3339_seconds(at.into()).to_string()
}

/// Logs changes of state at the levels info and warn, and every poll at the level debug.
pub(super) fn log_transition(before: &WalletSnapshot, after: &WalletSnapshot, poll: &Circumstances) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    let duration_seconds = round_to_seconds(poll.took);
    if let Some(claims) = after.suspect_claims.as_ref().filter(|_| after.last_failure.is_none()) {
        return log_suspect_answer(after, claims, poll);
    }
    match (&before.last_failure, &after.last_failure) {
        (None, None) if before.last_good.is_none() => {
            tracing::info!(%account, wallet, duration_seconds, "first poll succeeded");
        }
        (None, None) if before.suspect_claims.is_some() => {
            tracing::info!(%account, wallet, duration_seconds, "suspect answer resolved, balances are current");
        }
        (None, None) => tracing::debug!(%account, wallet, duration_seconds, "poll succeeded"),
        (Some(failure), None) => {
            let failing_seconds =
                after.last_good.as_ref().map_or(0, |good| failure.since.age(good.at).as_secs());
            tracing::info!(%account, wallet, duration_seconds, failing_seconds, "polls succeed again, balances are current");
        }
        (old, Some(new)) => {
            let was_visible = |at| before.visible(at).is_some();
            let is_visible = after.visible(poll.now).is_some();
            let change = FailureChange::new(old.as_ref(), new, was_visible, is_visible);
            log_failure(after, &new.failure, change, poll);
        }
    }
    if let Some(problems) = describe_watch_problems(after).filter(|_| !before.has_checked_watch) {
        tracing::warn!(%account, wallet, "{problems}");
    }
    let rejected = after.counters.rows_rejected - before.counters.rows_rejected;
    if rejected > 0 && before.counters.rows_rejected == 0 {
        tracing::warn!(%account, wallet, rejected, "some rows of the answer are unusable: their balances are unknown, the others are published");
    }
}

fn log_failure(after: &WalletSnapshot, failure: &Failure, change: FailureChange, poll: &Circumstances) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    let (reason, text, fix) = (failure.reason.label(), &failure.text, suggest_fix(failure));
    let duration_seconds = round_to_seconds(poll.took);
    let next_try = poll.next_try.map(|at| format_time(at, poll.now));
    let LastAnswer { state: balances, held_until } = LastAnswer::new(after.visible_until(poll.now), poll.now);
    match change {
        FailureChange::Nothing => {
            tracing::debug!(%account, wallet, reason, duration_seconds, "poll failed again: {text}");
        }
        FailureChange::Expired => {
            tracing::warn!(%account, wallet, reason, balances, next_try, fix, "balances are unknown, because the last good answer is older than max_age: {text}");
        }
        FailureChange::NewReason => {
            let hint = suggest_cause(after, failure, poll.api);
            let hint = hint.map_or_else(String::new, |text| format!("; {text}"));
            tracing::warn!(%account, wallet, reason, duration_seconds, balances, held_until, next_try, fix, "poll failed: {text}{hint}");
        }
    }
}

/// A cause that the user may not think of. A wallet that has been read before is open, and its key is for this version.
fn suggest_cause(after: &WalletSnapshot, failure: &Failure, api: ApiVersion) -> Option<&'static str> {
    if after.last_good.is_some() {
        return None;
    }
    let wallet = Some(after.config.wallet);
    let other = suggest_other_version(api, wallet, failure).filter(|_| failure.reason == Reason::Auth);
    other.or_else(|| suggest_opening_wallet(wallet, failure))
}

/// Logs that nothing is sent for an account before `until`.
pub(super) fn log_pause(account: &str, until: MonotonicTime, now: Timestamp) {
    let (paused_until, fix) = (format_time(until, now), suggest_fix(&Failure::new(Reason::RateLimited, "")));
    tracing::warn!(
        account,
        paused_until,
        fix,
        "the account is paused after a rate-limit reply, sending nothing for it"
    );
}

/// Logs that no prices are read before `until`.
pub(super) fn log_price_pause(until: MonotonicTime, now: Timestamp) {
    let paused_until = format_time(until, now);
    tracing::warn!(paused_until, "prices are paused after a rate-limit reply");
}

/// Logs that a poller does not try a refused key before `until`.
pub(super) fn log_refusal(account: &str, wallet: Wallet, until: MonotonicTime, now: Timestamp) {
    let (wallet, next_try) = (wallet.label(), format_time(until, now));
    let fix = "replace the key files by those of a valid key, which is tried at once";
    tracing::warn!(
        account,
        wallet,
        next_try,
        fix,
        "the exchange refused this key, waiting before the next try"
    );
}

/// Which watched currencies are missing from the last good answer, and which are low. `None` without such a currency, or if no
/// answer has arrived since they were configured.
fn describe_watch_problems(snapshot: &WalletSnapshot) -> Option<String> {
    let good = snapshot.last_good.as_ref().filter(|_| snapshot.has_checked_watch)?;
    let (mut missing, mut low) = (Vec::new(), Vec::new());
    for watch in &snapshot.config.watch {
        let state = good.find_state(&watch.currency);
        let free = state.and_then(HoldingState::amounts).map(|(free, _)| free);
        if state == Some(&HoldingState::Missing) {
            missing.push(&*watch.currency);
        } else if free.zip(watch.thresholds).is_some_and(|(free, thresholds)| free < thresholds.warn) {
            low.push(&*watch.currency);
        }
    }
    let parts =
        [(missing, "missing from the answer: ", " (check the spelling)"), (low, "below the threshold: ", "")];
    let parts = parts.iter().filter(|(names, ..)| !names.is_empty());
    let parts: Vec<_> =
        parts.map(|(names, before, after)| format!("{before}{}{after}", names.join(", "))).collect();
    (!parts.is_empty()).then(|| format!("watched currencies {}", parts.join("; ")))
}

/// Logs a suspect answer, at the level warn if there was a good answer before. After a start every watched currency without
/// a balance is suspect once.
fn log_suspect_answer(after: &WalletSnapshot, claims: &SuspectClaims, poll: &Circumstances) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    let duration_seconds = round_to_seconds(poll.took);
    let next_try = poll.next_try.map(|at| format_time(at, poll.now));
    if after.last_good.is_some() {
        let LastAnswer { state: balances, held_until } =
            LastAnswer::new(after.visible_until(poll.now), poll.now);
        tracing::warn!(%account, wallet, duration_seconds, balances, held_until, next_try, "suspect answer: {claims}; keeping the last balances until another answer confirms it");
    } else {
        tracing::info!(%account, wallet, duration_seconds, next_try, "suspect answer: {claims}; balances stay unknown until another answer confirms it");
    }
}
