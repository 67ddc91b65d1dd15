//! File descriptors: raises the limit, and reserves for polls what they need before HTTP clients get the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For standard streams, runtimes, signals, the log, the service manager's socket, files, name look-ups, and connections
/// that close to make room for new ones.
const RESERVED: u64 = 48;
/// For the poller of an account or of prices: one connection, and one more to try a host's other address family.
const PER_POLLER: u64 = 2;
/// Minimum number of HTTP connections.
const CONNECTIONS_MIN: u64 = 8;
/// Maximum number of HTTP connections.
const CONNECTIONS_MAX: u64 = 512;
/// Up to this number of HTTP connections the process logs a warning.
const CONNECTIONS_FEW: u64 = 64;

/// The division of the process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DescriptorBudget {
    /// Descriptors for polls and the process itself.
    pub reserved: u64,
    /// Maximum number of HTTP connections.
    pub connections: usize,
}

impl DescriptorBudget {
    /// Divides `limit` descriptors for these numbers of accounts and listeners.
    pub(super) fn divide(limit: u64, accounts: usize, listeners: usize) -> Self {
        let pollers = u64::try_from(accounts).unwrap_or(u64::MAX).saturating_add(1);
        let listeners = u64::try_from(listeners).unwrap_or(u64::MAX);
        let reserved = pollers.saturating_mul(PER_POLLER).saturating_add(listeners).saturating_add(RESERVED);
        let left = limit.saturating_sub(reserved).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
        Self { reserved, connections: usize::try_from(left).unwrap_or(usize::MAX) }
    }

    /// A warning if few HTTP connections are left.
    pub(super) fn warning(self, limit: u64) -> Option<String> {
        let Self { reserved, connections } = self;
        (connections as u64 <= CONNECTIONS_FEW).then(|| {
            format!(
                "the limit of open files is {limit}: polls reserve {reserved}, which leaves {connections} HTTP connections; \
                 raise the hard limit (ulimit -Hn; LimitNOFILE= in a systemd unit)"
            )
        })
    }
}

/// Raises the soft limit to the hard limit. Returns the maximum number of descriptors of this process.
pub(super) fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_served_before_http_clients() {
        for (limit, accounts, reserved, connections) in [
            (64, 1, 53, 11),
            (64, 450, 951, 8),
            (256, 1, 53, 203),
            (1024, 450, 951, 73),
            (1024, 1, 53, 512),
            (u64::MAX, 1, 53, 512),
            (0, 0, 51, 8),
        ] {
            let budget = DescriptorBudget::divide(limit, accounts, 1);
            assert_eq!(budget, DescriptorBudget { reserved, connections }, "{limit} {accounts}");
            assert_eq!(budget.warning(limit).is_some(), connections <= 64, "{limit} {accounts}");
        }
        let huge = DescriptorBudget::divide(u64::MAX, usize::MAX, usize::MAX);
        assert_eq!(huge.connections, 8);
    }
}
