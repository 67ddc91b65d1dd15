//! The egress groups of a simulation: which account's calls leave by which address, and how a reload changes that.
//! Plain data; runs nothing.

use fastrand::Rng;

use super::scenario::{ModelAccount, NO_KEY};

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

/// Draws other groups for `accounts`, whose file has at least two groups.
pub(super) fn change_egress(accounts: &mut [ModelAccount], rng: &mut Rng) {
    let mut groups: Vec<_> = accounts.iter().filter_map(|account| account.egress).collect();
    groups.sort_unstable();
    groups.dedup();
    let Some(drawn) = rng.choice(&groups).copied() else { return };
    let next = groups.iter().cycle().skip_while(|group| **group != drawn).nth(1).copied().unwrap_or(drawn);
    let (kind, moved) = (rng.u8(0..6), rng.usize(0..2));
    for account in accounts.iter_mut().filter(|account| account.key != NO_KEY) {
        let Some(egress) = account.egress else { continue };
        account.egress = match kind {
            // Some accounts move to another group, all with the same key together.
            0 if account.key % 2 == moved => Some(drawn),
            // A group gets another name.
            1 if egress == drawn => Some(ModelEgress { name: egress.name + ADDRESSES_MAX, ..egress }),
            // Two groups exchange their addresses.
            2 if egress == drawn => Some(ModelEgress { configured: next.configured, ..egress }),
            2 if egress == next => Some(ModelEgress { configured: drawn.configured, ..egress }),
            // A group is removed.
            3 if egress == drawn => Some(next),
            // A group leaves by another proxy of the same machine.
            4 if egress == drawn => {
                Some(ModelEgress { configured: egress.configured + ADDRESSES_MAX, ..egress })
            }
            // The file has no groups any more.
            5 => None,
            _ => Some(egress),
        };
    }
}
