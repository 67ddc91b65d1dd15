//! A simulated world around the real scheduler: accounts, an exchange that answers as badly as it
//! likes, a machine that sleeps and a process that is killed. Its time is tokio's paused clock, so
//! that hours pass in no time; all that happens in it follows from a [`Plan`].

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    runtime::Handle,
    task,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use crate::{
    clock::{Clock, UnixTime, simulated},
    config::{AccountConfig, Config, PricesConfig},
    exchange::{
        BaseUrl, Client, Credentials, ExchangeHosts, Failure, KeyHalf, KeySource, Reason, Script,
        ScriptedRequest, ScriptedResponse, Secret, Wallet,
    },
    poller::PollerSet,
    snapshot::wallet::{CurrencyFilter, WatchedCurrency},
};

const WALLETS: [Wallet; 3] = [Wallet::Spot, Wallet::Wallet, Wallet::Fiat];

/// In place of a key, where none is sent.
pub(super) const NO_KEY: usize = usize::MAX;

/// What a world is made of.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub accounts: usize,
    /// The shortest interval, in milliseconds.
    pub interval: u64,
    /// Whether accounts have intervals of their own, up to four times the shortest.
    pub varied: bool,
    /// The most wallets of an account; all have as many unless `varied`.
    pub wallets: usize,
    pub hosts: usize,
    /// Accounts that share a key.
    pub sharing: usize,
    /// The time a poll may take, in thousandths of its interval.
    pub timeout: u64,
    /// Whether to keep a load that the configuration would refuse.
    pub heedless: bool,
    /// Whether prices are read too, every shortest interval.
    pub priced: bool,
    pub weather: FaultRates,
    /// What happens to the process, at which thousandth of the bad time.
    pub upsets: Vec<(u64, Disruption)>,
    pub seed: u64,
}

/// How often, in thousandths of all calls, something goes wrong during the bad time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FaultRates {
    pub unreachable: u32,
    pub hanging: u32,
    pub unavailable: u32,
    pub limited: u32,
    pub refused: u32,
    pub nonce: u32,
    pub empty: u32,
    pub garbage: u32,
    /// The longest latency, in thousandths of the time the call has; some take exactly all of it.
    pub latency: u64,
    /// What is wrong with each host for good.
    pub hosts: [HostFault; 3],
}

impl FaultRates {
    /// Whether nothing goes wrong.
    pub(super) fn is_fair(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum HostFault {
    #[default]
    Well,
    Unreachable,
    Hanging,
    /// Every call takes almost all the time it has.
    Slow,
    /// Does not tell the time.
    Timeless,
    /// Tells a wrong time, off by this many seconds, and yet refuses nonces by the right one.
    Off(i64),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Disruption {
    /// The process is killed and started again after this many milliseconds.
    Restart(u64),
    /// The machine is suspended for this many seconds.
    Suspend(u64),
    /// The configuration becomes another, drawn from this seed.
    Reload(u64),
}

/// One call, as the exchange sees it. Prices are read as if for one more account, with [`NO_KEY`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordedCall {
    pub life: usize,
    pub account: usize,
    pub key: usize,
    pub host: String,
    /// Path and parameters that say which wallet is asked for; `None` for the clock and for prices.
    pub wallet: Option<String>,
    /// `None` for the clock and for prices.
    pub nonce: Option<u64>,
    pub timeout: Duration,
    pub start: Duration,
    pub end: Duration,
    pub good: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    Start(usize),
    End(usize, CallResult),
}

/// What the exchange meant by its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CallResult {
    Good,
    Limit(Option<Duration>),
    Refused,
    /// The nonce was out of its time.
    Nonce,
    Other,
}

/// All that happened.
#[derive(Debug)]
pub(super) struct Record {
    pub calls: Vec<RecordedCall>,
    pub log: Vec<(Duration, Event)>,
    /// Sentences of `/-/healthy` about pollers that were alive.
    pub slandered: Vec<String>,
    /// From when on all should be well again, and until when it was watched.
    pub well: (Duration, Duration),
    /// When the bad time ended.
    pub bad_until: Duration,
    /// How long the timers ran; the time the machine was suspended does not count.
    pub driven: Duration,
    pub slots: Vec<Duration>,
    /// How much of what the limits let through the polls ask for, 1 being all of it.
    pub load: f64,
    /// Polls a second of all accounts together: their even share.
    pub rate: f64,
}

struct Model {
    born: Instant,
    plan: Scenario,
    rng: Rng,
    bad: bool,
    life: usize,
    keys: Vec<usize>,
    /// Which account is polled by a task: a call for the time does not say.
    tasks: HashMap<task::Id, usize>,
    /// Until when an account is locked at the exchange, which knows of no restart.
    locked: Vec<Duration>,
    asleep: Duration,
    calls: Vec<RecordedCall>,
    log: Vec<(Duration, Event)>,
}

type SharedModel = Arc<Mutex<Model>>;

fn locked(world: &SharedModel) -> MutexGuard<'_, Model> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The settings of an account or, with [`NO_KEY`], of prices, without what can be made but once.
#[derive(Clone, Debug)]
struct ModelAccount {
    place: usize,
    /// Whether a currency is watched.
    watches: bool,
    interval: Duration,
    timeout: Duration,
    wallets: usize,
    key: usize,
}

impl Scenario {
    fn specs(&self, rng: &mut Rng) -> Vec<ModelAccount> {
        let spec = |place: usize, rng: &mut Rng| {
            let factor = if self.varied { rng.u64(100..=400) } else { 100 };
            let interval = self.interval * factor / 100;
            ModelAccount {
                place,
                watches: false,
                interval: Duration::from_millis(interval),
                timeout: Duration::ZERO,
                wallets: if self.varied { rng.usize(1..=self.wallets) } else { self.wallets },
                key: place / self.sharing,
            }
        };
        let mut specs: Vec<_> = (0..self.accounts).map(|place| spec(place, rng)).collect();
        specs.extend(self.priced.then(|| ModelAccount {
            place: self.accounts,
            watches: false,
            interval: Duration::from_millis(self.interval),
            timeout: Duration::ZERO,
            wallets: 1,
            key: NO_KEY,
        }));
        if !self.heedless {
            let stretch = (rate(&specs) / 15.0).max(busiest_key(&specs) / 2.0);
            if stretch > 1.0 {
                for spec in &mut specs {
                    spec.interval = spec.interval.mul_f64(stretch);
                }
            }
        }
        for spec in &mut specs {
            let timeout = spec.interval * u32::try_from(self.timeout).unwrap_or(1) / 1_000;
            spec.timeout = timeout.max(Duration::from_millis(1));
        }
        specs
    }

    /// Lives through the plan: a bad time, then a good one, in which all must become well.
    pub(super) fn run(&self) -> Record {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        fastrand::seed(self.seed);
        simulated::start();
        runtime.block_on(self.live())
    }

    async fn live(&self) -> Record {
        let mut rng = Rng::with_seed(self.seed);
        let specs = self.specs(&mut rng);
        let (rate, longest) =
            (rate(&specs), specs.iter().map(|spec| spec.interval).max().unwrap_or_default());
        // As long as some thousand calls and naps take, so that small worlds get to see whole days.
        let naps = 0.01 * f64::from(u32::try_from(specs.len()).unwrap_or(0));
        let bad = Duration::from_secs_f64((1_500.0 / (rate + naps)).clamp(600.0, 172_800.0));
        // Pauses last at most 20 minutes here, and a clock is tried again after five.
        let paused = self.weather.limited > 0 || self.weather.refused > 0;
        let recovery = Duration::from_mins(if paused { 22 } else { 6 }) + longest;
        let well = (longest * 3).max(Duration::from_mins(3));
        let world = Model {
            born: Instant::now(),
            plan: self.clone(),
            rng,
            bad: true,
            life: 0,
            keys: specs.iter().map(|spec| spec.key).collect(),
            tasks: HashMap::new(),
            locked: vec![Duration::ZERO; specs.len()],
            asleep: Duration::ZERO,
            calls: Vec::new(),
            log: Vec::new(),
        };
        let world = Arc::new(Mutex::new(world));
        let mut slandered = Vec::new();
        let mut process = Process::start(&world, &specs).await;
        let mut upsets = self.upsets.clone();
        upsets.sort_unstable_by_key(|(when, _)| *when);
        let mut spent = Duration::ZERO;
        for (when, upset) in upsets {
            let when = bad.mul_f64(f64::from(u32::try_from(when).unwrap_or(0)) / 1_000.0);
            process.watch(when.saturating_sub(spent), &mut slandered).await;
            spent = spent.max(when);
            match upset {
                Disruption::Suspend(seconds) => {
                    simulated::suspend(Duration::from_secs(seconds));
                    locked(&world).asleep += Duration::from_secs(seconds);
                }
                Disruption::Reload(seed) => process.follow(&world, &reconfigure(&specs, seed)).await,
                Disruption::Restart(milliseconds) => {
                    process.pollers.end().await;
                    sleep(Duration::from_millis(milliseconds)).await;
                    locked(&world).life += 1;
                    process = Process::start(&world, &specs).await;
                }
            }
        }
        process.watch(bad.saturating_sub(spent), &mut slandered).await;
        process.follow(&world, &specs).await;
        locked(&world).bad = false;
        let bad_until = locked(&world).now();
        process.watch(recovery, &mut slandered).await;
        let from = locked(&world).now();
        process.watch(well, &mut slandered).await;
        let until = locked(&world).now();
        process.pollers.end().await;
        let mut world = locked(&world);
        // A call occupies its key while it lasts, so that latency takes its share of the limits.
        let latency = CALM_LATENCY_MAX.as_secs_f64();
        let load = (busiest_key(&specs) * (1.001 + latency) / 2.0).max(rate * (60.001 + latency) / 900.0);
        Record {
            calls: std::mem::take(&mut world.calls),
            log: std::mem::take(&mut world.log),
            slandered,
            well: (from, until),
            bad_until,
            driven: world.born.elapsed(),
            slots: specs.iter().map(slot).collect(),
            load,
            rate,
        }
    }
}

fn slot(spec: &ModelAccount) -> Duration {
    spec.interval / u32::try_from(spec.wallets).unwrap_or(1)
}

/// Calls a second of all together.
fn rate(specs: &[ModelAccount]) -> f64 {
    specs.iter().map(|spec| 1.0 / slot(spec).as_secs_f64()).sum()
}

/// Calls a second of the key that makes the most.
fn busiest_key(specs: &[ModelAccount]) -> f64 {
    let of_a_key = |specs: &[ModelAccount]| rate(specs);
    specs.chunk_by(|a, b| a.key == b.key).map(of_a_key).max_by(f64::total_cmp).unwrap_or(0.0)
}

/// One life of the process, with every part created as `serve` creates it.
struct Process {
    clock: Clock,
    pollers: PollerSet,
}

impl Process {
    async fn start(world: &SharedModel, specs: &[ModelAccount]) -> Self {
        let clock = Clock::start();
        let script = {
            let world = Arc::clone(world);
            Script(Box::new(move |asked| Box::pin(answer(Arc::clone(&world), asked))))
        };
        let exchange = Arc::new(Client::scripted(script, clock));
        let pollers = PollerSet::new(exchange, clock, Handle::current());
        let mut process = Self { clock, pollers };
        process.follow(world, specs).await;
        process
    }

    /// Polls as `drafts` say from now on.
    async fn follow(&mut self, world: &SharedModel, specs: &[ModelAccount]) {
        let hosts = locked(world).plan.hosts;
        let (keyless, with_keys): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| spec.key == NO_KEY);
        let accounts: Vec<_> = with_keys.iter().map(|spec| account(spec, hosts)).collect();
        let prices = keyless.first().map(|spec| PricesConfig {
            hosts: accounts[0].hosts.clone(),
            poll_interval: spec.interval,
            poll_timeout: spec.timeout,
            max_age: spec.interval * 3,
        });
        self.pollers.apply_config(Config { accounts, prices }).await;
        let mut world = locked(world);
        let prices = world.keys.len() - 1;
        let place = |name: &str| name.trim_start_matches("account").parse().unwrap_or(prices);
        world.tasks =
            self.pollers.running_tasks().map(|(id, name)| (id, name.map_or(prices, place))).collect();
    }

    /// Lets time pass, and looks once a minute whether the pollers are said to be alive.
    async fn watch(&mut self, time: Duration, slandered: &mut Vec<String>) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep((until - Instant::now()).min(Duration::from_mins(1))).await;
            slandered.extend(self.pollers.store().stuck_pollers(self.clock.now()));
        }
    }
}

/// Another configuration: some accounts are gone, some are watched otherwise, some are polled less often.
fn reconfigure(specs: &[ModelAccount], seed: u64) -> Vec<ModelAccount> {
    let mut rng = Rng::with_seed(seed);
    let mut draw = |spec: &ModelAccount| match rng.u8(0..8) {
        0..2 => None,
        2..4 => Some(ModelAccount { watches: true, ..spec.clone() }),
        4 => Some(ModelAccount { interval: spec.interval * 2, ..spec.clone() }),
        5 => Some(ModelAccount { wallets: 1, ..spec.clone() }),
        _ => Some(spec.clone()),
    };
    let drawn: Vec<_> = specs.iter().filter_map(&mut draw).collect();
    // There is always an account.
    if drawn.iter().all(|spec| spec.key == NO_KEY) { specs.to_vec() } else { drawn }
}

fn account(spec: &ModelAccount, hosts: usize) -> AccountConfig {
    let secret = |text: String| Secret::new(&Zeroizing::new(text)).unwrap_or_else(|why| panic!("{why}"));
    let source = KeySource {
        access: KeyHalf::Given(secret(format!("key{}", spec.key))),
        secret: KeyHalf::Given(secret("secret".to_owned())),
    };
    let url = |host: usize| BaseUrl::parse(&format!("https://host{host}.test"));
    let base_urls: Result<Vec<_>, String> = (0..hosts).map(url).collect();
    let watch = WatchedCurrency { currency: "usdt".into(), threshold: None };
    AccountConfig {
        name: format!("account{}", spec.place).into(),
        hosts: ExchangeHosts {
            base_urls: base_urls.unwrap_or_else(|why| panic!("{why}")),
            ..ExchangeHosts::default()
        },
        credentials: Credentials::open(source, UnixTime::EPOCH).unwrap_or_else(|why| panic!("{why}")),
        wallets: WALLETS.into_iter().take(spec.wallets).collect(),
        watch: spec.watches.then(|| (WALLETS[0], watch)).into_iter().collect(),
        filter: CurrencyFilter::default(),
        poll_interval: spec.interval,
        poll_timeout: spec.timeout,
        max_age: spec.interval * 3,
    }
}

/// Ends its call when it is dropped, be it because the process was killed.
struct CallInFlight {
    world: SharedModel,
    id: usize,
    verdict: CallResult,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let mut world = locked(&self.world);
        let now = world.now();
        world.log.push((now, Event::End(self.id, self.verdict)));
        let call = &mut world.calls[self.id];
        call.end = now;
        call.good = self.verdict == CallResult::Good && (call.nonce.is_some() || call.key == NO_KEY);
    }
}

/// What will come of a call.
struct PlannedReply {
    latency: Duration,
    verdict: CallResult,
    told: Result<ScriptedResponse, Failure>,
}

async fn answer(world: SharedModel, asked: ScriptedRequest) -> Result<ScriptedResponse, Failure> {
    let (id, turn) = {
        let mut world = locked(&world);
        let account = world.tasks[&task::id()];
        let id = world.receive(account, &asked);
        (id, world.turn(account, &asked))
    };
    let mut flight = CallInFlight { world, id, verdict: CallResult::Other };
    if turn.latency.cmp(&asked.timeout) == Ordering::Greater {
        sleep(asked.timeout).await;
        return Err(Failure::new(Reason::Timeout, "no answer"));
    }
    if !turn.latency.is_zero() {
        sleep(turn.latency).await;
    }
    flight.verdict = turn.verdict;
    turn.told
}

/// The exchange's time when the world began: some years ago, so that our own
/// clock is never a good one.
const EPOCH: UnixTime = UnixTime::from_secs(1_700_000_000);

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The longest an answer takes while all is well.
const CALM_LATENCY_MAX: Duration = Duration::from_millis(200);

impl Model {
    /// Time as people have it: suspended machines grow older too.
    fn now(&self) -> Duration {
        self.born.elapsed() + self.asleep
    }

    fn receive(&mut self, account: usize, asked: &ScriptedRequest) -> usize {
        let nonce = nonce_of(asked);
        let now = self.now();
        let id = self.calls.len();
        self.calls.push(RecordedCall {
            life: self.life,
            account,
            key: self.keys[account],
            host: asked.host.clone(),
            wallet: nonce.is_some().then(|| {
                let account = asked.query.split('&').find(|pair| pair.starts_with("account="));
                format!("{} {}", asked.path, account.unwrap_or_default())
            }),
            nonce: nonce.map(|nonce| nonce.parse().unwrap_or_else(|_| panic!("{nonce}"))),
            timeout: asked.timeout,
            start: now,
            end: Duration::MAX,
            good: false,
        });
        self.log.push((now, Event::Start(id)));
        id
    }

    fn turn(&mut self, account: usize, asked: &ScriptedRequest) -> PlannedReply {
        let is_clock = asked.path.ends_with("getServerTime");
        let is_signed = nonce_of(asked).is_some();
        let nonce = self.calls.last().and_then(|call| call.nonce);
        let nonce_is_bad =
            nonce.is_some_and(|nonce| nonce.abs_diff((EPOCH + self.now()).as_millis()) > 60_000);
        let expired =
            |latency| reply(latency, 200, None, r#"{"code":400,"info":"nonce expired"}"#, CallResult::Nonce);
        if !self.bad {
            let longest = CALM_LATENCY_MAX.min(asked.timeout / 4);
            let latency = self.random(longest);
            return if nonce_is_bad { expired(latency) } else { self.good(asked, 0, latency) };
        }
        let host = asked.host.bytes().find(u8::is_ascii_digit).map_or(0, |digit| usize::from(digit - b'0'));
        let fate = self.plan.weather.hosts[host];
        let weather = self.plan.weather.clone();
        let span = asked.timeout.mul_f64(f64::from(u32::try_from(weather.latency).unwrap_or(0)) / 1_000.0);
        let latency = match self.rng.u8(..) {
            0 => asked.timeout,
            1 => Duration::ZERO,
            _ => self.random(span),
        };
        let failed = |reason| PlannedReply {
            latency,
            verdict: CallResult::Other,
            told: Err(Failure::new(reason, "simulated")),
        };
        match fate {
            HostFault::Unreachable => return failed(Reason::Connect),
            HostFault::Hanging => return PlannedReply { latency: Duration::MAX, ..failed(Reason::Timeout) },
            HostFault::Timeless if is_clock && self.rng.bool() => return failed(Reason::Http),
            HostFault::Timeless if is_clock => return failed(Reason::Unavailable),
            _ => {}
        }
        let latency = if matches!(fate, HostFault::Slow) { asked.timeout.mul_f64(0.95) } else { latency };
        let now = self.now();
        if self.locked[account] > now + latency {
            return self.limited(latency);
        }
        if nonce_is_bad {
            return expired(latency);
        }
        let mut dice = self.rng.u32(0..1_000);
        let mut falls = |chance: u32| {
            let hit = dice < chance;
            dice = if hit { u32::MAX } else { dice.saturating_sub(chance) };
            hit
        };
        match () {
            () if falls(weather.unreachable) => failed(Reason::Connect),
            () if falls(weather.hanging) => {
                PlannedReply { latency: Duration::MAX, ..failed(Reason::Timeout) }
            }
            () if falls(weather.unavailable) => reply(latency, 503, None, "busy", CallResult::Other),
            () if falls(weather.limited) => {
                if self.rng.bool() {
                    self.locked[account] = now + latency + Duration::from_mins(10);
                }
                self.limited(latency)
            }
            () if falls(weather.refused) && is_signed => {
                let (code, info) =
                    if self.rng.bool() { (307, "AccessKey error") } else { (308, "sign error") };
                let body = format!(r#"{{"code":{code},"data":null,"info":"{info}"}}"#);
                reply(latency, 200, None, &body, CallResult::Refused)
            }
            () if falls(weather.nonce) && is_signed => expired(latency),
            () if falls(weather.empty) && is_signed => {
                reply(latency, 200, None, r#"{"code":200,"data":{}}"#, CallResult::Good)
            }
            () if falls(weather.garbage) => reply(latency, 200, None, "<html>", CallResult::Other),
            () => self.good(asked, if let HostFault::Off(seconds) = fate { seconds } else { 0 }, latency),
        }
    }

    /// Some time up to `longest`.
    fn random(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.rng.u64(0..=millis(longest)))
    }

    fn good(&self, asked: &ScriptedRequest, off_seconds: i64, latency: Duration) -> PlannedReply {
        let body = if asked.path.ends_with("getServerTime") {
            let now = (EPOCH + self.now() + latency / 2).as_millis();
            let time = now.saturating_add_signed(off_seconds.saturating_mul(1_000));
            format!(r#"{{"code":200,"data":{{"serverTime":{time}}},"info":"success"}}"#)
        } else if asked.path.ends_with("getTickers") {
            r#"{"btc_usdt":{"price":5}}"#.to_owned()
        } else {
            r#"{"code":200,"data":{"usdt":{"available":"5","freeze":"0"}},"info":"success"}"#.to_owned()
        };
        reply(latency, 200, None, &body, CallResult::Good)
    }

    fn limited(&mut self, latency: Duration) -> PlannedReply {
        let retry_after = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(1..=1_200)));
        let verdict = CallResult::Limit(retry_after);
        if retry_after.is_some() || self.rng.bool() {
            return reply(latency, 429, retry_after, "", verdict);
        }
        reply(latency, 200, None, r#"{"code":404,"info":"account locked"}"#, verdict)
    }
}

fn nonce_of(asked: &ScriptedRequest) -> Option<&str> {
    asked.query.split('&').find_map(|pair| pair.strip_prefix("nonce="))
}

fn reply(
    latency: Duration,
    status: u16,
    retry_after: Option<Duration>,
    body: &str,
    verdict: CallResult,
) -> PlannedReply {
    PlannedReply {
        latency,
        verdict,
        told: Ok(ScriptedResponse { status, retry_after, body: body.as_bytes().to_vec() }),
    }
}
