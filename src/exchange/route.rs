//! The route of calls to a base URL: through a proxy or not, and which certificate authorities are trusted on it.
//! Sends nothing; `config` chooses it.

use std::{fmt, sync::Arc};

use super::{proxy::Proxy, root_store::RootStore};

/// The route of calls to a base URL. The default is direct, with the system's authorities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// The proxy that connects to the host; `None` if this machine does.
    pub proxy: Option<Arc<Proxy>>,
    /// The authorities with those of a `ca_file`; `None` for the system's alone.
    pub roots: Option<Arc<RootStore>>,
}

impl fmt::Display for Route {
    /// Writes `direct` or `via proxy host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy {
            Some(proxy) => write!(f, "via proxy {proxy}"),
            None => f.write_str("direct"),
        }
    }
}
