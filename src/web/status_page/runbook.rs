//! Links from a problem on the page to the runbook of the alert that it causes. No markup.

use crate::exchange::Reason;

/// The address of the shipped runbooks; the `runbook_url` of an alert rule begins with it too.
pub const RUNBOOKS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/deploy/runbooks/");

/// The runbook of an alert, by the alert's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runbook(&'static str);

impl Runbook {
    pub(super) const LOW: Self = Self("XtBalanceLow");
    pub(super) const PAUSED: Self = Self("XtAccountPaused");
    pub(super) const POLLS: Self = Self("XtPollFailing");
    pub(super) const SUSPECT: Self = Self("XtSuspectSnapshots");
    pub(super) const LIQUIDATION: Self = Self("XtLiquidationNear");
    pub(super) const POSITIONS: Self = Self("XtPositionsUnknown");
    pub(super) const PRICES: Self = Self("XtPricesUnknown");
    pub(super) const AUTH: Self = Self("XtAuthFailing");
    pub(super) const CLOCK: Self = Self("XtClockSkew");

    /// The runbook for polls that fail for this reason.
    pub(super) fn of_failure(reason: Reason) -> Self {
        match reason {
            Reason::Auth | Reason::Signature => Self::AUTH,
            Reason::RateLimited => Self::PAUSED,
            Reason::Clock => Self::CLOCK,
            _ => Self::POLLS,
        }
    }

    pub(super) fn url(self) -> String {
        format!("{RUNBOOKS}{}.md", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_is_the_runbook_url_of_a_shipped_rule() {
        let rules = include_str!("../../../deploy/prometheus/xt-balance.rules.yml");
        let others =
            [Runbook::LOW, Runbook::SUSPECT, Runbook::LIQUIDATION, Runbook::POSITIONS, Runbook::PRICES];
        for runbook in Reason::ALL.into_iter().map(Runbook::of_failure).chain(others) {
            let line = format!("runbook_url: {}\n", runbook.url());
            assert!(rules.contains(&line), "{line}");
        }
    }
}
