//! The signatures of each API version: they turn a call, a key pair and a time into a request. v1 signs the parameters
//! and sends the key and the signature among them. v4 and its futures sign a line of headers, method, path and query,
//! and send the key and the signature in headers.
//! Sends nothing and reads no clock.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{request::Request, secret::KeyPair};

/// The maximum age of a v4 request when it arrives, in milliseconds. XT recommends no larger value.
const RECV_WINDOW: &str = "5000";
const FORM: &str = "application/x-www-form-urlencoded";

/// Signs a v1 call with `parameters`, to which it adds `accesskey` and `nonce`: sorts the pairs by name, joins them as
/// `name=value` with `&`, and computes the HMAC-SHA256 with the secret as text, in lower-case hex. The signature covers
/// the plain values; the query holds them percent-encoded. `nonce` is the exchange's time in Unix milliseconds.
#[must_use]
pub(super) fn v1(pair: &KeyPair, path: &'static str, parameters: &[(&str, &str)], nonce: u64) -> Request {
    let nonce = format!("{nonce:013}");
    let mut pairs = vec![("accesskey", pair.access()), ("nonce", &nonce)];
    pairs.extend_from_slice(parameters);
    pairs.sort_unstable();
    let signature = Zeroizing::new(hmac_hex(pair.secret(), &join_pairs(&pairs)));

    let mut query = Zeroizing::new(String::new());
    for (name, value) in pairs {
        query.push_str(name);
        query.push('=');
        percent_encode(value, b"-._~", &mut query);
        query.push('&');
    }
    query.push_str("signature=");
    query.push_str(&signature);
    let headers = vec![("content-type", wiped(FORM))];
    Request { path, query, headers }
}

/// Signs a v4 GET at `time`, the exchange's time in Unix milliseconds. The signature covers `parameters` as they are sent.
/// The documents do not say whether the exchange checks the encoded or the decoded form, so every character that a query may
/// hold stays as it is.
#[must_use]
pub(super) fn v4(pair: &KeyPair, path: &'static str, parameters: &[(&str, &str)], time: u64) -> Request {
    let time = time.to_string();
    let signed = [
        ("validate-algorithms", "HmacSHA256"),
        ("validate-appkey", pair.access()),
        ("validate-recvwindow", RECV_WINDOW),
        ("validate-timestamp", &time),
    ];
    let mut query = Zeroizing::new(String::new());
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        percent_encode(value, b"-._~()$", &mut query);
    }
    let mut parts = vec!["GET", path];
    parts.extend((!query.is_empty()).then_some(&**query));
    let request = signed_headers(pair, path, "application/json", &signed, &parts);
    Request { query, ..request }
}

/// Signs a futures GET without parameters at `time`, the exchange's time in Unix milliseconds.
#[must_use]
pub(super) fn futures(pair: &KeyPair, path: &'static str, time: u64) -> Request {
    let time = time.to_string();
    let signed = [("validate-appkey", pair.access()), ("validate-timestamp", &time)];
    signed_headers(pair, path, FORM, &signed, &[path])
}

fn signed_headers(
    pair: &KeyPair,
    path: &'static str,
    content_type: &str,
    signed: &[(&'static str, &str)],
    parts: &[&str],
) -> Request {
    let mut headers = vec![("content-type", wiped(content_type))];
    headers.extend(signed.iter().map(|(name, value)| (*name, wiped(value))));
    headers.push(("validate-signature", header_signature(pair, signed, parts)));
    Request { path, query: Zeroizing::default(), headers }
}

/// The signature over `headers`, sorted by name and joined like v1's parameters, and over `parts` (method, path, query
/// and body, if present), each after a `#`.
fn header_signature(pair: &KeyPair, headers: &[(&str, &str)], parts: &[&str]) -> Zeroizing<String> {
    let mut message = join_pairs(headers);
    for part in parts {
        message.push('#');
        message.push_str(part);
    }
    Zeroizing::new(hmac_hex(pair.secret(), &message))
}

fn join_pairs(pairs: &[(&str, &str)]) -> Zeroizing<String> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Zeroizing::new(pairs.join("&"))
}

fn wiped(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// HMAC-SHA256 of `message` under `key`, in lower-case hex.
#[expect(
    clippy::expect_used,
    reason = "an empty signature must never be sent, and HMAC takes a key of any length"
)]
fn hmac_hex(key: &str, message: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    let digest = mac.chain_update(message.as_bytes()).finalize().into_bytes();
    let mut hex = String::with_capacity(2 * digest.len());
    for byte in digest {
        let _ = write!(hex, "{byte:02x}"); // a String takes every text
    }
    hex
}

/// Letters, digits and the characters in `plain` stay as they are.
fn percent_encode(value: &str, plain: &[u8], out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::secret::Secret;

    const NONCE: u64 = 1_562_919_832_183;

    fn pair(access: &str, secret: &str) -> Result<KeyPair, &'static str> {
        let fit = |text: &str| Secret::new(&Zeroizing::new(text.to_owned()));
        Ok(KeyPair::new(fit(access)?, fit(secret)?))
    }

    /// Made with Python's hmac; two official clients agree with them up to the case of the hex.
    #[test]
    fn the_five_vectors_of_v1() -> Result<(), &'static str> {
        let pair = pair("myAccessKey", "mySecretKey")?;
        for (parameters, signature) in [
            (&[][..], "84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452"),
            (&[("account", "1")], "3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec"),
            (&[("account", "2")], "1bec414fc5a93f0a8ea0201fcad0dbc4118486470b8b4f36cc5a499de569c47c"),
            (&[("account", "3")], "6b2c9344fd902ab9a7ed47ffd59ff4c6c0348a38ae8490413ab9b6a336fc25a3"),
            (
                &[("market", "btc_usdt"), ("id", "123")],
                "a4dbea1b723ef9f55bf236316977054b2628057811f92d35a7e932fe179de02e",
            ),
        ] {
            let query = v1(&pair, "/x", parameters, NONCE).query;
            let sent = query.rsplit_once("&signature=").map(|(_, sent)| sent);
            assert_eq!(sent, Some(signature), "{parameters:?}");
        }
        Ok(())
    }

    #[test]
    fn the_query_is_sorted_and_ends_in_the_signature() -> Result<(), &'static str> {
        let signed = v1(&pair("myAccessKey", "mySecretKey")?, "/x", &[("account", "1")], NONCE);
        let expected = "accesskey=myAccessKey&account=1&nonce=1562919832183&signature=\
                        3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec";
        assert_eq!(*signed.query, expected);
        Ok(())
    }

    /// `printf '%s' 'accesskey=a+/&b%&nonce=1562919832183' | openssl dgst -sha256 -hmac s`
    #[test]
    fn values_are_signed_plain_and_sent_encoded() -> Result<(), &'static str> {
        let signed = v1(&pair("a+/&b%", "s")?, "/x", &[], NONCE);
        let expected = "accesskey=a%2B%2F%26b%25&nonce=1562919832183&signature=\
                        b22c4ded71c248ad917dcbfa080348bf91527a9efef451a4d60aa9165a6fb239";
        assert_eq!(*signed.query, expected);
        Ok(())
    }

    const KEY: &str = "3976eb88-76d0-4f6e-a6b2-a57980770085";
    const SECRET: &str = "bc6630d0231fda5cd98794f52c4998659beda290";
    const TIME: u64 = 1_641_446_237_201;

    /// Made with Python's hmac over the line that the documents describe. The published example is unusable, because its
    /// signature was made with another exchange's secret.
    #[test]
    fn the_vectors_of_v4() -> Result<(), &'static str> {
        let pair = pair(KEY, SECRET)?;
        let headers = [
            ("validate-algorithms", "HmacSHA256"),
            ("validate-appkey", KEY),
            ("validate-recvwindow", "5000"),
            ("validate-timestamp", "1641446237201"),
        ];
        let order = r#"{"symbol":"btc_usdt","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":2,"price":39000}"#;
        for (parts, signature) in [
            (&["GET", "/v4/balances"][..], BALANCES),
            (
                &["GET", "/v4/balances", "currencies=usdt,btc"],
                "4fbeb42a0387c0213ab32841d671904f0c28c8682a8913e99441b774e9200dfd",
            ),
            (
                &["GET", "/v4/balances", "currencies=usdt%2Cbtc"],
                "e6d6fd37b4063ddec68b84b22ec59ec8789d5a68669d682ca422ed637e109d2a",
            ),
            (
                &["GET", "/v4/balance", "currency=usdt"],
                "6a5b72135f382ab8f1f1d99e404eb750c5a12236091830eba40de9f819ea0522",
            ),
            (
                &["GET", "/v4/lever/balance", "symbol=BTC_USDT"],
                "f3ecf90e2b91c1776cdc8fb74d8261b2c991c7c78553009f3aac9dbf0f37e7a3",
            ),
            (
                &["GET", "/v4/user/account"],
                "a5681dfaa14816d55b285ddc52e94642f867f3466d8aa33133e4b8d1f23bfeef",
            ),
            (
                &["POST", "/v4/order", order],
                "4a209e7f22d46ccd042161265d19179b9736de4ceae83758cf8ac003f507079e",
            ),
        ] {
            assert_eq!(*header_signature(&pair, &headers, parts), signature, "{parts:?}");
        }
        Ok(())
    }

    /// Made with Python's hmac for another key; the one of `/v4/balances` equals what ccxt 4.5.90 sends.
    #[test]
    fn the_vectors_of_v4_that_other_programs_confirm() -> Result<(), &'static str> {
        let pair = pair("11111111-2222-3333-4444-555555555555", "00112233445566778899aabbccddeeff00112233")?;
        for (path, signature) in [
            ("/v4/balances", "af4efa98d86625e728f04a4c73ebb789b6e091d72f33eddb512eb0f71fb51e66"),
            (
                "/v4/finance/position-currency",
                "0c9da641f3f3bd5063b15a735e6e3e967925d2c426847411f2f4a630d763d199",
            ),
            ("/v4/user/account/api-key", "1255b212e36960a15725d1fe5ef66a27155d6ff351abfc74a505d93f53968829"),
        ] {
            let request = v4(&pair, path, &[], 1_790_000_000_000);
            let sent = request.headers.iter().find(|(name, _)| *name == "validate-signature");
            assert_eq!(sent.map(|(_, value)| value.as_str()), Some(signature), "{path}");
        }
        Ok(())
    }

    const BALANCES: &str = "6f65f1289568e3ce07cfa8b1b9664e897e19fcaedc063aac74e4e4e510ab006b";

    #[test]
    fn the_vectors_of_futures() -> Result<(), &'static str> {
        let pair = pair(KEY, SECRET)?;
        let headers = [("validate-appkey", KEY), ("validate-timestamp", "1641446237201")];
        for (parts, signature) in [
            (&["/future/user/v1/balance/list"][..], FUTURES),
            (
                &["/future/user/v1/compat/balance/list"],
                "5c1d33168ca9ba98d8ded625688867a5cd4d1d15fa05a368f3f0359449341867",
            ),
            (
                &["/future/user/v1/balance/detail", "coin=usdt"],
                "3e226fb7c08e4b63e0e6aceb93d7e59a6753fc756c6bb9143485ad2c42c3b2b7",
            ),
        ] {
            assert_eq!(*header_signature(&pair, &headers, parts), signature, "{parts:?}");
        }
        Ok(())
    }

    const FUTURES: &str = "866cd718030736690ac19cc293859dcfb3330747fd6291e0de7e6fece4821c02";

    #[test]
    fn key_and_signature_travel_in_headers_and_the_url_holds_neither() -> Result<(), &'static str> {
        let pair = pair(KEY, SECRET)?;
        let sent = |signed: &Request| -> Vec<String> {
            signed.headers.iter().map(|(name, value)| format!("{name}: {}", **value)).collect()
        };
        let signed = v4(&pair, "/v4/balances", &[], TIME);
        let expected = [
            "content-type: application/json".to_owned(),
            "validate-algorithms: HmacSHA256".to_owned(),
            format!("validate-appkey: {KEY}"),
            "validate-recvwindow: 5000".to_owned(),
            "validate-timestamp: 1641446237201".to_owned(),
            format!("validate-signature: {BALANCES}"),
        ];
        assert_eq!((sent(&signed), &**signed.query), (expected.to_vec(), ""));
        let signed = v4(&pair, "/v4/balance", &[("currency", "usdt")], TIME);
        let signature = "6a5b72135f382ab8f1f1d99e404eb750c5a12236091830eba40de9f819ea0522";
        assert_eq!(sent(&signed).last(), Some(&format!("validate-signature: {signature}")));
        assert_eq!(*signed.query, "currency=usdt");
        let odd = v4(&pair, "/v4/balance", &[("currency", "gal(ft)+$.-_")], TIME);
        assert_eq!(*odd.query, "currency=gal(ft)%2B$.-_");
        let signed = futures(&pair, "/future/user/v1/balance/list", TIME);
        let expected = [
            format!("content-type: {FORM}"),
            format!("validate-appkey: {KEY}"),
            "validate-timestamp: 1641446237201".to_owned(),
            format!("validate-signature: {FUTURES}"),
        ];
        assert_eq!((sent(&signed), &**signed.query), (expected.to_vec(), ""));
        Ok(())
    }
}
