//! The permissions of the key in use, from the user center's list of keys (GET `/v4/user/account/api-key`).
//!
//! The reply holds the secret keys of all keys of the account. Nothing of its text gets into a result, a log or an error,
//! and the body is wiped. Only `check --permissions` reads it; the daemon must not.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    base_url::BaseUrl,
    call::{CallContext, CallError, OutgoingCall},
    client::{Client, Session},
    decode::{failure_from_status, is_limit_reply, parse_integer, parse_object, parse_text},
    error::{Failure, Reason},
    failover::Deadline,
    signing,
};

/// Path of the signed call that lists the keys of an account.
const KEY_LIST_PATH: &str = "/v4/user/account/api-key";

/// What the exchange says about a key. `None` stands for what the reply does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPermissions {
    /// The permissions (`roleScopes`).
    pub scopes: Option<Vec<KeyScope>>,
    /// Whether only some IP addresses may use the key (`bindIps`).
    pub is_bound: Option<bool>,
    /// Whether the key is locked (`isLock`).
    pub is_locked: Option<bool>,
}

/// A permission of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Read.
    Query,
    /// Trade on spot and margin.
    Trade,
    /// Withdraw.
    Withdraw,
    /// Borrow on margin.
    LeverLoan,
    /// Futures. The documents do not say whether it includes orders.
    Future,
    /// Transfer between wallets and accounts.
    Transfer,
}

impl KeyScope {
    /// Every permission. A name that begins with another one comes before it.
    const ALL: [Self; 6] =
        [Self::LeverLoan, Self::Query, Self::Trade, Self::Withdraw, Self::Future, Self::Transfer];

    /// The exchange's name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Query => "QUERY",
            Self::Trade => "TRADE",
            Self::Withdraw => "WITHDRAW",
            Self::LeverLoan => "LEVER_LOAN",
            Self::Future => "FUTURE",
            Self::Transfer => "TRANSFER",
        }
    }

    /// Parses names that `_` joins, which some names also contain; `None` if a name is unknown.
    fn parse_list(text: &str) -> Option<Vec<Self>> {
        let mut scopes = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let scope = Self::ALL.into_iter().find(|scope| {
                let tail = rest.strip_prefix(scope.label());
                tail.is_some_and(|tail| tail.is_empty() || tail.starts_with('_'))
            })?;
            rest = rest.strip_prefix(scope.label())?;
            rest = rest.strip_prefix('_').unwrap_or(rest);
            scopes.push(scope);
        }
        Some(scopes)
    }
}

impl Client {
    /// Reads the permissions of the session's key from `base`, the user center.
    ///
    /// # Errors
    /// The failure of the call, which holds nothing of the reply's text, or the pause of the session's account.
    pub async fn read_key_permissions(
        &self,
        session: &Session,
        base: &BaseUrl,
        timeout: Duration,
    ) -> Result<KeyPermissions, Failure> {
        let pair = session.credentials.pair().clone();
        let permit = match self.permit(&mut Deadline::new(timeout), session.caller(), base).await {
            Ok(permit) => permit,
            Err(CallError::Failed(failure)) => return Err(failure),
            Err(CallError::Paused | CallError::KeyRefused) => {
                return Err(Failure::new(Reason::RateLimited, "paused after a limit reply"));
            }
        };
        let sent = self.clock.now();
        // The user center does not tell the time. The spot hosts of the same exchange do.
        let clock = *self.host_clock(session.hosts.base_urls.first().unwrap_or(base)).clock();
        let request = signing::v4(&pair, KEY_LIST_PATH, &[], clock.signing_time_ms(sent));
        self.last_sent_keys().insert(session.account.clone(), pair.clone());
        let (path, own) = (request.path, pair.clone());
        let call = OutgoingCall { caller: session.caller(), base, request, timeout, signed: None };
        let decode = move |status, body: Vec<u8>| {
            decode_key_list(status, &Zeroizing::new(body), own.access()).map(drop)
        };
        let (reply, permit) = self.send(permit, call, decode).await;
        let call = CallContext {
            caller: session.caller(),
            base,
            path,
            secrets: &[pair.access(), pair.secret()],
            sent,
            timeout,
            max_cached: Duration::ZERO,
            date_clock: clock.reading().into(),
        };
        let result = self.check_reply(&call, reply, |status, body| {
            decode_key_list(status, &Zeroizing::new(body), pair.access())
        });
        drop(permit);
        result
    }
}

/// Decodes the list of keys and finds the one with this access key.
///
/// # Errors
/// Any reply except the documented one, and a list without the key. The text holds nothing of the body.
fn decode_key_list(status: u16, body: &[u8], access_key: &str) -> Result<KeyPermissions, Failure> {
    #[derive(Deserialize)]
    struct KeyListEnvelope<'a> {
        #[serde(borrow)]
        rc: &'a RawValue,
        #[serde(borrow)]
        mc: &'a RawValue,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KeyName<'a> {
        #[serde(borrow)]
        access_key: &'a RawValue,
    }
    let undocumented = || undocumented_reply(status);
    let envelope: KeyListEnvelope<'_> = serde_json::from_slice(body).map_err(|_| undocumented())?;
    match (parse_integer(envelope.rc), parse_text(envelope.mc).as_deref()) {
        (Some(0), Some("SUCCESS")) if status == 200 => {}
        (Some(_), Some(code)) => return Err(refusal(status, code)),
        _ => return Err(undocumented()),
    }
    let rows: Vec<&RawValue> = envelope
        .result
        .and_then(|result| serde_json::from_str(result.get()).ok())
        .ok_or_else(undocumented)?;
    let is_own = |row: &&&RawValue| {
        let name = parse_object::<KeyName<'_>>(row).and_then(|row| parse_text(row.access_key));
        name.as_deref() == Some(access_key)
    };
    let own: Vec<_> = rows.iter().filter(is_own).collect();
    match own.as_slice() {
        [row] => Ok(parse_permissions(row)),
        [] => Err(Failure::new(Reason::Api, "the list of keys does not contain this key")),
        _ => Err(Failure::new(Reason::Decode, "the list of keys contains this key more than once")),
    }
}

fn parse_permissions(row: &RawValue) -> KeyPermissions {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KeyRow<'a> {
        #[serde(borrow)]
        role_scopes: Option<&'a RawValue>,
        #[serde(borrow)]
        is_lock: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KeyAddresses<'a> {
        #[serde(borrow, default, deserialize_with = "deserialize_present")]
        bind_ips: Option<&'a RawValue>,
    }
    let known = parse_object::<KeyRow<'_>>(row);
    let (scopes, is_lock) = known.map_or((None, None), |row| (row.role_scopes, row.is_lock));
    let addresses = parse_object::<KeyAddresses<'_>>(row).and_then(|row| row.bind_ips);
    KeyPermissions {
        scopes: scopes.and_then(parse_text).and_then(|text| KeyScope::parse_list(&text)),
        is_bound: addresses.and_then(parse_addresses),
        is_locked: match is_lock.and_then(parse_integer) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
    }
}

/// Keeps `null` apart from a field that is absent.
fn deserialize_present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Whether a list of addresses, as text or as an array of texts, restricts the callers; `None` if it is neither. `null` and
/// an empty list stand for no restriction, and so does an item that stands for every address.
fn parse_addresses(raw: &RawValue) -> Option<bool> {
    if raw.get() == "null" {
        return Some(false);
    }
    let text = match parse_text(raw) {
        Some(text) => text.into_owned(),
        None => serde_json::from_str::<Vec<String>>(raw.get()).ok()?.join(","),
    };
    let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).peekable();
    let is_any = |item: &str| matches!(item, "*" | "0.0.0.0" | "::") || item.ends_with("/0");
    Some(items.peek().is_some() && !items.any(is_any))
}

/// A refusal with a code of the exchange. Only codes of the documents are repeated.
fn refusal(status: u16, code: &str) -> Failure {
    const MAY_NOT_LIST: &str = "this key may not read the list of keys";
    let (reason, code, text) = match code {
        "AUTH_106" => (Reason::Auth, "AUTH_106", MAY_NOT_LIST),
        "NO_OPERATION_PERMISSION" => (Reason::Auth, "NO_OPERATION_PERMISSION", MAY_NOT_LIST),
        "PERMISSION_LIMIT" => (Reason::Auth, "PERMISSION_LIMIT", MAY_NOT_LIST),
        "AUTH_101" => (Reason::Auth, "AUTH_101", "the key does not exist"),
        "AUTH_102" => (Reason::Auth, "AUTH_102", "the key is not activated"),
        "AUTH_103" => (Reason::Signature, "AUTH_103", "the signature is wrong"),
        "AUTH_104" => (Reason::Auth, "AUTH_104", "this IP address is not on the key's list"),
        "AUTH_105" => (Reason::Clock, "AUTH_105", "the time of the request is outside the window"),
        "429" => (Reason::RateLimited, "429", "too many calls"),
        code if code.starts_with("GATEWAY_") => {
            (Reason::RateLimited, "GATEWAY_…", "risk control was triggered")
        }
        _ => return undocumented_reply(status),
    };
    Failure::new(reason, format!("the exchange answered {code}: {text}"))
}

/// The failure of a reply that only its status describes.
fn undocumented_reply(status: u16) -> Failure {
    let text = format!("HTTP {status}, and not the documented list of keys");
    if is_limit_reply(status) {
        return Failure::new(Reason::RateLimited, text);
    }
    Failure { text, ..failure_from_status(status, b"{}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef01234567";

    fn reply(fields: &str) -> String {
        format!(
            r#"{{"rc":0,"mc":"SUCCESS","ma":[{{}}],"result":[{{"id":1,"accessKey":"other","secretKey":"{SECRET}","isLock":1,"bindIps":"1.2.3.4","roleScopes":"WITHDRAW"}},{{"id":2,"accessKey":"mine","secretKey":"{SECRET}"{fields}}}]}}"#
        )
    }

    fn decode(fields: &str) -> Result<KeyPermissions, Failure> {
        decode_key_list(200, reply(fields).as_bytes(), "mine")
    }

    #[test]
    fn the_own_key_is_described_and_what_is_not_told_is_unknown() {
        use KeyScope::{Future, LeverLoan, Query, Trade, Withdraw};
        let scopes = |text: &str| decode(&format!(r#","roleScopes":{text}"#)).map(|key| key.scopes);
        assert_eq!(scopes(r#""QUERY""#), Ok(Some(vec![Query])));
        assert_eq!(scopes(r#""QUERY_TRADE""#), Ok(Some(vec![Query, Trade])));
        assert_eq!(scopes(r#""LEVER_LOAN_WITHDRAW_FUTURE""#), Ok(Some(vec![LeverLoan, Withdraw, Future])));
        assert_eq!(scopes(r#""""#), Ok(Some(vec![])));
        for unknown in [r#""QUERY_ADMIN""#, r#""QUERYTRADE""#, r#""query""#, "null", "7", r#"["QUERY"]"#] {
            assert_eq!(scopes(unknown), Ok(None), "{unknown}");
        }
        let is_bound = |text: &str| decode(&format!(r#","bindIps":{text}"#)).map(|key| key.is_bound);
        for (text, bound) in [
            (r#""""#, Some(false)),
            ("null", Some(false)),
            ("[]", Some(false)),
            (r#""192.0.2.1,192.0.2.2""#, Some(true)),
            (r#"["192.0.2.1"]"#, Some(true)),
            (r#"",""#, Some(false)),
            (r#"[""]"#, Some(false)),
            (r#""*""#, Some(false)),
            (r#""192.0.2.1, 0.0.0.0/0""#, Some(false)),
            (r#"["::/0"]"#, Some(false)),
            ("[null]", None),
            ("7", None),
            ("{}", None),
        ] {
            assert_eq!(is_bound(text), Ok(bound), "{text}");
        }
        for (text, locked) in [("0", Some(false)), ("1", Some(true)), (r#""1""#, Some(true)), ("2", None)] {
            let key = decode(&format!(r#","isLock":{text}"#)).map(|key| key.is_locked);
            assert_eq!(key, Ok(locked), "{text}");
        }
        let untold = KeyPermissions { scopes: None, is_bound: None, is_locked: None };
        assert_eq!(decode(""), Ok(untold));
    }

    #[test]
    fn a_failure_holds_nothing_of_the_reply() {
        for (status, body, reason) in [
            (200, reply("").replace("mine", "gone"), Reason::Api),
            (200, reply("").replace("other", "mine"), Reason::Decode),
            (200, format!(r#"{{"rc":1,"mc":"{SECRET}","result":null}}"#), Reason::Decode),
            (200, r#"{"rc":1,"mc":"NO_OPERATION_PERMISSION","result":null}"#.to_owned(), Reason::Auth),
            (200, r#"{"rc":1,"mc":"GATEWAY_0001","result":null}"#.to_owned(), Reason::RateLimited),
            (200, format!(r#"{{"rc":0,"mc":"SUCCESS","result":"{SECRET}"}}"#), Reason::Decode),
            (200, format!(r#"{{"rc":0,"mc":"SUCCESS","result":[{{"secretKey":"{SECRET}""#), Reason::Decode),
            (200, SECRET.to_owned(), Reason::Decode),
            (403, format!("<html>{SECRET}"), Reason::Http),
            (429, SECRET.to_owned(), Reason::RateLimited),
            (500, reply(""), Reason::Unavailable),
            (503, SECRET.to_owned(), Reason::Unavailable),
        ] {
            let failure = decode_key_list(status, body.as_bytes(), "mine");
            let failure = failure.err().unwrap_or_else(|| panic!("{status} {body}"));
            assert_eq!(failure.reason, reason, "{status} {body}");
            assert!(!failure.text.contains(SECRET) && !failure.text.contains("html"), "{failure}");
        }
    }
}
