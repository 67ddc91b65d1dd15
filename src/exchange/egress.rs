//! Egress groups: accounts whose calls reach the exchange from one IP address, which has limits of its own. Plain data.

use std::{net::IpAddr, sync::Arc};

/// The name of the group of calls that belong to no other group.
pub const DEFAULT_EGRESS: &str = "default";

/// A group of accounts whose calls leave by one IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// A label; [`DEFAULT_EGRESS`] is reserved.
    pub name: Arc<str>,
    /// What stands for the address at which the exchange sees the calls: the source address, the proxy, or the name of the
    /// default group. Groups with the same address share its limit, also over a reload that renames them.
    pub address: Arc<str>,
    /// The local address that connections are bound to; `None` if the system chooses it.
    pub source_address: Option<IpAddr>,
}

impl Default for Egress {
    /// The default group.
    fn default() -> Self {
        Self { name: DEFAULT_EGRESS.into(), address: DEFAULT_EGRESS.into(), source_address: None }
    }
}
