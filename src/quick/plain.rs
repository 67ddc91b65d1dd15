//! Answers with balances, read in one go while they have the form in which the exchange writes them. One
//! that has any other, if only in one of its rows, is not read here at all: that takes a reader who is
//! careful with every row, and knows what to say of it.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use crate::{
    json::{Entries, Object},
    rows::Row,
};

/// Reads a good answer to getBalance or getFunds of v1, its amounts texts.
#[must_use]
pub fn v1(body: &[u8]) -> Option<Vec<Row>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        code: u64,
        #[serde(borrow)]
        data: Entries<&'a str, Object<Amounts<'a>>, Row>,
    }
    match read(body)? {
        Object(Envelope { code: 200, data: Entries { entries, .. } }) => Some(entries),
        Object(_) => None,
    }
}

/// Reads a good answer to balances of v4, its amounts texts or numbers.
#[must_use]
pub fn v4(body: &[u8]) -> Option<Vec<Row>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        rc: u64,
        mc: &'a str,
        result: Object<Assets>,
    }
    #[derive(Deserialize)]
    struct Assets {
        assets: Vec<Item>,
    }
    match read(body)? {
        Object(Envelope { rc: 0, mc: "SUCCESS", result: Object(Assets { assets }) }) => {
            Some(assets.into_iter().map(|Item(row)| row).collect())
        }
        Object(_) => None,
    }
}

/// What a row of v1 holds, besides its name.
#[derive(Deserialize)]
struct Amounts<'a> {
    available: &'a str,
    freeze: &'a str,
}

impl From<(&str, Object<Amounts<'_>>)> for Row {
    fn from((name, Object(amounts)): (&str, Object<Amounts<'_>>)) -> Self {
        Self::of(name, amounts.available, amounts.freeze)
    }
}

/// A row of v4.
struct Item(Row);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Asset<'a> {
            currency: &'a str,
            #[serde(borrow)]
            available_amount: &'a RawValue,
            #[serde(borrow)]
            frozen_amount: &'a RawValue,
        }

        let Object(asset) = Object::<Asset<'de>>::deserialize(deserializer)?;
        match (digits(asset.available_amount), digits(asset.frozen_amount)) {
            (Some(free), Some(frozen)) => Ok(Self(Row::of(asset.currency, free, frozen))),
            _ => Err(D::Error::custom("an amount is neither a plain text nor a number")),
        }
    }
}

/// Also what is passed over must be text.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

/// What stands in a text or in a number; `None` if it is neither, or a text with escapes.
fn digits(raw: &RawValue) -> Option<&str> {
    let raw = raw.get();
    let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_number = || raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    text.filter(|text| !text.contains('\\')).or_else(|| is_number().then_some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: Option<Vec<Row>>) -> Option<String> {
        let amounts = |row: &Row| row.amounts.as_ref().map(|(a, b)| format!("{} {}", a.text(), b.text()));
        let row = |row: &Row| {
            format!("{} {}", row.currency.as_deref().unwrap_or("?"), amounts(row).unwrap_or_default())
        };
        rows.map(|rows| rows.iter().map(row).collect::<Vec<_>>().join(", "))
    }

    fn of_v1(data: &str) -> Option<String> {
        let body = format!(r#" {{"code":200,"new":[{{}}],"data":{data},"info":"success"}}"#);
        shown(v1(body.as_bytes()))
    }

    fn of_v4(assets: &str) -> Option<String> {
        let body = format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{{"total":1,"assets":{assets}}}}} "#);
        shown(v4(body.as_bytes()))
    }

    #[test]
    fn what_the_exchange_writes_is_read_in_one_go() {
        assert_eq!(of_v1("{}").as_deref(), Some(""));
        let rows = r#"{"USDT":{"freeze":"1.50","new":{"a":[]},"available":"-3"},"a":{"available":"x","freeze":"2"}}"#;
        assert_eq!(of_v1(rows).as_deref(), Some("usdt -3 1.50, a "));
        assert_eq!(of_v4("[]").as_deref(), Some(""));
        let rows = r#"[{"currencyId":11,"availableAmount":1.50,"currency":"a","frozenAmount":"-1E-8"}]"#;
        assert_eq!(of_v4(rows).as_deref(), Some("a 1.50 -1E-8"));
    }

    #[test]
    fn what_has_any_other_form_is_not_read_here() {
        for data in [
            "[]",
            "null",
            r#"{"a":["1","2"]}"#,
            r#"{"a":{"available":"1"}}"#,
            r#"{"a":{"available":"1","freeze":2}}"#,
            r#"{"a":{"available":"1","freeze":null}}"#,
            r#"{"a":{"available":"1","freeze":"\u0032"}}"#,
            r#"{"a":{"available":"1","freeze":"2","freeze":"3"}}"#,
            r#"{"\u0061":{"available":"1","freeze":"2"}}"#,
            r#"{"a":{"available":"1","freeze":"2"}}} {"#,
        ] {
            assert_eq!(of_v1(data), None, "{data}");
        }
        for assets in [
            "{}",
            r#"[["a","1","2"]]"#,
            r#"[{"currency":"a","availableAmount":"1"}]"#,
            r#"[{"currency":1,"availableAmount":"1","frozenAmount":"2"}]"#,
            r#"[{"currency":"a","availableAmount":"1","frozenAmount":null}]"#,
            r#"[{"currency":"a","availableAmount":"1","frozenAmount":true}]"#,
            r#"[{"currency":"a","availableAmount":"1","frozenAmount":"\u0032"}]"#,
            r#"[{"currency":"a","currency":"b","availableAmount":"1","frozenAmount":"2"}]"#,
        ] {
            assert_eq!(of_v4(assets), None, "{assets}");
        }
        for body in [
            "[200,{}]",
            r#"{"code":"200","data":{}}"#,
            r#"{"code":201,"data":{}}"#,
            r#"{"code":200}"#,
            r#"{"code":200,"code":200,"data":{}}"#,
            "{\"code\":200,\"data\":{\"\u{1}\":1}}",
            "",
        ] {
            assert!(v1(body.as_bytes()).is_none(), "{body}");
        }
        for body in [
            r#"[0,"SUCCESS",[[]]]"#,
            r#"{"rc":"0","mc":"SUCCESS","result":{"assets":[]}}"#,
            r#"{"rc":1,"mc":"SUCCESS","result":{"assets":[]}}"#,
            r#"{"rc":0,"mc":"FAILURE","result":{"assets":[]}}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":[[]]}"#,
        ] {
            assert!(v4(body.as_bytes()).is_none(), "{body}");
        }
        assert!(v1(b"{\"code\":200,\"data\":{},\"new\":\"\xff\"}").is_none(), "not UTF-8");
    }
}
