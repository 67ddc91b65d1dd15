//! Reads the open positions of a wallet right after its balances. A failure changes no balance and counts in no poll of
//! balances.
//! Depends on neither HTTP, JSON nor the text format.

use std::{collections::HashMap, time::Duration};

use super::log_lines::{FailureChange, LastAnswer};
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{
        Client, CurrencyMargin, Failure, PositionAnswer, ReadOutcome, Reason, Session, Wallet,
        decode_margins, suggest_fix,
    },
    snapshot::{positions::PositionsSnapshot, wallet::WalletSnapshot},
};

/// The time from a refusal to show positions to the next try. The key itself works, because it has just read balances.
const RETRY_REFUSED_AFTER: Duration = Duration::from_mins(5);

/// Reads the positions of an account, and remembers when the exchange refused to show them.
#[derive(Debug, Default)]
pub(super) struct PositionReader {
    /// When to ask again.
    refused_until: HashMap<Wallet, MonotonicTime>,
}

/// What the read of a wallet's balances means for the read of its positions.
pub(super) enum AfterBalances {
    /// Positions can be read. The margins of the same poll, if its answer was good.
    Read(Option<Vec<CurrencyMargin>>),
    /// The exchange could not be reached or refused the key: positions fail for the same reason, and are not asked for.
    Failed(Failure),
}

impl AfterBalances {
    /// Judges a read of balances: its `failure`, if it failed, and whether it gave a good answer. `after` is the
    /// wallet's snapshot after the read.
    pub(super) fn new(failure: Option<Failure>, is_good: bool, after: &WalletSnapshot) -> Self {
        // With these reasons the exchange answered, and the key works.
        let answered = [Reason::Decode, Reason::Body, Reason::Cached, Reason::Api];
        if let Some(failure) = failure.filter(|failure| !answered.contains(&failure.reason)) {
            let text = format!("not asked for, because the balances failed: {}", failure.text);
            return Self::Failed(Failure { text, ..failure });
        }
        let raw_body = after.last_good.as_ref().filter(|_| is_good).and_then(|good| good.raw_body.as_ref());
        Self::Read(raw_body.map(decode_margins))
    }
}

impl PositionReader {
    /// Reads the positions of `wallet` within `timeout`. `None` if nothing was asked, because the account is paused or the
    /// exchange refused a short time before `now`.
    pub(super) async fn read(
        &mut self,
        exchange: &Client,
        session: &mut Session,
        wallet: Wallet,
        timeout: Duration,
        now: MonotonicTime,
    ) -> Option<Result<(Timestamp, PositionAnswer), Failure>> {
        if self.refused_until.get(&wallet).is_some_and(|until| now < *until) {
            return None;
        }
        let outcome = match exchange.read_positions(session, wallet, timeout).await.outcome {
            ReadOutcome::Answered(read) => Ok((read.sent, read.answer)),
            ReadOutcome::Failed(failure) => Err(failure),
            ReadOutcome::Skipped => return None,
        };
        self.refused_until.remove(&wallet);
        if outcome.as_ref().is_err_and(|failure| failure.reason.is_key_fault()) {
            self.refused_until.insert(wallet, now + RETRY_REFUSED_AFTER);
        }
        Some(outcome)
    }

    /// Forgets refusals: a new key may have other permissions.
    pub(super) fn reset_refusals(&mut self) {
        self.refused_until.clear();
    }
}

/// Logs changes of state at the levels info and warn, and every poll at the level debug.
pub(super) fn log_transition(before: &PositionsSnapshot, after: &PositionsSnapshot, now: Timestamp) {
    let (account, wallet) = (&after.config.account, after.config.wallet.label());
    match (&before.last_failure, &after.last_failure) {
        (None, None) if before.last_good.is_none() => {
            tracing::info!(%account, wallet, "first positions read");
        }
        (None, None) => tracing::debug!(%account, wallet, "positions read"),
        (Some(failure), None) => {
            let failing_seconds =
                after.last_good.as_ref().map_or(0, |good| failure.since.age(good.at).as_secs());
            tracing::info!(%account, wallet, failing_seconds, "positions can be read again");
        }
        (old, Some(new)) => {
            let (reason, text, fix) =
                (new.failure.reason.label(), &new.failure.text, suggest_fix(&new.failure));
            let LastAnswer { state: positions, held_until } = LastAnswer::new(after.visible_until(now), now);
            let was_visible = |at| before.visible(at).is_some();
            let is_visible = after.visible(now).is_some();
            match FailureChange::new(old.as_ref(), new, was_visible, is_visible) {
                FailureChange::Nothing => {
                    tracing::debug!(%account, wallet, reason, "still cannot read positions: {text}");
                }
                FailureChange::Expired => {
                    tracing::warn!(%account, wallet, reason, positions, fix, "positions are unknown, because the last good answer is older than max_age: {text}");
                }
                FailureChange::NewReason => {
                    tracing::warn!(%account, wallet, reason, positions, held_until, fix, "cannot read positions: {text}");
                }
            }
        }
    }
    let hidden = |snapshot: &PositionsSnapshot| {
        snapshot.last_good.as_ref().map_or((0, 0), |good| (good.over_limit, good.unusable))
    };
    let ((over_before, unusable_before), (over_limit, unusable)) = (hidden(before), hidden(after));
    if over_limit > 0 && over_before == 0 {
        let max_positions = after.config.risk.max_positions;
        tracing::warn!(%account, wallet, over_limit, max_positions, "more positions than max_positions: showing those nearest to liquidation, raise max_positions to show all");
    }
    if unusable > 0 && unusable_before == 0 {
        tracing::warn!(%account, wallet, unusable, "some rows of positions are unusable: these positions are unknown, the others are published");
    }
}
