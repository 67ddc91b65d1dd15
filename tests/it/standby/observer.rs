//! An observer that scrapes the exporters all the time, as Prometheus does, and records how old the balances are that it sees.
//! And the counts of the calls at the exchange. Must not know what the drill does.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use xt_balance_exporter::simulator::CallLog;

use super::pair::WELL;
use crate::common::{answer, sample};

const LAST_SUCCESS: &str = "xt_last_success_timestamp_seconds{account=\"main\",wallet=\"spot\"}";
const POLLS: &str = "xt_polls_total{account=\"main\",wallet=\"spot\"}";
/// Time from one scrape to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum time of a scrape.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);

/// Scrapes until dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    ends: Arc<AtomicBool>,
}

/// What an observer has seen.
#[derive(Default)]
struct Seen {
    /// The times of the successful polls, in seconds since 1970, oldest first.
    polls: Vec<f64>,
    /// The last such time of an exporter that gave every account a turn.
    all_turns: f64,
}

/// A scrape with a successful poll.
struct Scrape {
    /// The time of the poll, in seconds since 1970.
    poll: f64,
    /// Whether every account had a turn since the exporter started.
    had_all_turns: bool,
}

impl Observer {
    pub fn start(exporters: Vec<SocketAddr>) -> Self {
        let observer = Self { seen: Arc::default(), ends: Arc::default() };
        let (seen, ends) = (Arc::clone(&observer.seen), Arc::clone(&observer.ends));
        thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for scrape in exporters.iter().filter_map(|exporter| scrape(*exporter)) {
                    let mut seen = seen.lock().unwrap();
                    if seen.polls.last().is_none_or(|last| scrape.poll > *last) {
                        seen.polls.push(scrape.poll);
                    }
                    if scrape.had_all_turns {
                        seen.all_turns = seen.all_turns.max(scrape.poll);
                    }
                }
                thread::sleep(PAUSE);
            }
        });
        observer
    }

    /// Whether it has seen balances that are newer than `time`, of an exporter that gave every account a turn.
    pub fn has_seen_all_turns_after(&self, time: f64) -> bool {
        self.seen.lock().unwrap().all_turns > time
    }

    /// The longest time between two successful polls that it has seen one after the other, the later one after `time`. Before
    /// the first poll the balances are not fresh since `time`.
    pub fn longest_gap_after(&self, time: f64) -> f64 {
        let polls = &self.seen.lock().unwrap().polls;
        let first = polls.first().map_or(0.0, |first| first - time);
        let pairs = polls.windows(2).filter(|pair| pair[1] > time);
        pairs.map(|pair| pair[1] - pair[0]).fold(first, f64::max)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Scrapes an exporter; `None` if it does not answer in time or had no successful poll.
fn scrape(exporter: SocketAddr) -> Option<Scrape> {
    let mut stream = TcpStream::connect_timeout(&exporter, SCRAPE_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok()?;
    if !raw.starts_with(b"HTTP/1.0 200 ") {
        return None;
    }
    let text = answer(&raw).text();
    // After the third poll of one account, all others had at least one turn.
    let had_all_turns = sample(&text, POLLS).is_some_and(|polls| polls >= 3.0);
    // 0 before the first one.
    let poll = sample(&text, LAST_SUCCESS).filter(|time| *time > 0.0)?;
    Some(Scrape { poll, had_all_turns })
}

/// Checks the calls of all machines against the published limits, as if they shared one address, and describes them.
pub fn check_calls(log: &CallLog) -> String {
    assert_eq!(log.count_breaches(), 0, "exceeded limits: {:?} {:?}", log.accounts, log.ips);
    let mut text = String::new();
    for name in WELL {
        let most = most_within(&log.asset_call_times(name), Duration::from_secs(1));
        let _ = writeln!(text, "  {most} calls with the key of {name} in a second at most");
        assert!(most <= 3, "{text}");
    }
    let all: Vec<_> = log.records.iter().map(|record| record.since_start).collect();
    let most = most_within(&all, Duration::from_mins(1));
    let _ = writeln!(text, "  {most} calls of both machines in a minute at most");
    assert!(most <= 1000, "{text}");
    let _ = writeln!(text, "  {} calls for the locked account", log.asset_call_times("locked").len());
    let _ = writeln!(text, "  {} calls with the refused key", log.asset_call_times("refused").len());
    text
}

/// The most of these times that lie within one window. `times` are sorted.
fn most_within(times: &[Duration], window: Duration) -> usize {
    let within = |(place, first): (usize, &Duration)| {
        times[place..].iter().take_while(|time| **time < *first + window).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}
