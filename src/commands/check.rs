//! `check`: the doctor, for the person whose key does not work. Names the cause and the remedy, and
//! asks no more often than the daemon would.

use std::{fmt::Write as _, time::Duration};

use humantime::format_duration;

use super::{CommandError, config_loader::ConfigLoader, print, serve::count};
use crate::{
    cli::CheckFlags,
    clock::Clock,
    config::{AccountConfig, PricesConfig},
    exchange::{
        Amount, ApiVersion, BalanceAnswer, Client, Detail, Failure, PriceClient, QUOTE, ReadRequest, Reason,
        Session, Skipped, Wallet,
    },
};

/// From this difference on the machine's clock is said to be wrong, in seconds. Polls correct for
/// it; timestamps, alerts and other programs do not.
const SKEW_MAX: f64 = 2.0;

const NOT_ASKED: &str = "not asked: after a limit reply nothing is sent for ten minutes";

pub(super) async fn run(flags: &CheckFlags) -> Result<(), CommandError> {
    let clock = Clock::start();
    let config = ConfigLoader::new(&flags.account, None, clock).load().await.map_err(CommandError::Usage)?;
    print(&line(true, "configuration", &format!("valid, {}", count(config.accounts.len(), "account"))));
    let exchange = Client::new(clock).map_err(CommandError::Failed)?;
    let mut troubles = 0;
    if let Some(warning) = exchange.trust_warning() {
        troubles += 1;
        print(&line(false, "certificate authorities", warning));
    }
    for account in config.accounts {
        troubles += check_account(account, &exchange).await;
    }
    if let Some(prices) = config.prices {
        troubles += check_prices(prices, &exchange).await;
    }
    if troubles == 0 {
        print("\nall is well\n");
        return Ok(());
    }
    print(&format!("\n{}\n", count(troubles, "problem")));
    Err(CommandError::AlreadyReported)
}

/// Examines one account and tells what it finds. Returns how many troubles there are.
async fn check_account(account: AccountConfig, exchange: &Client) -> usize {
    let AccountConfig { name, endpoints, credentials, wallets, watch, poll_timeout, .. } = account;
    print(&format!("\naccount '{name}'\n"));
    let mut troubles = 0;
    let mut tell = |good: bool, what: &str, finding: &str| {
        troubles += usize::from(!good);
        print(&line(good, what, finding));
    };
    match credentials.warnings() {
        [] => tell(true, "key pair", "read"),
        // A secret that Docker mounts is of mode 0444, and nobody can change that there.
        warnings => warnings.iter().for_each(|warning| print(&finding_line("WARN", "key pair", warning))),
    }
    let mut session = Session::new(name, endpoints.clone(), credentials);
    let mut unreached = 0;
    for base in &endpoints.base_urls {
        match exchange.measure_skew(&session, base, poll_timeout).await {
            Ok(skew) => tell(skew.abs() <= SKEW_MAX, &base.to_string(), &clock_finding(skew)),
            Err(failure) => {
                tell(false, &base.to_string(), &with_remedy(endpoints.api, None, &failure));
                unreached += 1;
            }
        }
    }
    for wallet in wallets {
        let what = format!("wallet {wallet}");
        let request = ReadRequest { wallet, last_body: None, timeout: poll_timeout, excluded_host: None };
        match exchange.read(&mut session, request).await.map(|read| read.outcome) {
            Ok(Ok(read)) => {
                // None is known that it could be equal to.
                let answer = read.answer.unwrap_or_default();
                tell(answer.rejected == 0, &what, &answer_finding(&answer));
                for (_, watch) in watch.iter().filter(|(place, _)| *place == wallet) {
                    let (good, finding) = watch_finding(&answer, &watch.currency, watch.threshold);
                    tell(good, &format!("watch {}", watch.currency), &finding);
                }
            }
            // One problem is not two because it has two effects.
            Ok(Err(failure)) if failure.is_of_clock_sync && unreached == endpoints.base_urls.len() => {
                print(&line(false, &what, "not read, for the reason above"));
            }
            Ok(Err(failure)) => tell(false, &what, &with_remedy(endpoints.api, Some(wallet), &failure)),
            Err(Skipped) => print(&line(false, &what, NOT_ASKED)),
        }
    }
    troubles
}

/// Asks for the prices and tells what it finds. Returns how many troubles there are.
async fn check_prices(prices: PricesConfig, exchange: &Client) -> usize {
    let PricesConfig { endpoints, poll_timeout, .. } = prices;
    let api = endpoints.api;
    let (good, finding) = match exchange.read_prices(&mut PriceClient::new(endpoints), poll_timeout).await {
        Ok(Ok(answer)) => {
            let currencies = answer.prices.currencies().len();
            (true, format!("read, {currencies} currencies have one in {QUOTE}"))
        }
        Ok(Err(failure)) => (false, with_remedy(api, None, &failure)),
        Err(Skipped) => {
            // What has led to this is a problem already.
            print(&format!("\n{}", line(false, "prices", NOT_ASKED)));
            return 0;
        }
    };
    print(&format!("\n{}", line(good, "prices", &finding)));
    usize::from(!good)
}

fn line(good: bool, what: &str, finding: &str) -> String {
    finding_line(if good { "ok" } else { "BAD" }, what, finding)
}

fn finding_line(verdict: &str, what: &str, finding: &str) -> String {
    let mut text = String::new();
    let mut lines = finding.lines();
    let _ = writeln!(text, "  {verdict:<5}{what}: {}", lines.next().unwrap_or_default());
    for more in lines {
        let _ = writeln!(text, "       {more}");
    }
    text
}

fn clock_finding(skew: f64) -> String {
    if skew.abs() <= SKEW_MAX {
        return format!("reached; its clock and ours are {:.1} s apart", skew.abs());
    }
    // Whole seconds are enough here, and a skew that is no time at all is shown as the longest.
    let size = Duration::try_from_secs_f64(skew.abs().round()).unwrap_or(Duration::MAX);
    let direction = if skew > 0.0 { "behind" } else { "ahead of" };
    format!(
        "reached, but this machine's clock is {} {direction} the exchange's\n\
         remedy: set it from the network (timedatectl set-ntp true). Polls correct for it, timestamps do not",
        format_duration(size)
    )
}

fn answer_finding(answer: &BalanceAnswer) -> String {
    let held = answer.balances.iter().filter(|row| row.free.value() + row.frozen.value() > 0.0).count();
    let mut text = format!("read, {held} of {} currencies above zero", answer.balances.len());
    if answer.rejected > 0 {
        let _ = write!(text, "\n{} unusable and left out", count_rows(answer.rejected));
    }
    text
}

fn count_rows(rows: u64) -> String {
    if rows == 1 { "1 row is".to_owned() } else { format!("{rows} rows are") }
}

fn watch_finding(answer: &BalanceAnswer, currency: &str, threshold: Option<f64>) -> (bool, String) {
    if answer.unreadable.iter().any(|name| &**name == currency) {
        return (false, "its row is unusable, so its balance would be unknown".to_owned());
    }
    let free = answer.balances.iter().find(|row| &*row.currency == currency).map(|row| &row.free);
    if free.is_none() && answer.nameless > 0 {
        let finding =
            "not in the answer, but a row without a usable name may be its own: its balance would be unknown";
        return (false, finding.to_owned());
    }
    let held = match free {
        Some(free) => format!("{} free", free.text()),
        None => "not in the answer, so it counts as 0: is it spelt as the exchange spells it?".to_owned(),
    };
    let value = free.map_or(0.0, Amount::value);
    match threshold {
        Some(threshold) if value < threshold => {
            (true, format!("{held}; that is below its threshold of {threshold}"))
        }
        Some(threshold) => (true, format!("{held}; its threshold is {threshold}")),
        None => (true, held),
    }
}

fn with_remedy(api: ApiVersion, wallet: Option<Wallet>, failure: &Failure) -> String {
    let mut text = format!("{} [{}]\nremedy: {}", failure.text, failure.reason, remedy(failure));
    if let Some(other) = other_version_remedy(api, wallet, failure) {
        let _ = write!(text, "\n{other}");
    }
    text
}

/// What it may be instead. Only words: to try a key at a host that nobody named would give it away.
fn other_version_remedy(api: ApiVersion, wallet: Option<Wallet>, failure: &Failure) -> Option<&'static str> {
    const V4: &str = "Or the key is one of API v4, as all are that are made at XT today: then set --xt.api v4, in a file api: v4";
    const V1: &str = "Or the key is one of API v1, made before XT withdrew that in 2022 or at a sister exchange: then set --xt.api v1, in a file api: v1, and the base URL of that exchange";
    let is_unknown = failure.reason == Reason::Auth && failure.detail == Some(Detail::UnknownKey);
    match (api, wallet, failure.reason) {
        (_, Some(Wallet::FuturesUsdt | Wallet::FuturesCoin), Reason::Auth) => Some(
            "Or it lacks the permission for futures, which is one of its own, or this machine's address is not on its list",
        ),
        (ApiVersion::V4, ..) if is_unknown => Some(V1),
        (ApiVersion::V1, ..) if is_unknown => Some(V4),
        // XT's own v1 may be switched off by now.
        (ApiVersion::V1, _, Reason::Http | Reason::Decode) => Some(V4),
        _ => None,
    }
}

const UNKNOWN_KEY: &str = "the exchange does not know this access key: is it spelt right, not deleted, not swapped with the secret, and of this exchange?";

/// What a person can do about it.
fn remedy(failure: &Failure) -> &'static str {
    match failure.reason {
        Reason::Auth => match failure.detail {
            Some(Detail::AddressNotAllowed) => {
                "the key is bound to other addresses: add this machine's public address to the key's IP list"
            }
            Some(Detail::NotPermitted) => "the key may not read: give it the read permission, and no other",
            Some(Detail::InactiveKey) => {
                "the key is not active: finish its activation at the exchange, or wait for the review"
            }
            Some(Detail::UnknownKey | Detail::NotFromTheExchange) | None => UNKNOWN_KEY,
        },
        _ if failure.detail == Some(Detail::NotFromTheExchange) => {
            "not the exchange answered, but something in front of it: a CDN or firewall that blocks this machine's address or country, or a proxy. Set another base URL, or give this machine another way out"
        }
        Reason::Signature => {
            "the secret key does not belong to this access key: copy both again, from the same key"
        }
        Reason::Clock => {
            "the exchange did not accept the time of the request: set this machine's clock from the network (timedatectl set-ntp true)"
        }
        Reason::RateLimited => {
            "a limit was passed, and asking again prolongs it: stop what else uses this key or address, and wait ten minutes"
        }
        Reason::Unavailable => {
            "the exchange is down or in maintenance: look at its announcements, and try again later"
        }
        Reason::Http => {
            "this does not look like the API: is the base URL right, and is there a proxy or firewall in between?"
        }
        Reason::Timeout => {
            "no answer came in time: is a firewall in between? If the line is slow, raise the poll timeout"
        }
        Reason::Dns => {
            "the name is unknown here: is the base URL spelt right, and does this machine's DNS work?"
        }
        Reason::Connect => "nobody answers there: is the base URL right, and may this machine connect out?",
        Reason::Tls => {
            "the connection cannot be trusted: is this machine's date right, are its CA certificates installed, is a proxy in between?"
        }
        Reason::Body | Reason::Decode => {
            "this is not the documented answer: is the base URL that of this version of the API, and is a proxy in between?"
        }
        Reason::Cached => {
            "something between this machine and the exchange keeps answers, and they are old: have the proxy or cache pass this host's answers through, or set another base URL"
        }
        Reason::Api => "the exchange's own words are above; its support can say more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange;

    #[test]
    fn a_clock_that_is_off_is_named_with_its_side() {
        assert_eq!(clock_finding(0.26), "reached; its clock and ours are 0.3 s apart");
        assert!(clock_finding(90.2).contains("is 1m 30s behind the exchange's"), "{}", clock_finding(90.2));
        assert!(clock_finding(-3.0).contains("is 3s ahead of the exchange's"), "{}", clock_finding(-3.0));
    }

    #[test]
    fn every_reason_has_a_remedy_of_its_own() {
        let remedies: Vec<_> = Reason::ALL.iter().map(|reason| remedy(&Failure::new(*reason, "x"))).collect();
        let mut apart = remedies.clone();
        apart.sort_unstable();
        apart.dedup();
        assert_eq!(apart.len(), remedies.len() - 1, "only body and decode share theirs");
    }

    /// The failure of an answer to the call for balances.
    fn refused(api: ApiVersion, body: &str) -> Failure {
        let answer = match api {
            ApiVersion::V1 => exchange::v1::decode_balances(200, body.as_bytes()),
            ApiVersion::V4 => exchange::v4::decode_balances(200, body.as_bytes()),
        };
        answer.err().unwrap_or_else(|| panic!("no failure: {body}"))
    }

    /// A refusal of v1 under code 307, or of v4 under another code.
    fn worded(api: ApiVersion, said: &str) -> Failure {
        match api {
            ApiVersion::V1 => refused(api, &format!(r#"{{"code":307,"info":"{said}"}}"#)),
            ApiVersion::V4 => refused(api, &format!(r#"{{"rc":1,"mc":"{said}","ma":[],"result":null}}"#)),
        }
    }

    #[test]
    fn a_key_that_is_not_known_may_be_one_of_the_other_version() {
        let spot = Some(Wallet::Spot);
        for (api, failure, version) in [
            (ApiVersion::V1, worded(ApiVersion::V1, "AccessKey error"), "API v4"),
            (
                ApiVersion::V1,
                refused(ApiVersion::V1, r#"{"code":404,"info":"请检查accesskey是否有效"}"#),
                "API v4",
            ),
            (ApiVersion::V4, worded(ApiVersion::V4, "AUTH_101"), "API v1"),
        ] {
            let found = other_version_remedy(api, spot, &failure);
            assert!(found.is_some_and(|words| words.contains(version)), "{failure}: {found:?}");
        }
        let other = |api, wallet, reason| other_version_remedy(api, wallet, &Failure::new(reason, "x"));
        assert!(other(ApiVersion::V1, None, Reason::Http).is_some_and(|words| words.contains("API v4")));
        let futures = other(ApiVersion::V4, Some(Wallet::FuturesCoin), Reason::Auth);
        assert!(futures.is_some_and(|words| words.contains("permission for futures")));
        // An exchange that knows the key is of the key's version.
        for code in ["AUTH_102", "AUTH_104", "AUTH_106"] {
            assert_eq!(
                other_version_remedy(ApiVersion::V4, spot, &worded(ApiVersion::V4, code)),
                None,
                "{code}"
            );
        }
        assert_eq!(other(ApiVersion::V1, spot, Reason::Signature), None);
        assert_eq!(other(ApiVersion::V4, None, Reason::Decode), None);
    }

    #[test]
    fn an_answer_from_in_front_of_the_exchange_is_named() {
        let said = |status: u16, body: &str| {
            let failure = exchange::v1::decode_balances(status, body.as_bytes()).err();
            failure.map(|failure| remedy(&failure)).unwrap_or_default()
        };
        for (status, body) in [(403, "<html>"), (451, ""), (200, "<html>"), (302, "")] {
            assert!(said(status, body).contains("something in front of it"), "{status} {body}");
        }
        for (status, body) in [(404, "<html>"), (200, "{}"), (503, ""), (403, r#"{"code":307,"info":"x"}"#)] {
            assert!(!said(status, body).contains("something in front of it"), "{status} {body}");
        }
    }

    #[test]
    fn the_cause_behind_a_refused_key_is_told_apart() {
        for (api, said, advice) in [
            (ApiVersion::V4, "AUTH_101", "does not know this access key"),
            (ApiVersion::V4, "AUTH_102", "finish its activation"),
            (ApiVersion::V4, "AUTH_104", "IP list"),
            (ApiVersion::V4, "AUTH_106", "give it the read permission"),
            (ApiVersion::V1, "AccessKey error", "does not know this access key"),
            (ApiVersion::V1, "AccessKey already expired, membership ended", "does not know this access key"),
            (ApiVersion::V1, "IP 1.2.3.4 is not in the whitelist", "IP list"),
            (ApiVersion::V1, "no permission", "give it the read permission"),
            (ApiVersion::V1, "key not activated", "finish its activation"),
        ] {
            assert!(remedy(&worded(api, said)).contains(advice), "{said}");
        }
    }
}
