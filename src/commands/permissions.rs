//! `check --permissions`: describes what the exchange says about a key, and warns about what a key of an exporter should
//! not be able to do. Prints nothing and sends nothing.

use crate::exchange::{ApiVersion, ExchangeHosts, Failure, KeyPermissions, KeyScope, Wallet};

/// Why the permissions of a key cannot be told without a call.
pub(super) fn describe_missing_user_center(hosts: &ExchangeHosts) -> &'static str {
    match hosts.api {
        ApiVersion::V1 => "cannot be told: API v1 does not list the permissions of keys",
        ApiVersion::V4 => {
            "cannot be told: the base URLs are not XT's own\n\
             fix: set --xt.user-center-base-url (user_center_base_url in a file) to the user center of the same exchange"
        }
    }
}

/// A failed read of the permissions.
pub(super) fn describe_unread_permissions(failure: &Failure) -> String {
    format!("cannot be told: {} [{}]", failure.text, failure.reason)
}

/// The findings about a key: a warning or not, and the text. `wallets` are the ones that the exporter reads with it.
pub(super) fn describe_permissions(key: &KeyPermissions, wallets: &[Wallet]) -> Vec<(bool, String)> {
    let scopes = match &key.scopes {
        None => (true, "cannot be told: the exchange named a permission that is not documented".to_owned()),
        Some(scopes) => {
            let names: Vec<_> = scopes.iter().map(|scope| scope.label()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let excessive = scopes.iter().copied().filter_map(|scope| describe_excess(scope, wallets));
            let excessive: Vec<_> = excessive.collect();
            if excessive.is_empty() {
                (false, names)
            } else {
                let finding = format!(
                    "{names}: the key can {}\nfix: create a key that can only read, and delete this one",
                    excessive.join(" and ")
                );
                (true, finding)
            }
        }
    };
    let addresses = match key.is_bound {
        Some(true) => (false, "only the IP addresses on the key's list may use it".to_owned()),
        Some(false) => (
            true,
            "every IP address may use the key\n\
             fix: add this machine's public IP address to the key's IP list"
                .to_owned(),
        ),
        None => (true, "cannot be told whether the key has an IP list".to_owned()),
    };
    let lock = match key.is_locked {
        Some(false) => (false, "the key is not locked".to_owned()),
        Some(true) => (
            true,
            "the key is locked\nfix: unlock it at the exchange, or ask the exchange's support why".to_owned(),
        ),
        None => (true, "cannot be told whether the key is locked".to_owned()),
    };
    vec![scopes, addresses, lock]
}

/// What a permission permits beyond reading `wallets`; `None` if nothing.
fn describe_excess(scope: KeyScope, wallets: &[Wallet]) -> Option<&'static str> {
    let reads_futures =
        wallets.iter().any(|wallet| matches!(wallet, Wallet::FuturesUsdt | Wallet::FuturesCoin));
    match scope {
        KeyScope::Query => None,
        // The only permission with which futures can be read.
        KeyScope::Future => (!reads_futures).then_some("use futures, which this account does not read"),
        KeyScope::Trade => Some("trade"),
        KeyScope::Withdraw => Some("withdraw"),
        KeyScope::LeverLoan => Some("borrow"),
        KeyScope::Transfer => Some("transfer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(key: &KeyPermissions, wallets: &[Wallet]) -> Vec<bool> {
        describe_permissions(key, wallets).into_iter().map(|(is_warning, _)| is_warning).collect()
    }

    #[test]
    fn only_a_bound_unlocked_key_that_can_only_read_has_no_warning() {
        use KeyScope::{Future, LeverLoan, Query, Trade, Transfer, Withdraw};
        let good = KeyPermissions { scopes: Some(vec![Query]), is_bound: Some(true), is_locked: Some(false) };
        let spot = [Wallet::Spot];
        assert_eq!(warnings(&good, &spot), [false; 3]);
        for scope in [Trade, Withdraw, LeverLoan, Transfer, Future] {
            let key = KeyPermissions { scopes: Some(vec![Query, scope]), ..good.clone() };
            assert_eq!(warnings(&key, &spot), [true, false, false], "{scope:?}");
        }
        let futures = KeyPermissions { scopes: Some(vec![Query, Future]), ..good.clone() };
        assert_eq!(warnings(&futures, &[Wallet::FuturesCoin]), [false; 3]);
        for (key, expected) in [
            (KeyPermissions { scopes: None, ..good.clone() }, [true, false, false]),
            (KeyPermissions { is_bound: Some(false), ..good.clone() }, [false, true, false]),
            (KeyPermissions { is_bound: None, ..good.clone() }, [false, true, false]),
            (KeyPermissions { is_locked: Some(true), ..good.clone() }, [false, false, true]),
            (KeyPermissions { is_locked: None, ..good.clone() }, [false, false, true]),
        ] {
            assert_eq!(warnings(&key, &spot), expected, "{key:?}");
        }
    }
}
