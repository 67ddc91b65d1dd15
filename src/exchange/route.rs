//! The route of calls to a base URL: from which address, through a proxy or not, and which certificate authorities are
//! trusted on it.
//! Sends nothing; `config` chooses it.

use std::{fmt, sync::Arc};

use super::{egress::Egress, proxy::Proxy, root_store::RootStore};

/// The route of calls to a base URL. The default is direct, with the system's authorities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The proxy that connects to the host; `None` if this machine does.
    pub proxy: Option<Arc<Proxy>>,
    /// The authorities with those of a `ca_file`; `None` for the system's alone.
    pub roots: Option<Arc<RootStore>>,
    /// The address that the calls leave by.
    pub egress: Egress,
}

impl fmt::Display for Route {
    /// Writes `direct`, `from 192.0.2.1` or `via proxy host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.proxy, self.egress.source_address) {
            (Some(proxy), _) => write!(f, "via proxy {proxy}"),
            (None, Some(address)) => write!(f, "from {address}"),
            (None, None) => f.write_str("direct"),
        }
    }
}
