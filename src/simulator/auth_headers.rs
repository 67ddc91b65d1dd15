//! The authentication headers of a signed v4 call: parsing and signature.
//!
//! Must not know accounts, clocks or limits. Clients send the names with or without the prefix `xt-`, and sign them with
//! the same prefix.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::Sha256;

use super::query::decode_hex;

/// Authentication headers of a call. A header is `None` if it is missing, repeated or not text.
pub(super) struct AuthHeaders {
    prefix: &'static str,
    pub(super) algorithms: Option<String>,
    pub(super) appkey: Option<String>,
    pub(super) recvwindow: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) signature: Option<String>,
}

impl AuthHeaders {
    /// Reads the headers with the same prefix as the key's header. A call must not mix prefixes.
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let prefix = if headers.contains_key("validate-appkey") { "validate-" } else { "xt-validate-" };
        let read = |name: &str| {
            let mut values = headers.get_all(format!("{prefix}{name}")).into_iter();
            let value = values.next().filter(|_| values.next().is_none())?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            prefix,
            algorithms: read("algorithms"),
            appkey: read("appkey"),
            recvwindow: read("recvwindow"),
            timestamp: read("timestamp"),
            signature: read("signature"),
        }
    }

    /// Whether the signature is the hex HMAC-SHA256 of spot's four headers and `request`. Upper and lower case are equal.
    /// `request` is the method, the path and the query if there is one, each after a `#`.
    pub(super) fn verify_spot(&self, request: &str, secret: &str) -> bool {
        let names = ["algorithms", "appkey", "recvwindow", "timestamp"];
        let values = [&self.algorithms, &self.appkey, &self.recvwindow, &self.timestamp];
        self.verify_signature(names.into_iter().zip(values), request, secret)
    }

    /// Like [`Self::verify_spot`] for futures: two headers, and a request without a method.
    pub(super) fn verify_futures(&self, request: &str, secret: &str) -> bool {
        self.verify_signature([("appkey", &self.appkey), ("timestamp", &self.timestamp)], request, secret)
    }

    fn verify_signature<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a Option<String>)>,
        request: &str,
        secret: &str,
    ) -> bool {
        let pair = |(name, value): (&str, &Option<String>)| {
            format!("{}{name}={}", self.prefix, value.as_deref().unwrap_or_default())
        };
        let text = headers.into_iter().map(pair).collect::<Vec<_>>().join("&") + request;
        let Some(sent) = self.signature.as_deref().and_then(decode_hex) else {
            return false;
        };
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            return false;
        };
        mac.chain_update(text.as_bytes()).verify_slice(&sent).is_ok() // constant time
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::AuthHeaders;

    const KEY: &str = "3976eb88-76d0-4f6e-a6b2-a57980770085";
    const SECRET: &str = "bc6630d0231fda5cd98794f52c4998659beda290";

    fn headers(prefix: &str, signature: &str) -> AuthHeaders {
        let values = [
            ("algorithms", "HmacSHA256"),
            ("appkey", KEY),
            ("recvwindow", "5000"),
            ("timestamp", "1641446237201"),
            ("signature", signature),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            let name = hyper::header::HeaderName::try_from(format!("{prefix}{name}"));
            if let (Ok(name), Ok(value)) = (name, value.parse()) {
                headers.insert(name, value);
            }
        }
        AuthHeaders::parse(&headers)
    }

    /// Computed with Python's hmac. An official client computes the same signatures with `xt-`.
    #[test]
    fn independent_signatures_are_valid_with_both_prefixes() {
        for (prefix, call, signature) in [
            (
                "validate-",
                "#GET#/v4/balances",
                "6f65f1289568e3ce07cfa8b1b9664e897e19fcaedc063aac74e4e4e510ab006b",
            ),
            (
                "xt-validate-",
                "#GET#/v4/balances",
                "692c672a750d2d9782f1e8141ff352722766b5129a5733304d294dec73092a68",
            ),
            (
                "xt-validate-",
                "#GET#/v4/balances#currencies=usdt,btc",
                "60383eb55ad258465d2d980bcd75c96c066b5ca0e202b8a6157b94753d533ce2",
            ),
            (
                "xt-validate-",
                "#GET#/v4/balance#currency=usdt",
                "b7af366a4fc95bea43f0e50b397d3a2c740e554aa4555cea88e0746153774e3f",
            ),
            (
                "xt-validate-",
                "#GET#/v4/lever/balance#symbol=BTC_USDT",
                "2213bccce0af77061fcf18614e735c99105ea3d8b70a15d92370044406907d5d",
            ),
            (
                "xt-validate-",
                "#GET#/v4/user/account",
                "9fb39dbb63e6f339519efcc47dc619f1beabded52e94ca3fdda2bcd3bb2db0ba",
            ),
        ] {
            assert!(headers(prefix, signature).verify_spot(call, SECRET), "{prefix} {call}");
            assert!(headers(prefix, &signature.to_uppercase()).verify_spot(call, SECRET), "{prefix} {call}");
            assert!(!headers(prefix, signature).verify_spot(call, "another"), "{prefix} {call}");
            assert!(!headers(prefix, &signature.replacen('6', "7", 1)).verify_spot(call, SECRET));
            assert!(!headers(prefix, "").verify_spot(call, SECRET));
        }
        for (prefix, call, signature) in [
            (
                "validate-",
                "#/future/user/v1/balance/list",
                "866cd718030736690ac19cc293859dcfb3330747fd6291e0de7e6fece4821c02",
            ),
            (
                "xt-validate-",
                "#/future/user/v1/balance/list",
                "c186af642eabd773b9a0661ee8eb626dc37e6707d88eef33946c4ba142d5188b",
            ),
            (
                "xt-validate-",
                "#/future/user/v1/compat/balance/list",
                "7c7aa52c2db74d83b1a58f99a2e3e3832f694716bab99a598e44355c3311f823",
            ),
            (
                "xt-validate-",
                "#/future/user/v1/balance/detail#coin=usdt",
                "a6c0fe7e917b7c402ca223cdc1803f062759f13772a942b489fa5c253c6f8eed",
            ),
        ] {
            assert!(headers(prefix, signature).verify_futures(call, SECRET), "{prefix} {call}");
            assert!(!headers(prefix, signature).verify_spot(call, SECRET), "{prefix} {call}");
        }
    }
}
