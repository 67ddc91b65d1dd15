//! Fix suggestions for failures: the sentence after `fix:` in `check`, and beside the failure on the status page.
//! Pure: sends nothing.

use super::{ApiVersion, Detail, Failure, Reason, Wallet, suggest_other_version};

const UNKNOWN_KEY: &str = "the exchange does not know this access key: check that it is complete, not deleted, not swapped with the secret key, and from this exchange";

const FUTURES_PERMISSION: &str = "the key lacks the separate permission for futures, or its IP list lacks this machine's address: change the key at the exchange";

/// A fix for the failure: an imperative sentence without its full stop.
#[must_use]
pub fn suggest_fix(failure: &Failure) -> &'static str {
    match failure.reason {
        Reason::Auth => match failure.detail {
            Some(Detail::AddressNotAllowed) => "add this machine's public IP address to the key's IP list",
            Some(Detail::NotPermitted) => "give the key the read permission, and no other",
            Some(Detail::NoEarnPermission) => {
                "the Earn permission is separate: give it to the key at the exchange, or remove the wallet earn from the configuration"
            }
            Some(Detail::InactiveKey) => {
                "finish the activation of the key at the exchange, or wait for its review"
            }
            _ => UNKNOWN_KEY,
        },
        _ if let Some(fix) = suggest_proxy_fix(failure) => fix,
        _ if failure.detail == Some(Detail::NoSourceAddress) => {
            "this machine does not have that address: correct source_address of the egress group, or add the address to this machine"
        }
        _ if failure.detail == Some(Detail::NotFromTheExchange) => {
            "a CDN, firewall or proxy in front of the exchange answered, and may block this machine's address or country: set another base URL, or use another network"
        }
        Reason::Signature => "the secret key does not belong to this access key: copy both again",
        Reason::Clock => {
            "the exchange rejected the time of the request: synchronize this machine's clock (timedatectl set-ntp true)"
        }
        Reason::RateLimited => {
            "stop other programs that use this key or IP address, and wait ten minutes: more requests prolong the limit"
        }
        Reason::Unavailable => {
            "the exchange is down or in maintenance: check its announcements, and try again later"
        }
        Reason::Http => {
            "this is not an answer of the API: check the base URL, and any proxy or firewall in between"
        }
        Reason::Timeout => "check for a firewall in between; on a slow connection raise the poll timeout",
        Reason::Dns => "check the spelling of the base URL, and this machine's DNS",
        Reason::Connect => "check the base URL, and whether a firewall blocks connections from this machine",
        Reason::Tls => {
            "check this machine's date and its CA certificates; if a firewall intercepts TLS, add its CA with --xt.ca-file (ca_file in a file)"
        }
        Reason::Body | Reason::Decode => {
            "this is not the documented answer: check that the base URL belongs to this API version, and any proxy in between"
        }
        Reason::Cached => {
            "a proxy or cache between this machine and the exchange returns old answers: exclude this host from it, or set another base URL"
        }
        Reason::Api => "ask the exchange's support about the message above",
    }
}

/// Another fix that may help instead: another permission of the key, or another API version. `wallet` is `None` for a call without a
/// key.
#[must_use]
pub fn suggest_other_fix(api: ApiVersion, wallet: Option<Wallet>, failure: &Failure) -> Option<&'static str> {
    let is_futures = matches!(wallet, Some(Wallet::FuturesUsdt | Wallet::FuturesCoin));
    if is_futures && failure.reason == Reason::Auth {
        return Some(FUTURES_PERMISSION);
    }
    suggest_other_version(api, wallet, failure)
}

/// A fix for a failure of the configured proxy.
fn suggest_proxy_fix(failure: &Failure) -> Option<&'static str> {
    Some(match failure.detail? {
        Detail::ProxyUnreachable => {
            "check host and port of the proxy: --xt.proxy-url (proxy_url in a file), HTTPS_PROXY or ALL_PROXY"
        }
        Detail::ProxyRefused => {
            "ask the proxy's administrator whether the proxy may and can connect to this host and port, or exempt the host: set NO_PROXY, or --xt.proxy-url direct (proxy_url in a file)"
        }
        Detail::ProxyForbids => {
            "ask the proxy's administrator to allow this host and port, or exempt the host: set NO_PROXY, or --xt.proxy-url direct (proxy_url in a file)"
        }
        Detail::ProxyCannotConnect => {
            "the proxy has no way to this host: ask its administrator whether it can resolve the name and reach the port, or exempt the host: set NO_PROXY, or --xt.proxy-url direct (proxy_url in a file)"
        }
        Detail::ProxyLogin => {
            "ask the proxy's administrator for user and password, write user:password into a file, and name it with --xt.proxy-credentials-file (proxy_credentials_file in a file)"
        }
        Detail::InterceptedTls => {
            "add the CA of the proxy with --xt.ca-file (ca_file in a file), or exempt the host from the proxy: set NO_PROXY, or --xt.proxy-url direct (proxy_url in a file)"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange;

    #[test]
    fn every_reason_has_its_own_fix() {
        let fixes: Vec<_> =
            Reason::ALL.iter().map(|reason| suggest_fix(&Failure::new(*reason, "x"))).collect();
        let mut distinct = fixes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), fixes.len() - 1, "only body and decode share a fix");
    }

    /// The failure of a balance request with this answer.
    fn failure(api: ApiVersion, body: &str) -> Failure {
        let answer = match api {
            ApiVersion::V1 => exchange::v1::decode_balances(200, body.as_bytes()),
            ApiVersion::V4 => exchange::v4::decode_balances(200, body.as_bytes()),
        };
        answer.err().unwrap_or_else(|| panic!("no failure: {body}"))
    }

    /// The failure of an answer with this message of v1, or this code of v4.
    fn rejection(api: ApiVersion, message: &str) -> Failure {
        match api {
            ApiVersion::V1 => failure(api, &format!(r#"{{"code":307,"info":"{message}"}}"#)),
            ApiVersion::V4 => failure(api, &format!(r#"{{"rc":1,"mc":"{message}","ma":[],"result":null}}"#)),
        }
    }

    #[test]
    fn an_answer_from_a_proxy_is_recognized() {
        let fix_of = |status: u16, body: &str| {
            let failure = exchange::v1::decode_balances(status, body.as_bytes()).err();
            failure.map(|failure| suggest_fix(&failure)).unwrap_or_default()
        };
        for (status, body) in [(403, "<html>"), (451, ""), (200, "<html>"), (302, "")] {
            assert!(fix_of(status, body).contains("in front of the exchange"), "{status} {body}");
        }
        for (status, body) in [(404, "<html>"), (200, "{}"), (503, ""), (403, r#"{"code":307,"info":"x"}"#)] {
            assert!(!fix_of(status, body).contains("in front of the exchange"), "{status} {body}");
        }
    }

    #[test]
    fn the_causes_of_a_rejected_key_are_distinguished() {
        for (api, message, expected) in [
            (ApiVersion::V4, "AUTH_101", "does not know this access key"),
            (ApiVersion::V4, "AUTH_102", "finish the activation"),
            (ApiVersion::V4, "AUTH_104", "IP list"),
            (ApiVersion::V4, "AUTH_106", "give the key the read permission"),
            (ApiVersion::V1, "AccessKey error", "does not know this access key"),
            (ApiVersion::V1, "AccessKey already expired, membership ended", "does not know this access key"),
            (ApiVersion::V1, "IP 1.2.3.4 is not in the whitelist", "IP list"),
            (ApiVersion::V1, "no permission", "give the key the read permission"),
            (ApiVersion::V1, "key not activated", "finish the activation"),
        ] {
            assert!(suggest_fix(&rejection(api, message)).contains(expected), "{message}");
        }
    }
}
