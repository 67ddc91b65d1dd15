//! XT's own hosts, and whether two sets of base URLs belong to different exchanges. Sends nothing.

use crate::exchange::{ApiVersion, BaseUrl, ExchangeHosts};

/// XT's own hosts for USDT-margined futures.
pub(super) const FUTURES_USDT_BASE_URLS: &[&str] = &["https://fapi.xt.com"];
/// XT's own hosts for coin-margined futures.
pub(super) const FUTURES_COIN_BASE_URLS: &[&str] = &["https://dapi.xt.com"];

/// XT's own host of the user center.
pub(super) const USER_CENTER_BASE_URL: &str = "https://api.xt.com";

/// XT's own hosts for everything except futures.
pub(super) fn default_base_urls(api: ApiVersion) -> &'static [&'static str] {
    match api {
        ApiVersion::V1 => &["https://api.xt.com", "https://api.xt.pub"],
        ApiVersion::V4 => &["https://sapi.xt.com"],
    }
}

/// Whether the base URLs show that two accounts are on different exchanges: one is on XT and the other is not, or
/// both use the same API version and have no host in common.
#[must_use]
pub fn is_other_exchange(one: &ExchangeHosts, other: &ExchangeHosts) -> bool {
    let (hosts, other_hosts) = (host_names(one), host_names(other));
    match (has_xt_host(&hosts), has_xt_host(&other_hosts)) {
        (true, true) => false,
        (false, false) => one.api == other.api && !hosts.iter().any(|host| other_hosts.contains(host)),
        _ => true,
    }
}

fn host_names(hosts: &ExchangeHosts) -> Vec<String> {
    hosts.base_urls.iter().map(BaseUrl::host).collect()
}

fn has_xt_host(hosts: &[String]) -> bool {
    [ApiVersion::V1, ApiVersion::V4]
        .into_iter()
        .flat_map(default_base_urls)
        .filter_map(|url| url.strip_prefix("https://"))
        .any(|xt_host| hosts.iter().any(|host| host == xt_host))
}
