//! File descriptors: the limit is raised as far as it may be, and what polls need is kept aside from HTTP clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Standard streams, both runtimes, signals, the log, the service manager's socket, files and names that are being read,
/// and connections that are being closed to make room for others.
const RESERVED: u64 = 48;
/// Of the poller of an account, or of prices: a connection, and another where a host has addresses of both families.
const PER_POLLER: u64 = 2;
/// HTTP clients are never given fewer.
const CONNECTIONS_MIN: u64 = 8;
/// HTTP clients are never given more.
const CONNECTIONS_MAX: u64 = 512;
/// With fewer connections than this an operator should know.
const CONNECTIONS_FEW: u64 = 64;

/// How the descriptors of the process are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DescriptorBudget {
    /// For polls and the process itself.
    pub kept_aside: u64,
    /// Connections of HTTP clients.
    pub connections: usize,
}

impl DescriptorBudget {
    /// Divides `limit` descriptors, with so many accounts and listeners.
    pub(super) fn divide(limit: u64, accounts: usize, listeners: usize) -> Self {
        let pollers = u64::try_from(accounts).unwrap_or(u64::MAX).saturating_add(1);
        let listeners = u64::try_from(listeners).unwrap_or(u64::MAX);
        let kept_aside =
            pollers.saturating_mul(PER_POLLER).saturating_add(listeners).saturating_add(RESERVED);
        let left = limit.saturating_sub(kept_aside).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
        Self { kept_aside, connections: usize::try_from(left).unwrap_or(usize::MAX) }
    }

    /// A sentence for the log if few connections are left.
    pub(super) fn warning(self, limit: u64) -> Option<String> {
        let Self { kept_aside, connections } = self;
        (connections as u64 <= CONNECTIONS_FEW).then(|| {
            format!(
                "this process may open {limit} files, polls need up to {kept_aside} of them, and HTTP clients get {connections} \
                 connections: raise the hard limit (ulimit -Hn; LimitNOFILE= in a systemd unit)"
            )
        })
    }
}

/// Raises the soft limit to the hard one; returns how many descriptors this process may have.
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
        for (limit, accounts, kept_aside, connections) in [
            (64, 1, 53, 11),
            (64, 450, 951, 8),
            (256, 1, 53, 203),
            (1024, 450, 951, 73),
            (1024, 1, 53, 512),
            (u64::MAX, 1, 53, 512),
            (0, 0, 51, 8),
        ] {
            let budget = DescriptorBudget::divide(limit, accounts, 1);
            assert_eq!(budget, DescriptorBudget { kept_aside, connections }, "{limit} {accounts}");
            assert_eq!(budget.warning(limit).is_some(), connections <= 64, "{limit} {accounts}");
        }
        let huge = DescriptorBudget::divide(u64::MAX, usize::MAX, usize::MAX);
        assert_eq!(huge.connections, 8);
    }
}
