//! Answers with balances, read in one go while they have the form in which the exchange writes them. One
//! that has any other, if only in one of its rows, is not read here at all: that takes a reader who is
//! careful with every row, and knows what to say of it.

use crate::{rows::Row, scan::Scanner};

/// Reads a good answer to getBalance or getFunds of v1, its amounts texts.
#[must_use]
pub fn v1(body: &[u8]) -> Option<Vec<Row>> {
    let (mut code, mut data) = (None, None);
    read(body, |scanner, name| match name {
        "code" => once(&mut code, scanner.number()?),
        "data" => {
            let mut rows = Vec::new();
            scanner.object(|scanner, currency| {
                rows.push(row(scanner, currency)?);
                Some(())
            })?;
            once(&mut data, rows)
        }
        _ => scanner.pass(),
    })?;
    data.filter(|_| code == Some("200"))
}

/// A row of v1, after its name.
fn row(scanner: &mut Scanner<'_>, currency: &str) -> Option<Row> {
    let (mut free, mut frozen) = (None, None);
    scanner.object(|scanner, name| match name {
        "available" => once(&mut free, scanner.text()?),
        "freeze" => once(&mut frozen, scanner.text()?),
        _ => scanner.pass(),
    })?;
    Some(Row::of(currency, free?, frozen?))
}

/// Reads a good answer to balances of v4, its amounts texts or numbers.
#[must_use]
pub fn v4(body: &[u8]) -> Option<Vec<Row>> {
    let (mut code, mut word, mut result) = (None, None, None);
    read(body, |scanner, name| match name {
        "rc" => once(&mut code, scanner.number()?),
        "mc" => once(&mut word, scanner.text()?),
        "result" => once(&mut result, assets(scanner)?),
        _ => scanner.pass(),
    })?;
    result.filter(|_| code == Some("0") && word == Some("SUCCESS"))
}

/// The result of v4.
fn assets(scanner: &mut Scanner<'_>) -> Option<Vec<Row>> {
    let mut assets = None;
    scanner.object(|scanner, name| match name {
        "assets" => {
            let mut rows = Vec::new();
            scanner.list(|scanner| {
                rows.push(asset(scanner)?);
                Some(())
            })?;
            once(&mut assets, rows)
        }
        _ => scanner.pass(),
    })?;
    assets
}

/// A row of v4.
fn asset(scanner: &mut Scanner<'_>) -> Option<Row> {
    let (mut currency, mut free, mut frozen) = (None, None, None);
    scanner.object(|scanner, name| match name {
        "currency" => once(&mut currency, scanner.text()?),
        "availableAmount" => once(&mut free, scanner.digits()?),
        "frozenAmount" => once(&mut frozen, scanner.digits()?),
        _ => scanner.pass(),
    })?;
    Some(Row::of(currency?, free?, frozen?))
}

fn read<'a>(body: &'a [u8], member: impl FnMut(&mut Scanner<'a>, &'a str) -> Option<()>) -> Option<()> {
    let mut scanner = Scanner::new(std::str::from_utf8(body).ok()?);
    scanner.object(member)?;
    scanner.end()
}

/// Nothing says which of two is true.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
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
            r#"{"code":200,"data":{},"data":{}}"#,
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
            r#"{"rc":0,"mc":"SUCCESS","result":{}}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":{"assets":[],"assets":[]}}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":{"assets":[]},"result":{"assets":[]}}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":{"new":1},"result":{"assets":[]}}"#,
        ] {
            assert!(v4(body.as_bytes()).is_none(), "{body}");
        }
        assert!(v1(b"{\"code\":200,\"data\":{},\"new\":\"\xff\"}").is_none(), "not UTF-8");
    }
}
