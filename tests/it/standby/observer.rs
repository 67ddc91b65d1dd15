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
/// Time from one scrape to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum time of a scrape.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);

/// Scrapes until dropped.
pub struct Observer {
    /// The times of the successful polls that it has seen, in seconds since 1970, oldest first.
    polls: Arc<Mutex<Vec<f64>>>,
    ends: Arc<AtomicBool>,
}

impl Observer {
    pub fn start(exporters: Vec<SocketAddr>) -> Self {
        let observer = Self { polls: Arc::default(), ends: Arc::default() };
        let (polls, ends) = (Arc::clone(&observer.polls), Arc::clone(&observer.ends));
        thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for poll in exporters.iter().filter_map(|exporter| last_success(*exporter)) {
                    let mut polls = polls.lock().unwrap();
                    if polls.last().is_none_or(|last| poll > *last) {
                        polls.push(poll);
                    }
                }
                thread::sleep(PAUSE);
            }
        });
        observer
    }

    /// Whether it has seen a balance that is newer than `time`.
    pub fn has_seen_poll_after(&self, time: f64) -> bool {
        self.polls.lock().unwrap().last().is_some_and(|last| *last > time)
    }

    /// The longest time between two successful polls that it has seen one after the other, the later one after `time`. Before
    /// the first poll the balances are not fresh since `time`.
    pub fn longest_gap_after(&self, time: f64) -> f64 {
        let polls = self.polls.lock().unwrap();
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

/// The time of the last successful poll that an exporter shows; `None` if it does not answer in time.
fn last_success(exporter: SocketAddr) -> Option<f64> {
    let mut stream = TcpStream::connect_timeout(&exporter, SCRAPE_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok()?;
    if !raw.starts_with(b"HTTP/1.0 200 ") {
        return None;
    }
    // 0 before the first one.
    sample(&answer(&raw).text(), LAST_SUCCESS).filter(|time| *time > 0.0)
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
