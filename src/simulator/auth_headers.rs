//! The headers with which a call of v4 says who signed it: read, and the signature verified over the secret.
//!
//! Knows nothing of accounts, clocks or limits. Clients send the names with or without `xt-` in front, and sign them
//! as they send them.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::Sha256;

use super::query::unhex;

/// The headers of one call, as far as they were sent once and are text.
pub(super) struct AuthHeaders {
    prefix: &'static str,
    pub(super) algorithms: Option<String>,
    pub(super) appkey: Option<String>,
    pub(super) recvwindow: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) signature: Option<String>,
}

impl AuthHeaders {
    /// Reads those whose names begin as that of the key does: the two ways are not to be mixed.
    pub(super) fn of(headers: &HeaderMap) -> Self {
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

    /// Whether the signature is the hex HMAC-SHA256, in either case, of the four headers of spot and `call`: method,
    /// path and, if there is one, query, each after a `#`.
    pub(super) fn sign_spot(&self, call: &str, secret: &str) -> bool {
        let names = ["algorithms", "appkey", "recvwindow", "timestamp"];
        let values = [&self.algorithms, &self.appkey, &self.recvwindow, &self.timestamp];
        self.sign(names.into_iter().zip(values), call, secret)
    }

    /// The same for futures, which sign two headers and no method.
    pub(super) fn sign_futures(&self, call: &str, secret: &str) -> bool {
        self.sign([("appkey", &self.appkey), ("timestamp", &self.timestamp)], call, secret)
    }

    fn sign<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a Option<String>)>,
        call: &str,
        secret: &str,
    ) -> bool {
        let pair = |(name, value): (&str, &Option<String>)| {
            format!("{}{name}={}", self.prefix, value.as_deref().unwrap_or_default())
        };
        let text = headers.into_iter().map(pair).collect::<Vec<_>>().join("&") + call;
        let Some(sent) = self.signature.as_deref().and_then(unhex) else {
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
        AuthHeaders::of(&headers)
    }

    /// Made with Python's hmac; those with `xt-` are also what an official client makes.
    #[test]
    fn signatures_made_elsewhere_are_good_under_both_names() {
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
            assert!(headers(prefix, signature).sign_spot(call, SECRET), "{prefix} {call}");
            assert!(headers(prefix, &signature.to_uppercase()).sign_spot(call, SECRET), "{prefix} {call}");
            assert!(!headers(prefix, signature).sign_spot(call, "another"), "{prefix} {call}");
            assert!(!headers(prefix, &signature.replacen('6', "7", 1)).sign_spot(call, SECRET));
            assert!(!headers(prefix, "").sign_spot(call, SECRET));
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
            assert!(headers(prefix, signature).sign_futures(call, SECRET), "{prefix} {call}");
            assert!(!headers(prefix, signature).sign_spot(call, SECRET), "{prefix} {call}");
        }
    }
}
