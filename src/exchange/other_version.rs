//! Whether a failed call may mean that the configuration names the wrong API version. Only a hint: sending the key to a
//! host that is not configured would disclose it.

use super::{ApiVersion, Detail, Failure, Reason, Wallet};

const V4: &str =
    "the key may be for API v4, like all keys created at XT today: set --xt.api v4, or in a file api: v4";
const V1: &str = "the key may be for API v1, created at XT before 2022 or at a sister exchange: set --xt.api v1, or in a file api: v1, and the base URL of that exchange";
const V1_HOST: &str =
    "the base URL may belong to a sister exchange with API v1: set --xt.api v1, or in a file api: v1";

/// The other API version that may be meant, with the setting. `wallet` is `None` for a call without a key.
#[must_use]
pub fn suggest_other_version(
    api: ApiVersion,
    wallet: Option<Wallet>,
    failure: &Failure,
) -> Option<&'static str> {
    let is_of_v4_alone = matches!(wallet, Some(Wallet::FuturesUsdt | Wallet::FuturesCoin | Wallet::Earn));
    let is_unknown = failure.reason == Reason::Auth && failure.detail == Some(Detail::UnknownKey);
    match (api, failure.reason) {
        _ if is_of_v4_alone => None,
        (ApiVersion::V4, _) if is_unknown => Some(V1),
        (ApiVersion::V1, _) if is_unknown => Some(V4),
        // XT may have switched off v1, and a sister exchange may not have v4.
        (ApiVersion::V1, Reason::Http | Reason::Decode) => Some(V4),
        (ApiVersion::V4, Reason::Http | Reason::Decode) => Some(V1_HOST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{v1, v4};

    fn failure(body: &str) -> Option<Failure> {
        v1::decode_balances(200, body.as_bytes()).err()
    }

    fn rejection(code: &str) -> Option<Failure> {
        let body = format!(r#"{{"rc":1,"mc":"{code}","ma":[],"result":null}}"#);
        v4::decode_balances(200, body.as_bytes()).err()
    }

    #[test]
    fn an_unknown_key_may_belong_to_the_other_api_version() {
        let spot = Some(Wallet::Spot);
        for (api, failure, hint) in [
            (ApiVersion::V1, failure(r#"{"code":307,"info":"AccessKey error"}"#), Some(V4)),
            (ApiVersion::V1, failure(r#"{"code":404,"info":"请检查accesskey是否有效"}"#), Some(V4)),
            (ApiVersion::V4, rejection("AUTH_101"), Some(V1)),
            // An exchange that knows the key uses the key's version.
            (ApiVersion::V4, rejection("AUTH_102"), None),
            (ApiVersion::V4, rejection("AUTH_104"), None),
            (ApiVersion::V4, rejection("AUTH_106"), None),
        ] {
            let failure = failure.unwrap_or_else(|| Failure::new(Reason::Api, "no failure"));
            assert_eq!(suggest_other_version(api, spot, &failure), hint, "{failure}");
        }
        let suggest = |api, wallet, reason| suggest_other_version(api, wallet, &Failure::new(reason, "x"));
        assert_eq!(suggest(ApiVersion::V1, None, Reason::Http), Some(V4));
        assert_eq!(suggest(ApiVersion::V1, spot, Reason::Signature), None);
        assert_eq!(suggest(ApiVersion::V4, None, Reason::Decode), Some(V1_HOST));
        for wallet in [Wallet::FuturesUsdt, Wallet::Earn] {
            assert_eq!(suggest(ApiVersion::V4, Some(wallet), Reason::Decode), None);
        }
    }
}
