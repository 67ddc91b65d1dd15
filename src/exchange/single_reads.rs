//! Watched currencies that the list of v4 spot leaves out, and when the exchange was last asked for each alone.
//!
//! v4 lists no zero balances, and exchanges with the same software hide currencies that they delisted. Only the call for
//! one currency tells the two apart. Pure: sends nothing and reads no clock.

use std::{collections::HashMap, time::Duration};

use smol_str::SmolStr;

use super::balance::BalanceAnswer;
use crate::clock::MonotonicTime;

/// How long a currency without a balance is not asked for again.
pub const SINGLE_READ_INTERVAL: Duration = Duration::from_hours(1);

/// When the exchange last said that the account has none of a currency. A currency that it has is not here: its balance must be
/// read with every poll.
#[derive(Debug, Default)]
pub(super) struct SingleReads(HashMap<SmolStr, MonotonicTime>);

impl SingleReads {
    /// Whether the exchange must be asked for `currency` alone, if its list leaves it out.
    pub(super) fn is_due(&self, currency: &str, now: MonotonicTime) -> bool {
        let last = self.0.get(currency);
        last.is_none_or(|last| now.saturating_duration_since(*last) >= SINGLE_READ_INTERVAL)
    }

    /// Records the answer to the call for `currency`.
    pub(super) fn record(&mut self, currency: &str, has_balance: bool, now: MonotonicTime) {
        if has_balance {
            self.0.remove(currency);
        } else {
            self.0.insert(currency.into(), now);
        }
    }

    /// Forgets these currencies: another answer must confirm that the account has none of them.
    pub(super) fn forget<'a>(&mut self, currencies: impl IntoIterator<Item = &'a SmolStr>) {
        for currency in currencies {
            self.0.remove(currency);
        }
    }

    /// Forgets the currencies that a list had, so that each is asked for as soon as it is missing.
    pub(super) fn forget_listed(&mut self, answer: &BalanceAnswer) {
        self.0.retain(|currency, _| answer.is_missing(currency));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    #[test]
    fn a_currency_is_asked_for_until_the_account_has_none_of_it_and_again_after_an_hour() {
        let mut reads = SingleReads::default();
        let is_due = |reads: &SingleReads, seconds| reads.is_due("gone", at(seconds).monotonic);
        assert!(is_due(&reads, 0));
        reads.record("gone", true, at(0).monotonic);
        assert!(is_due(&reads, 1), "its balance is read with every poll");
        reads.record("gone", false, at(10).monotonic);
        assert!(!is_due(&reads, 11) && !is_due(&reads, 3_609) && is_due(&reads, 3_610));
        reads.forget_listed(&BalanceAnswer::default());
        assert!(!is_due(&reads, 11), "it is still missing");
        let listed = BalanceAnswer { unreadable: vec!["gone".into()], ..BalanceAnswer::default() };
        reads.forget_listed(&listed);
        assert!(is_due(&reads, 11));
    }
}
