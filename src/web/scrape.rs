//! What a scrape is answered with: the newest exposition, strung together anew only when there is
//! something new in it. Waits for nobody; two scrapes at once may both do the work.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use crate::{exposition::Whole, ledger::Ledger, moment::Moment};

/// The exporter's own metrics change with every breath; they are read again after this.
const OWN_MAX_AGE: Duration = Duration::from_millis(100);

/// The newest exposition.
#[derive(Debug, Default)]
pub(super) struct Latest(ArcSwapOption<Made>);

#[derive(Debug)]
struct Made {
    whole: Whole,
    changes: u64,
    /// From then on it is not the newest any more, whatever has changed, on [`Moment::elapsed`].
    until: Duration,
}

impl Latest {
    /// The exposition as of `now`, with `process_*` of a process that started at the Unix time
    /// `process_started`. Its balances are those of `now`; the exporter's own metrics are at most
    /// [`OWN_MAX_AGE`] old.
    pub(super) fn get(&self, ledger: &Ledger, now: Moment, process_started: Duration) -> Whole {
        let changes = ledger.changes();
        if let Some(made) = &*self.0.load()
            && made.changes == changes
            && now.elapsed < made.until
        {
            return made.whole.clone();
        }
        let whole = ledger.exposition(now, Some(process_started));
        let until = now.elapsed + OWN_MAX_AGE;
        let until = ledger.next_unknown(now).map_or(until, |unknown| unknown.min(until));
        self.0.store(Some(Arc::new(Made { whole: whole.clone(), changes, until })));
        whole
    }
}
