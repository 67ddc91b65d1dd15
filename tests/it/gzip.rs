//! The exposition as one gzip member: at every mix of accounts that changed and accounts that did not,
//! flate2, Python's zlib and Chromium find in it the plain text, byte for byte, and nothing behind it.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    iter,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    thread,
    time::Duration,
};

use crate::common::browser::Browser;
use crate::common::in_process::at;
use flate2::bufread::GzDecoder;
use serde_json::json;
use smol_str::SmolStr;
use xt_balance_exporter::{
    clock::Timestamp,
    exchange::{Amount, Balance, BalanceAmounts, BalanceAnswer, Failure, Reason, Wallet, currency_name, v1},
    exposition::{Exposition, cache::ExpositionCache},
    snapshot::store::AccountState,
    snapshot::store::{AccountEntry, Store},
    snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, WatchedCurrency},
};

// The walk: what is known of a few accounts and of prices, as it changes

const LARGE: &str = "large";
const QUOTED_NAME: &str = "a \"quoted\" back\\slash\nünï币";
/// Names, wallets, and after how many seconds an answer is unknown.
const ACCOUNTS: [(&str, &[Wallet], u64); 4] = [
    (QUOTED_NAME, &[Wallet::Spot], 300),
    (LARGE, &[Wallet::Spot], 400),
    ("tiny", &[Wallet::Spot], 100),
    ("wallets", &[Wallet::Spot, Wallet::Fiat, Wallet::FuturesUsdt], 200),
];
const PRICES_MAX_AGE: Duration = Duration::from_secs(250);
/// Another account, which is never polled.
const UNPOLLED: &str = "silent";

/// Whether each of [`ACCOUNTS`] has changed, and then prices.
type ChangedSet = [bool; ACCOUNTS.len() + 1];
const CHANGED_SETS: u32 = 1 << ACCOUNTS.len();

fn changed_set(accounts: u32, prices: bool) -> ChangedSet {
    std::array::from_fn(|place| if place < ACCOUNTS.len() { accounts >> place & 1 == 1 } else { prices })
}

/// What a scrape is answered with at a step of the walk.
struct Step {
    name: String,
    /// How it differs from the step before, where only amounts and prices have changed.
    changed_set: Option<ChangedSet>,
    exposition: Exposition,
}

impl Step {
    fn plain(&self) -> Vec<u8> {
        self.exposition.plain.parts.concat()
    }

    fn gzip(&self) -> Vec<u8> {
        self.exposition.gzip.parts.concat()
    }

    /// The lines of balances of `account`.
    fn balances(&self, account: &str) -> Vec<String> {
        let escaped = account.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        self.lines(&["free", "frozen"].map(|name| format!("xt_balance_{name}{{account=\"{escaped}\",")))
    }

    fn prices(&self) -> Vec<String> {
        self.lines(&["xt_price{".to_owned()])
    }

    fn lines(&self, prefixes: &[String]) -> Vec<String> {
        let plain = String::from_utf8(self.plain()).unwrap();
        let is_one = |line: &&str| prefixes.iter().any(|prefix| line.starts_with(prefix));
        plain.lines().filter(is_one).map(str::to_owned).collect()
    }

    /// Where the parts lie that are a piece of a family and nothing else: no part is made of shorter
    /// ones and this long.
    fn large_parts(&self) -> Vec<*const u8> {
        let long = self.exposition.gzip.parts.iter().filter(|part| part.len() > 256 * 1024);
        long.map(|part| part.as_ptr()).collect()
    }
}

static STEPS: LazyLock<Vec<Step>> = LazyLock::new(|| {
    let mut history = StoreHistory::new();
    history.step("nothing is known".to_owned(), None);
    for (name, ..) in &ACCOUNTS {
        history.change(name);
    }
    history.step("balances are known, prices are not".to_owned(), None);
    for accounts in 0..CHANGED_SETS {
        let changed_set = changed_set(accounts, false);
        for ((name, ..), _) in iter::zip(&ACCOUNTS, changed_set).filter(|(_, is_changed)| *is_changed) {
            history.change(name);
        }
        history.step(format!("without prices, {changed_set:?}"), Some(changed_set));
    }
    history.apply_prices(true);
    history.step("prices are known".to_owned(), None);
    for (prices, accounts) in
        [false, true].into_iter().flat_map(|prices| iter::repeat(prices).zip(0..CHANGED_SETS))
    {
        let changed_set = changed_set(accounts, prices);
        for ((name, ..), is_changed) in iter::zip(&ACCOUNTS, changed_set) {
            if is_changed { history.change(name) } else { history.repeat(name) }
        }
        history.apply_prices(prices);
        history.step(format!("with prices, all polled, {changed_set:?}"), Some(changed_set));
    }
    let last = history.now;
    for (name, ..) in &ACCOUNTS {
        history.fail(name);
    }
    for age in [1, 99, 100, 200, 250, 300, 400] {
        history.now = last.later(Duration::from_secs(age));
        history.step(format!("held, or unknown after {age} s"), None);
    }
    for (name, ..) in &ACCOUNTS {
        history.change(name);
    }
    history.step("balances are known again".to_owned(), None);
    history.steps
});

struct StoreHistory {
    store: Arc<Store>,
    cache: ExpositionCache,
    now: Timestamp,
    /// How often amounts have changed: they are made of it.
    turn: u64,
    price: u64,
    steps: Vec<Step>,
}

impl StoreHistory {
    fn new() -> Self {
        let now = at(5);
        let account = |name: &str, wallets: &[Wallet], max_age| {
            let subject = |wallet: &Wallet| {
                let watch = [("gone", None), ("usdt", Some(Thresholds { warn: 500.0, page: 200.0 }))];
                let watch =
                    watch.map(|(name, thresholds)| WatchedCurrency { currency: name.into(), thresholds });
                Arc::new(WalletConfig {
                    account: name.into(),
                    wallet: *wallet,
                    watch: watch.into(),
                    filter: CurrencyFilter::default(),
                    max_age: Duration::from_secs(max_age),
                })
            };
            let facts = AccountState {
                name: name.into(),
                labels: Arc::default(),
                paused_until: None,
                credentials_loaded: now.unix,
                poller_restarts: 0,
            };
            AccountEntry::new(facts, wallets.iter().map(subject).collect(), now.uptime)
        };
        let silent = account(UNPOLLED, &[Wallet::Spot], 100);
        let accounts = ACCOUNTS.iter().map(|(name, wallets, max_age)| account(name, wallets, *max_age));
        let store = Store::new(accounts.chain([silent]).collect()).with_prices(PRICES_MAX_AGE, now.uptime);
        let store = Arc::new(store);
        let cache = ExpositionCache::new(Arc::clone(&store));
        Self { store, cache, now, turn: 0, price: 0, steps: Vec::new() }
    }

    fn step(&mut self, name: String, changed_set: Option<ChangedSet>) {
        self.steps.push(Step { name, changed_set, exposition: self.cache.render(self.now, None) });
        self.now = self.now.later(Duration::from_secs(1));
    }

    /// Polls `account` and finds other amounts.
    fn change(&mut self, account: &str) {
        self.turn += 1;
        let mut random = fastrand::Rng::with_seed(self.turn);
        self.poll(account, || Ok(Some(answer(account, &mut random))));
    }

    /// Polls `account` and finds the same as before.
    fn repeat(&self, account: &str) {
        self.poll(account, || Ok(None));
    }

    /// Polls `account` in vain.
    fn fail(&self, account: &str) {
        self.poll(account, || Err(Failure::new(Reason::Timeout, "no answer came")));
    }

    fn poll(&self, account: &str, mut outcome: impl FnMut() -> Result<Option<BalanceAnswer>, Failure>) {
        let known = self.store.account(account).unwrap();
        let mut ended = || PollResult {
            at: self.now,
            took: Duration::from_millis(80),
            is_suspect: false,
            outcome: PollOutcome::new(self.now, outcome()),
        };
        let after: Vec<_> = known.wallets.iter().map(|wallet| wallet.snapshot.apply(ended())).collect();
        self.store.update_account(account, |account| {
            for (wallet, standing) in iter::zip(&mut account.wallets, &after) {
                wallet.set_snapshot(standing.clone());
            }
        });
    }

    /// Reads prices, others than before or the same.
    fn apply_prices(&mut self, are_others: bool) {
        self.price += u64::from(are_others);
        let market = |currency: &SmolStr| format!(r#""{currency}_usdt":{{"price":"{}.25"}}"#, self.price);
        let markets: Vec<_> = LARGE_ONES.iter().step_by(9).map(market).collect();
        let body = format!("{{{}}}", markets.join(","));
        self.store.update_prices(|market| {
            let prices = v1::decode_prices(200, body.as_bytes()).map(|prices| (self.now, prices));
            market.set_snapshot(market.snapshot.apply(self.now, prices));
        });
    }
}

/// Every currency of `account`, with amounts at random.
fn answer(account: &str, random: &mut fastrand::Rng) -> BalanceAnswer {
    let mut amount = || {
        let text = format!("{}.{:08}", random.u32(..1_000_000), random.u32(..100_000_000));
        Amount::parse(&text).unwrap()
    };
    let balance = |currency: SmolStr| Balance { currency, amounts: BalanceAmounts::new(amount(), amount()) };
    BalanceAnswer {
        balances: currencies(account).into_iter().map(balance).collect(),
        ..BalanceAnswer::default()
    }
}

/// What `account` holds, sorted.
fn currencies(account: &str) -> BTreeSet<SmolStr> {
    match account {
        LARGE => LARGE_ONES.clone(),
        QUOTED_NAME => {
            ["quote\"back\\slash", "ünï币", "{a=\"1\"} 7", "\u{202e}tdsu", " "].map(SmolStr::from).into()
        }
        "wallets" => ["btc", "eth", "usdt"].map(SmolStr::from).into(),
        _ => ["usdt"].map(SmolStr::from).into(),
    }
}

/// Names as long as can be and without rhyme or reason, or a piece would not be long when it is deflated.
static LARGE_ONES: LazyLock<BTreeSet<SmolStr>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(0);
    let mut name = || iter::repeat_with(|| random.alphanumeric()).take(64).collect::<String>();
    iter::repeat_with(|| currency_name(&name()).unwrap()).take(6_000).collect()
});

#[test]
fn the_walk_goes_through_every_mix_and_every_state() {
    let mixes = STEPS.iter().filter_map(|step| Some((!step.prices().is_empty(), step.changed_set?)));
    let unpriced = (0..CHANGED_SETS).map(|accounts| (false, changed_set(accounts, false)));
    let priced = [false, true]
        .into_iter()
        .flat_map(|prices| (0..CHANGED_SETS).map(move |accounts| (true, changed_set(accounts, prices))));
    assert!(mixes.eq(unpriced.chain(priced)));

    for (before, step) in STEPS.iter().zip(&STEPS[1..]) {
        let Some(changed_set) = step.changed_set else { continue };
        for ((account, ..), is_changed) in iter::zip(ACCOUNTS, changed_set) {
            let (old, new) = (before.balances(account), step.balances(account));
            assert!(!new.is_empty() && (old != new) == is_changed, "{account:?} {}", step.name);
            let is_shared = step.large_parts() == before.large_parts();
            assert!(account != LARGE || is_shared != is_changed, "{}", step.name);
        }
        assert_eq!(before.prices() != step.prices(), changed_set[ACCOUNTS.len()], "{}", step.name);
        assert_eq!(step.large_parts().len(), 2, "free and frozen of the large account: {}", step.name);
    }

    let known = |step: &Step| {
        let accounts = ACCOUNTS.iter().filter(|(name, ..)| !step.balances(name).is_empty()).count();
        (accounts, !step.prices().is_empty())
    };
    let mut states: Vec<_> = STEPS.iter().map(known).collect();
    states.dedup();
    let aging = [(4, true), (3, true), (2, true), (2, false), (1, false), (0, false)];
    assert_eq!(states, [&[(0, false), (4, false)][..], &aging, &[(4, false)]].concat());
    assert!(STEPS.iter().all(|step| step.balances(UNPOLLED).is_empty()));
}

#[test]
fn flate2_decompresses_the_plain_text_and_nothing_more() {
    for step in &*STEPS {
        let packed = step.gzip();
        assert_eq!(packed.len() as u64, step.exposition.gzip.length, "{}", step.name);
        let (mut decoder, mut text) = (GzDecoder::new(&*packed), Vec::new());
        let read = decoder.read_to_end(&mut text);
        assert!(read.is_ok(), "{}: {read:?}", step.name);
        assert!(text == step.plain(), "{}: another text", step.name);
        assert_eq!(decoder.into_inner().len(), 0, "{}: bytes left", step.name);
    }
}

/// Reads pairs of a plain and a compressed text, their lengths before them, and says a line of each.
const PYTHON: &str = r#"
import gzip, struct, sys, zlib

read = sys.stdin.buffer.read
while lengths := read(16):
    plain, packed = [read(length) for length in struct.unpack("<QQ", lengths)]
    decoder = zlib.decompressobj(31)
    try:
        text = decoder.decompress(packed)
        rest = len(decoder.unused_data) + len(decoder.unconsumed_tail)
        print(text == plain, decoder.eof, rest, gzip.decompress(packed) == plain)
    except Exception as error:
        print(repr(error))
"#;

#[test]
fn zlib_decompresses_the_plain_text_and_nothing_more() {
    let mut child = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("python3: {error}; see tests/install"));
    let mut stdin = child.stdin.take().unwrap();
    for step in &*STEPS {
        let texts = [step.plain(), step.gzip()];
        let lengths = texts.each_ref().map(|text| (text.len() as u64).to_le_bytes());
        stdin.write_all(&[lengths.concat(), texts.concat()].concat()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    for (step, line) in iter::zip(&*STEPS, line.lines()) {
        assert_eq!(line, "True True 0 True", "{}", step.name);
    }
    assert_eq!((line.lines().count(), output.status.success()), (STEPS.len(), true));
}

/// Fetches the text of a step three times: plain, compressed for the browser to decompress, and compressed for the page
/// to decompress. Returns how long the first is, whether the second is the same, how long it was on
/// the wire and in the end, and whether the third is the same; errors in place of what fails. Only in the
/// third does Chromium look at the checksum.
const PAGE: &str = r"
async step => {
    const get = way => fetch(`/${way}/${step}`, {cache: 'no-store'});
    const read = async answer => new Uint8Array(await answer.arrayBuffer());
    const inflate = ({body}) => new Response(body.pipeThrough(new DecompressionStream('gzip')));
    performance.clearResourceTimings();
    const lengths = new Promise(resolve => new PerformanceObserver(list => {
        const entry = list.getEntries().find(({name}) => name.endsWith(`/gzip/${step}`));
        if (entry) resolve([entry.encodedBodySize, entry.decodedBodySize]);
    }).observe({type: 'resource'}));
    const plain = await read(await get('plain'));
    const equal = bytes => bytes.length === plain.length && bytes.every((byte, at) => byte === plain[at]);
    const seen = await get('gzip').then(read).then(equal).catch(String);
    const own = await get('file').then(inflate).then(read).then(equal).catch(String);
    return [plain.length, seen, seen === true && await lengths, own];
}";

#[test]
fn chromium_decompresses_the_plain_text_and_nothing_more() {
    let server = Server::start();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", server.address));
    for (number, step) in STEPS.iter().enumerate() {
        let (plain, gzip) = (step.exposition.plain.length, step.exposition.gzip.length);
        let found = browser.eval(&format!("({PAGE})({number})"));
        assert_eq!(found, json!([plain, true, [gzip, plain], true]), "{}", step.name);
        let taken = std::mem::take(&mut *server.taken.lock().unwrap());
        let expected = [("plain", plain), ("gzip", gzip), ("file", gzip)];
        assert_eq!(taken, expected.map(|(way, length)| (format!("/{way}/{number}"), length)));
    }
}

/// Serves an empty page and the texts of every step, on a free port of this process until its end.
struct Server {
    address: SocketAddr,
    /// Which texts were asked for, and how long they are on the wire.
    taken: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), taken: Arc::default() };
        let taken = Arc::clone(&server.taken);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = Arc::clone(&taken);
                thread::spawn(move || answer_call(stream, &taken));
            }
        });
        server
    }
}

/// Answers one call. A connection that a browser opened and did not use ends without one.
fn answer_call(mut stream: TcpStream, taken: &Mutex<Vec<(String, u64)>>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(target) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let step = target.rsplit('/').next().and_then(|number| STEPS.get(number.parse::<usize>().ok()?));
    let accepts_gzip = head.iter().any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("accept-encoding:") && line.contains("gzip")
    });
    let (headers, text) = match (step, target.split('/').nth(1)) {
        (Some(step), Some("plain")) => ("", Some(&step.exposition.plain)),
        (Some(step), Some("file")) => ("", Some(&step.exposition.gzip)),
        (Some(step), Some("gzip")) if accepts_gzip => {
            ("Content-Encoding: gzip\r\n", Some(&step.exposition.gzip))
        }
        _ => ("Content-Type: text/html\r\n", None),
    };
    let length = text.map_or(0, |text| text.length);
    if step.is_some() {
        // Counted before it is sent, because a client that has it all may look at once.
        taken.lock().unwrap().push((target.to_owned(), length));
    }
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
    // A browser that wants no more of it says so by its verdict.
    let _ = iter::once(head.as_bytes())
        .chain(text.into_iter().flat_map(|text| text.parts.iter()).map(|part| &**part))
        .try_for_each(|part| stream.write_all(part));
}
