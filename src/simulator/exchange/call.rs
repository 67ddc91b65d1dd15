//! A call, as it arrived and parsed.
//!
//! Only data.

use std::net::IpAddr;

use hyper::HeaderMap;
use tokio::time::Instant;

use super::super::{auth_headers::AuthHeaders, endpoint::SimulatedEndpoint, query::QueryParameters};

/// A call as it arrived.
pub(in crate::simulator) struct IncomingCall<'a> {
    pub(in crate::simulator) endpoint: SimulatedEndpoint,
    pub(in crate::simulator) query: &'a str,
    pub(in crate::simulator) headers: &'a HeaderMap,
    pub(in crate::simulator) ip: IpAddr,
}

/// A parsed call. Only the checks of its wire format read `query` and `headers`.
pub(super) struct ParsedCall {
    pub(super) endpoint: SimulatedEndpoint,
    pub(super) query: Result<QueryParameters, String>,
    pub(super) headers: AuthHeaders,
    pub(super) ip: IpAddr,
    /// Position in `accounts` of the account whose key the call carries.
    pub(super) account_index: Option<usize>,
    pub(super) now: Instant,
}
