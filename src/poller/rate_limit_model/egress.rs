//! The egress groups of a simulation: which account's calls leave by which address, and how a reload changes that.
//! Plain data; runs nothing.

/// The most addresses of a scenario.
pub(super) const ADDRESSES_MAX: usize = 4;

/// The egress group of an account. An account without one is in the default group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ModelEgress {
    pub name: usize,
    /// The address as the configuration writes it. Two of them stand for each address that the exchange sees, as if one
    /// proxy was replaced by another of the same machine.
    pub configured: usize,
}

impl ModelEgress {
    /// The group of accounts with `key` at the start.
    pub(super) fn initial(key: usize, addresses: usize) -> Option<Self> {
        let number = key % addresses;
        (addresses > 1).then_some(Self { name: number, configured: number })
    }
}

/// The address at which the exchange sees the calls of a group. The system sends the calls of the default group by the
/// first one.
pub(super) fn seen_address(egress: Option<ModelEgress>) -> usize {
    egress.map_or(0, |egress| egress.configured % ADDRESSES_MAX)
}
