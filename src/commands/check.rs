//! `check`: diagnoses why the exporter does not work, and prints the cause and the fix. Sends no more requests than the
//! daemon would, and beside a running daemon fewer.

use std::{fmt::Write as _, time::Duration};

use humantime::format_duration;

use super::{
    config_loader::{ConfigLoader, describe_accounts},
    outcome::{CommandError, count, print},
    permissions,
    second_reader::SecondReader,
    state_file::{self, StateFile},
};
use crate::{
    cli::CheckFlags,
    clock::Clock,
    config::{AccountConfig, Config, PricesConfig},
    exchange::{
        Amount, ApiVersion, Balance, BalanceAnswer, BaseUrl, Client, Failure, PositionAnswer, PositionsRead,
        PriceClient, QUOTE, ReadOutcome, ReadRequest, Session, Wallet, suggest_fix, suggest_opening_wallet,
        suggest_other_fix,
    },
    snapshot::{positions::FuturesRisk, wallet::Thresholds},
};

/// Maximum difference between the clocks of this machine and of the exchange. Polls correct for more, but timestamps,
/// alerts and other programs do not.
const MAX_SKEW_SECONDS: f64 = 2.0;

const SKIPPED: &str = "skipped: the exchange reported a rate limit, and nothing is sent during the pause";

/// What a finding means for the user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// The exporter works, but a person should look. Fails the command only with `--strict`.
    Warn,
    Fail,
}

/// The findings that are not ok.
#[derive(Clone, Copy, Default)]
struct Counts {
    problems: usize,
    warnings: usize,
}

impl Verdict {
    fn fail_unless(good: bool) -> Self {
        if good { Self::Ok } else { Self::Fail }
    }
}

impl Counts {
    /// Counts a finding and prints it.
    fn report(&mut self, verdict: Verdict, what: &str, finding: &str) {
        self.problems += usize::from(verdict == Verdict::Fail);
        self.warnings += usize::from(verdict == Verdict::Warn);
        print(&format_line(verdict, what, finding));
    }
}

pub(super) async fn run(flags: &CheckFlags) -> Result<(), CommandError> {
    let clock = Clock::start();
    let config = ConfigLoader::new(&flags.account, None, clock).load().await.map_err(CommandError::Usage)?;
    print(&format_line(Verdict::Ok, "configuration", &format!("valid, {}", describe_accounts(&config))));
    let reader = SecondReader::new(&flags.reader, config.share);
    let exchange = reader.client(clock).map_err(CommandError::Failed)?;
    let mut counts = Counts::default();
    if let Some(warning) = exchange.trust_warning() {
        counts.report(Verdict::Fail, "certificate authorities", warning);
    }
    let mut state_file = StateFile::open(&exchange, &config.egress, clock).await;
    let checks = async {
        let Config { accounts, prices, .. } = config;
        for account in accounts {
            check_account(account, &exchange, flags.permissions, &mut counts).await;
        }
        if let Some(prices) = prices {
            check_prices(prices, &exchange, &mut counts).await;
        }
    };
    state_file::save_during(&mut state_file, &exchange, Box::pin(checks)).await;
    reader.finish().await;
    print(&format!("\n{}\n", summarize(counts)));
    let is_good = counts.problems == 0 && (counts.warnings == 0 || !flags.strict);
    if is_good { Ok(()) } else { Err(CommandError::AlreadyReported) }
}

fn summarize(Counts { problems, warnings }: Counts) -> String {
    let problems = if problems == 0 { "no problems found".to_owned() } else { count(problems, "problem") };
    if warnings == 0 { problems } else { format!("{problems}, {}", count(warnings, "warning")) }
}

/// Checks one account and prints the findings.
async fn check_account(
    account: AccountConfig,
    exchange: &Client,
    with_permissions: bool,
    counts: &mut Counts,
) {
    let AccountConfig { name, hosts, credentials, wallets, watch, poll_timeout, futures_risk, .. } = account;
    print(&format!("\naccount '{name}'\n"));
    match credentials.warnings() {
        [] => counts.report(Verdict::Ok, "key pair", "read"),
        // No problem: Docker mounts secrets with mode 0444, which users cannot change.
        warnings => warnings.iter().for_each(|warning| counts.report(Verdict::Warn, "key pair", warning)),
    }
    for warning in hosts.proxy_warnings() {
        counts.report(Verdict::Warn, "proxy", warning);
    }
    let mut session = Session::new(name, hosts.clone(), credentials);
    let mut unreached = 0;
    for base in &hosts.base_urls {
        let what = describe_base(base);
        match exchange.measure_skew(&session, base, poll_timeout).await {
            Ok(skew) => counts.report(
                Verdict::fail_unless(skew.abs() <= MAX_SKEW_SECONDS),
                &what,
                &describe_clock(skew),
            ),
            Err(failure) => {
                let failure = exchange.explain_proxy_refusal(base, failure, poll_timeout).await;
                counts.report(Verdict::Fail, &what, &describe_failure(hosts.api, None, &failure));
                unreached += 1;
            }
        }
    }
    for wallet in wallets.iter().copied() {
        let what = format!("wallet {wallet}");
        let watched = watch.iter().filter(|(place, _)| *place == wallet);
        let watched: Vec<_> = watched.map(|(_, watch)| watch.currency.clone()).collect();
        let (timeout, watched) = (poll_timeout, &*watched);
        let request = ReadRequest { wallet, last_body: None, timeout, excluded_host: None, watched };
        match exchange.read(&mut session, request).await.outcome {
            ReadOutcome::Answered(read) => {
                // The answer is `None` only if it equals `last_body`.
                let answer = read.answer.unwrap_or_default();
                counts.report(Verdict::fail_unless(answer.rejected == 0), &what, &describe_answer(&answer));
                for (_, watch) in watch.iter().filter(|(place, _)| *place == wallet) {
                    let (verdict, finding) =
                        describe_watched_currency(&answer, &watch.currency, watch.thresholds);
                    counts.report(verdict, &format!("watch {}", watch.currency), &finding);
                }
                if let Some(risk) = futures_risk.filter(|_| wallet.has_positions()) {
                    check_positions((wallet, risk), &mut session, exchange, poll_timeout, counts).await;
                }
            }
            // The same problem again.
            ReadOutcome::Failed(failure)
                if failure.is_of_clock_sync && unreached == hosts.base_urls.len() =>
            {
                print(&format_line(Verdict::Fail, &what, "not read because of the failure above"));
            }
            ReadOutcome::Failed(failure) => {
                counts.report(Verdict::Fail, &what, &describe_failure(hosts.api, Some(wallet), &failure));
            }
            ReadOutcome::Skipped => print(&format_line(Verdict::Fail, &what, SKIPPED)),
        }
    }
    if with_permissions {
        check_permissions(&session, &wallets, exchange, poll_timeout, counts).await;
    }
}

/// Reads the open positions of a wallet and prints the finding.
async fn check_positions(
    (wallet, risk): (Wallet, FuturesRisk),
    session: &mut Session,
    exchange: &Client,
    timeout: Duration,
    counts: &mut Counts,
) {
    let what = format!("positions of {wallet}");
    match exchange.read_positions(session, wallet, timeout).await.outcome {
        ReadOutcome::Answered(PositionsRead { answer, .. }) => {
            let (verdict, finding) = describe_positions(&answer, risk);
            counts.report(verdict, &what, &finding);
        }
        ReadOutcome::Failed(failure) => {
            counts.report(Verdict::Fail, &what, &describe_failure(session.hosts.api, Some(wallet), &failure));
        }
        ReadOutcome::Skipped => print(&format_line(Verdict::Fail, &what, SKIPPED)),
    }
}

/// Reads the permissions of the session's key and prints the findings.
async fn check_permissions(
    session: &Session,
    wallets: &[Wallet],
    exchange: &Client,
    timeout: Duration,
    counts: &mut Counts,
) {
    let Some(base) = session.hosts.user_center.first() else {
        let finding = permissions::describe_missing_user_center(&session.hosts);
        counts.report(Verdict::Warn, "permissions", finding);
        return;
    };
    match exchange.read_key_permissions(session, base, timeout).await {
        Ok(key) => {
            for (is_warning, finding) in permissions::describe_permissions(&key, wallets) {
                let verdict = if is_warning { Verdict::Warn } else { Verdict::Ok };
                counts.report(verdict, "permissions", &finding);
            }
        }
        Err(failure) => {
            let finding = permissions::describe_unread_permissions(&failure);
            counts.report(Verdict::Warn, "permissions", &finding);
        }
    }
}

/// Reads the prices and prints the finding.
async fn check_prices(prices: PricesConfig, exchange: &Client, counts: &mut Counts) {
    let PricesConfig { hosts, poll_timeout, .. } = prices;
    let api = hosts.api;
    print("\n");
    match exchange.read_prices(&mut PriceClient::new(hosts), poll_timeout).await {
        ReadOutcome::Answered(answer) => {
            let currencies = answer.prices.currencies().len();
            let closed = match answer.prices.closed() {
                Some(closed) => format!(", {closed} markets are closed or not listed"),
                None => String::new(),
            };
            let finding = format!("read, {currencies} currencies have a price in {QUOTE}{closed}");
            counts.report(Verdict::Ok, "prices", &finding);
            if let Some(failure) = answer.market_list.failure {
                let finding = format!(
                    "cannot be read, so prices of closed markets are not left out: [{}] {}",
                    failure.reason.label(),
                    failure.text
                );
                counts.report(Verdict::Warn, "list of markets", &finding);
            }
        }
        ReadOutcome::Failed(failure) => {
            counts.report(Verdict::Fail, "prices", &describe_failure(api, None, &failure));
        }
        // The rate limit was counted as a problem already.
        ReadOutcome::Skipped => print(&format_line(Verdict::Fail, "prices", SKIPPED)),
    }
}

/// The base URL, and the proxy on the way to it.
fn describe_base(base: &BaseUrl) -> String {
    if base.route().proxy.is_some() { format!("{base} {}", base.route()) } else { base.to_string() }
}

fn format_line(verdict: Verdict, what: &str, finding: &str) -> String {
    let verdict = match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let mut text = String::new();
    let mut lines = finding.lines();
    let _ = writeln!(text, "  {verdict:<5}{what}: {}", lines.next().unwrap_or_default());
    for more in lines {
        let _ = writeln!(text, "       {more}");
    }
    text
}

fn describe_clock(skew: f64) -> String {
    if skew.abs() <= MAX_SKEW_SECONDS {
        return format!("reachable; clock difference {:.1} s", skew.abs());
    }
    let difference = Duration::try_from_secs_f64(skew.abs().round()).unwrap_or(Duration::MAX);
    let direction = if skew > 0.0 { "behind" } else { "ahead of" };
    format!(
        "reachable, but this machine's clock is {} {direction} the exchange's\n\
         fix: synchronize this machine's clock (timedatectl set-ntp true). Polls correct for the difference, timestamps do not",
        format_duration(difference)
    )
}

fn describe_answer(answer: &BalanceAnswer) -> String {
    let held = answer
        .balances
        .iter()
        .filter(|row| row.amounts.free.value() + row.amounts.frozen.value() > 0.0)
        .count();
    let mut text = format!("read, {held} of {} currencies above zero", answer.balances.len());
    if answer.rejected > 0 {
        let _ = write!(text, "\n{} invalid and ignored", count_rows(answer.rejected));
    }
    text
}

fn describe_positions(answer: &PositionAnswer, risk: FuturesRisk) -> (Verdict, String) {
    let mut text = format!("read, {} open", answer.positions.len());
    let distances = answer.positions.iter().filter_map(|row| Some((row.liquidation_distance()?, row)));
    let nearest = distances.min_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut verdict = Verdict::Ok;
    if let Some((distance, position)) = nearest {
        let (symbol, side) = (&position.symbol, position.side.label());
        let _ = write!(text, ", {symbol} {side} is nearest to liquidation: {:.1} % away", distance * 100.0);
        let below = [("page threshold", risk.page_distance), ("threshold", risk.warn_distance)];
        if let Some((name, level)) = below.into_iter().find(|(_, level)| distance < *level) {
            verdict = Verdict::Warn;
            let _ = write!(text, ", below the {name} of {:.1} %", level * 100.0);
        }
    }
    if answer.rejected > 0 {
        verdict = Verdict::Fail;
        let _ = write!(text, "\n{} invalid and ignored", count_rows(answer.rejected));
    }
    (verdict, text)
}

fn count_rows(rows: u64) -> String {
    if rows == 1 { "1 row is".to_owned() } else { format!("{rows} rows are") }
}

fn describe_watched_currency(
    answer: &BalanceAnswer,
    currency: &str,
    thresholds: Option<Thresholds>,
) -> (Verdict, String) {
    if answer.unreadable.iter().any(|name| &**name == currency) {
        return (Verdict::Fail, "its row is invalid, so the balance is unknown".to_owned());
    }
    let find = |rows: &'_ [Balance]| {
        let row = rows.iter().find(|row| &*row.currency == currency);
        row.map(|row| row.amounts.free.clone())
    };
    let unlisted = find(&answer.unlisted);
    let is_listed = unlisted.is_none();
    let free = unlisted.or_else(|| find(&answer.balances));
    if free.is_none() && answer.nameless > 0 {
        let finding =
            "not in the answer, but a row without a valid name may belong to it, so the balance is unknown";
        return (Verdict::Fail, finding.to_owned());
    }
    let held = match &free {
        Some(free) if is_listed => format!("{} free", free.text()),
        Some(free) => format!("{} free, but the exchange's list leaves it out", free.text()),
        None => "not in the answer, so the balance is 0: check the spelling".to_owned(),
    };
    let value = free.as_ref().map_or(0.0, Amount::value);
    let (is_low, level) = match thresholds {
        Some(Thresholds { page, .. }) if value < page => {
            (true, format!(", below the page threshold of {page}"))
        }
        Some(Thresholds { warn, .. }) if value < warn => (true, format!(", below the threshold of {warn}")),
        Some(Thresholds { warn, page }) => (false, format!(", threshold {warn} (page {page})")),
        None => (false, String::new()),
    };
    let verdict = if is_low || free.is_none() || !is_listed { Verdict::Warn } else { Verdict::Ok };
    (verdict, held + &level)
}

fn describe_failure(api: ApiVersion, wallet: Option<Wallet>, failure: &Failure) -> String {
    let mut text = format!("{} [{}]\nfix: {}", failure.text, failure.reason, suggest_fix(failure));
    let other = suggest_other_fix(api, wallet, failure);
    for cause in other.into_iter().chain(suggest_opening_wallet(wallet, failure)) {
        let _ = write!(text, "\nor {cause}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_reported_with_its_direction() {
        assert_eq!(describe_clock(0.26), "reachable; clock difference 0.3 s");
        assert!(describe_clock(90.2).contains("is 1m 30s behind the exchange's"), "{}", describe_clock(90.2));
        assert!(describe_clock(-3.0).contains("is 3s ahead of the exchange's"), "{}", describe_clock(-3.0));
    }
}
