//! Whether a failed call may mean that the account has not opened a wallet. Only a hint: the exchange's reply for such an
//! account is not documented, so the wallet fails like any other.

use super::{Detail, Failure, Reason, Wallet};

const FUTURES_USDT: &str = "the account may not have opened USDT-margined futures: open them at the exchange, or remove futures_usdt from the wallets in the configuration";
const FUTURES_COIN: &str = "the account may not have opened coin-margined futures: open them at the exchange, or remove futures_coin from the wallets in the configuration";

/// The wallet that may not be open, with the remedy. `wallet` is `None` for a call without a key.
#[must_use]
pub fn suggest_opening_wallet(wallet: Option<Wallet>, failure: &Failure) -> Option<&'static str> {
    let names_no_other_cause = match failure.reason {
        Reason::Api | Reason::Decode => failure.detail.is_none(),
        Reason::Auth => failure.detail == Some(Detail::UnknownKey),
        _ => false,
    };
    match wallet? {
        _ if !names_no_other_cause => None,
        Wallet::FuturesUsdt => Some(FUTURES_USDT),
        Wallet::FuturesCoin => Some(FUTURES_COIN),
        Wallet::Spot | Wallet::Wallet | Wallet::Fiat | Wallet::Earn => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::futures::decode_balances;

    fn suggest(wallet: Wallet, body: &str) -> Option<&'static str> {
        let failure = decode_balances(200, body.as_bytes()).err();
        suggest_opening_wallet(Some(wallet), &failure.unwrap_or_else(|| panic!("no failure: {body}")))
    }

    fn error(code: &str, msg: &str) -> String {
        format!(
            r#"{{"returnCode":1,"msgInfo":"failure","error":{{"code":"{code}","msg":"{msg}"}},"result":null}}"#
        )
    }

    #[test]
    fn an_undocumented_refusal_of_futures_has_a_hint_and_a_documented_one_has_none() {
        let undocumented = [
            error("account_not_exist", "account not exist"),
            error("fail", ""),
            error("403", "account not exist"),
            r#"{"returnCode":0,"msgInfo":"success","error":null,"result":null}"#.to_owned(),
            r#"{"returnCode":0,"msgInfo":"success","error":null,"result":{}}"#.to_owned(),
        ];
        for body in undocumented {
            assert_eq!(suggest(Wallet::FuturesUsdt, &body), Some(FUTURES_USDT), "{body}");
            assert_eq!(suggest(Wallet::FuturesCoin, &body), Some(FUTURES_COIN), "{body}");
            assert_eq!(suggest(Wallet::Spot, &body), None, "{body}");
        }
        for (code, msg) in [
            ("403", "invalid signature"),
            ("403", "no permission"),
            ("403", "ip not in whitelist"),
            ("429", ""),
            ("500", ""),
            ("400", "Connection refused: /10.0.26.71:8080"),
        ] {
            assert_eq!(suggest(Wallet::FuturesCoin, &error(code, msg)), None, "{code} {msg}");
        }
    }
}
