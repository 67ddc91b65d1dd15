//! How much of each rate limit is used. Plain data.

use super::call_window::WindowUsage;

/// The use of every rate limit at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitUsage {
    /// Calls of each address, by the name of its egress group.
    pub addresses: Vec<(Box<str>, WindowUsage)>,
    /// Calls with the key of each account, by the name of the account.
    pub keys: Vec<(Box<str>, WindowUsage)>,
}
