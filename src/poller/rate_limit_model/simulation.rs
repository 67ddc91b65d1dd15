//! Runs a scenario: the real pollers, a simulated exchange, a machine that is suspended and a process that is killed.
//! The time is tokio's paused clock, so that hours pass at once. Everything in a run follows from its [`Scenario`].

use std::{sync::Arc, sync::Mutex, time::Duration};

use fastrand::Rng;
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use super::{
    egress::ModelEgress,
    exchange::{
        ExchangeModel, RECOVERED_LATENCY_MAX, SharedModel, TaskOwner, address_text, answer_call, lock,
    },
    record::Record,
    scenario::{
        Disruption, ModelAccount, NO_KEY, Scenario, change_accounts, find_busiest_address_rate,
        find_busiest_key_rate, sum_rates,
    },
    second_reader::run_second_reader,
};
use crate::{
    clock::{Clock, UnixTime, simulated},
    config::{AccountConfig, Config, PricesConfig},
    exchange::{
        ApiVersion, BaseUrl, Client, Credentials, Egress, ExchangeHosts, KeyHalf, KeySource, Route, Script,
        Secret, Share, Wallet,
    },
    poller::PollerSet,
    snapshot::{
        positions::FuturesRisk,
        wallet::{CurrencyFilter, WatchedCurrency},
    },
};

const V1_WALLETS: [Wallet; 3] = [Wallet::Spot, Wallet::Wallet, Wallet::Fiat];
const V4_WALLETS: [Wallet; 3] = [Wallet::Spot, Wallet::FuturesUsdt, Wallet::FuturesCoin];

/// Runs the scenario: a fault period, then a time without faults, in which every account must recover.
pub(super) fn run_scenario(scenario: &Scenario) -> Record {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    fastrand::seed(scenario.seed);
    simulated::start();
    let mut rng = Rng::with_seed(scenario.seed);
    let accounts = scenario.create_accounts(&mut rng);
    runtime.block_on(async {
        let model = ExchangeModel::new(scenario, &accounts, rng);
        let model = Arc::new(Mutex::new(model));
        Simulation { model, accounts, false_alarms: Vec::new(), process_count: 0 }.run(scenario).await
    })
}

struct Simulation {
    model: SharedModel,
    accounts: Vec<ModelAccount>,
    false_alarms: Vec<String>,
    /// The number of processes started so far.
    process_count: usize,
}

impl Simulation {
    async fn run(mut self, scenario: &Scenario) -> Record {
        let rate = sum_rates(&self.accounts);
        let longest = self.accounts.iter().map(|account| account.interval).max().unwrap_or_default();
        // The time of about a thousand calls and clock readings, so that scenarios with few calls last whole days.
        let clock_rate = 0.01 * f64::from(u32::try_from(self.accounts.len()).unwrap_or(0));
        let fault_period = Duration::from_secs_f64((1_500.0 / (rate + clock_rate)).clamp(600.0, 172_800.0));
        // Pauses last at most 20 minutes here, and a failed clock reading is repeated after five.
        let has_pauses = scenario.faults.limited > 0 || scenario.faults.refused > 0;
        let recovery = Duration::from_mins(if has_pauses { 22 } else { 6 }) + longest;
        let observed = (longest * 3).max(Duration::from_mins(3));
        let mut processes = self.run_fault_period(scenario, fault_period).await;
        for process in &mut processes {
            process.apply_config(&self.model, &self.accounts, share_of(scenario.processes)).await;
        }
        lock(&self.model).has_faults = false;
        let faults_until = lock(&self.model).now();
        self.observe(&processes, recovery).await;
        let from = lock(&self.model).now();
        self.observe(&processes, observed).await;
        let until = lock(&self.model).now();
        let last_processes = processes.iter().map(|process| process.number).collect();
        for process in processes {
            process.end().await;
        }
        let mut model = lock(&self.model);
        // A call occupies its key until it ends, so latency uses a part of the limits.
        let latency = RECOVERED_LATENCY_MAX.as_secs_f64();
        let share = 1.0 / f64::from(scenario.processes);
        let (key_calls, key_seconds) = if share < 1.0 { (1.0, 0.501 / share) } else { (2.0, 1.001) };
        let key_load = find_busiest_key_rate(&self.accounts) * (key_seconds + latency) / key_calls;
        let address_rate = find_busiest_address_rate(&self.accounts);
        let load = key_load.max(address_rate * (60.001 + latency) / (900.0 * share));
        Record {
            calls: std::mem::take(&mut model.calls),
            log: std::mem::take(&mut model.log),
            false_alarms: self.false_alarms,
            recovered: (from, until),
            last_processes,
            faults_until,
            driven: model.driven(),
            slots: self.accounts.iter().map(ModelAccount::slot).collect(),
            load,
            rate,
        }
    }

    /// Runs the processes with the scenario's disruptions for `length`. Returns the last processes.
    async fn run_fault_period(&mut self, scenario: &Scenario, length: Duration) -> Vec<Process> {
        let share = share_of(scenario.processes);
        let mut processes = Vec::new();
        for _ in 0..scenario.processes {
            processes.push(self.start_process(share, scenario.has_second_reader).await);
        }
        let mut disruptions = scenario.disruptions.clone();
        disruptions.sort_unstable_by_key(|(when, _)| *when);
        let mut elapsed = Duration::ZERO;
        for (number, (when, disruption)) in disruptions.into_iter().enumerate() {
            let when = length.mul_f64(f64::from(u32::try_from(when).unwrap_or(0)) / 1_000.0);
            self.observe(&processes, when.saturating_sub(elapsed)).await;
            elapsed = elapsed.max(when);
            let index = number % processes.len();
            match disruption {
                Disruption::Suspend(seconds) => {
                    simulated::suspend(Duration::from_secs(seconds));
                    lock(&self.model).suspended += Duration::from_secs(seconds);
                }
                Disruption::Reload(seed) => {
                    let accounts = change_accounts(&self.accounts, seed);
                    // The share of one of several processes changes too.
                    let shares = scenario.processes + u32::from(scenario.processes > 1 && seed % 3 == 0);
                    processes[index].apply_config(&self.model, &accounts, share_of(shares)).await;
                }
                Disruption::Restart(milliseconds) => {
                    processes.remove(index).end().await;
                    sleep(Duration::from_millis(milliseconds)).await;
                    processes.insert(index, self.start_process(share, scenario.has_second_reader).await);
                }
            }
        }
        self.observe(&processes, length.saturating_sub(elapsed)).await;
        processes
    }

    async fn start_process(&mut self, share: Share, has_second_reader: bool) -> Process {
        let number = self.process_count;
        self.process_count += 1;
        let mut process = Process::start(number, &self.model, &self.accounts, share).await;
        if has_second_reader {
            process
                .start_second_reader(&self.model, Duration::from_secs_f64(2.0 / sum_rates(&self.accounts)));
        }
        process
    }

    /// Lets time pass, and records once a minute which pollers count as stuck.
    async fn observe(&mut self, processes: &[Process], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep((until - Instant::now()).min(Duration::from_mins(1))).await;
            let stuck = |process: &Process| process.pollers.store().stuck_pollers(process.clock.now());
            self.false_alarms.extend(processes.iter().flat_map(stuck));
        }
    }
}

/// The share of each of this many processes.
fn share_of(processes: u32) -> Share {
    format!("1/{processes}").parse().unwrap_or_else(|why| panic!("{why}"))
}

/// One run of the process. It creates each part as `serve` does.
struct Process {
    /// The number of processes that were started before.
    number: usize,
    clock: Clock,
    pollers: PollerSet,
    client: Arc<Client>,
    second_reader: Option<JoinHandle<()>>,
}

impl Process {
    async fn start(number: usize, model: &SharedModel, accounts: &[ModelAccount], share: Share) -> Self {
        let clock = Clock::start();
        let script = {
            let model = Arc::clone(model);
            Script(Box::new(move |request| Box::pin(answer_call(Arc::clone(&model), request))))
        };
        let client = Arc::new(Client::scripted_with(script, clock, share.into()));
        let pollers = PollerSet::new(Arc::clone(&client), clock, Handle::current());
        let mut process = Self { number, clock, pollers, client, second_reader: None };
        process.apply_config(model, accounts, share).await;
        process
    }

    fn start_second_reader(&mut self, model: &SharedModel, interval: Duration) {
        let (client, model) = (Arc::clone(&self.client), Arc::clone(model));
        let reader = run_second_reader(client, model, self.number, interval, create_config);
        self.second_reader = Some(tokio::spawn(reader));
    }

    /// Kills the process. Its second reader ends with it.
    async fn end(self) {
        if let Some(reader) = self.second_reader {
            reader.abort();
            // The error says that it was aborted.
            let _ = reader.await;
        }
        drop(self.client);
        self.pollers.end().await;
    }

    /// Polls `accounts` from now on.
    async fn apply_config(&mut self, model: &SharedModel, accounts: &[ModelAccount], share: Share) {
        let host_count = lock(model).host_count();
        let (keyless, with_keys): (Vec<_>, Vec<_>) =
            accounts.iter().partition(|account| account.key == NO_KEY);
        let configs: Vec<_> = with_keys.iter().map(|account| create_config(account, host_count)).collect();
        let prices = keyless.first().map(|account| PricesConfig {
            // Calls for prices belong to the default group.
            hosts: configs[0]
                .hosts
                .clone()
                .with_routes(|_| Ok(Route::default()))
                .unwrap_or_else(|why: String| panic!("{why}")),
            poll_interval: account.interval,
            poll_timeout: account.timeout,
            max_age: account.interval * 3,
        });
        let config =
            Config { accounts: configs, prices, share, egress: list_groups(accounts), ..Config::default() };
        self.pollers.apply_config(config).await;
        let mut model = lock(model);
        model.polled.insert(self.number, with_keys.into_iter().cloned().collect());
        let prices_index = model.account_count() - 1;
        let parse_index = |name: &str| name.trim_start_matches("account").parse().unwrap_or(prices_index);
        let tasks = self.pollers.running_tasks();
        model.tasks.retain(|_, owner| owner.process != self.number);
        model.tasks.extend(tasks.map(|(id, name)| {
            (id, TaskOwner { process: self.number, account: name.map_or(prices_index, parse_index) })
        }));
    }
}

/// The default group and those of the accounts.
fn list_groups(accounts: &[ModelAccount]) -> Vec<Egress> {
    let mut groups: Vec<_> = accounts.iter().filter_map(|account| account.egress).collect();
    groups.sort_unstable();
    groups.dedup();
    std::iter::once(Egress::default()).chain(groups.into_iter().map(create_egress)).collect()
}

fn create_egress(egress: ModelEgress) -> Egress {
    let number = u8::try_from(egress.configured).unwrap_or(u8::MAX);
    Egress {
        name: format!("group{}", egress.name).into(),
        address: address_text(egress).into(),
        source_address: Some([192, 0, 2, number].into()),
    }
}

fn create_config(account: &ModelAccount, host_count: usize) -> AccountConfig {
    let secret = |text: String| Secret::new(&Zeroizing::new(text)).unwrap_or_else(|why| panic!("{why}"));
    let source = KeySource {
        access: KeyHalf::Given(secret(format!("key{}", account.key))),
        secret: KeyHalf::Given(secret("secret".to_owned())),
    };
    let parse_urls = |name: &str| -> Vec<BaseUrl> {
        let route =
            Route { egress: account.egress.map(create_egress).unwrap_or_default(), ..Route::default() };
        let url = |host: usize| {
            Ok(BaseUrl::parse(&format!("https://{name}{host}.test"))?.with_route(route.clone()))
        };
        (0..host_count).map(url).collect::<Result<_, String>>().unwrap_or_else(|why| panic!("{why}"))
    };
    let wallets = if account.is_v4 { V4_WALLETS } else { V1_WALLETS };
    let watched = |currency: &&str| WatchedCurrency { currency: (*currency).into(), thresholds: None };
    let watch: &[&str] = match (account.is_v4, account.has_watch) {
        (true, _) => &["gone", "hidden", "usdt"],
        (false, true) => &["usdt"],
        (false, false) => &[],
    };
    AccountConfig {
        name: format!("account{}", account.index).into(),
        hosts: ExchangeHosts {
            api: if account.is_v4 { ApiVersion::V4 } else { ApiVersion::V1 },
            base_urls: parse_urls("host"),
            futures_usdt: parse_urls("futures-usdt"),
            futures_coin: parse_urls("futures-coin"),
            ..ExchangeHosts::default()
        },
        credentials: Credentials::open(source, UnixTime::EPOCH).unwrap_or_else(|why| panic!("{why}")),
        wallets: wallets.into_iter().take(account.wallets).collect(),
        watch: watch.iter().map(|currency| (wallets[0], watched(currency))).collect(),
        filter: CurrencyFilter::default(),
        labels: Arc::default(),
        futures_risk: account.reads_positions.then(FuturesRisk::default),
        poll_interval: account.interval,
        poll_timeout: account.timeout,
        max_age: account.interval * 3,
    }
}
