//! `once` and `check` beside a running daemon. They take a part of the share that the daemon leaves free, and ask the daemon
//! for a permit before each call, so that any number of them share this part. Without a daemon that gives permits, one of
//! them at a time is within the exchange's limits.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::healthcheck::{connect_address, request_plain};
use crate::{
    cli::SecondReaderFlags,
    clock::Clock,
    exchange::{
        Client, Failure, KeyId, LimitShares, PermitClient, PermitResponse, Reason, RemotePermit, Share,
    },
};

/// Longer than the daemon lets a request wait.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
/// Time from a reply that there is no permit to the next request.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// A daemon that has answered before is asked again for this long.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Maximum time at the end to tell the daemon that the last call has ended.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// The permits of a daemon are valid for no longer than this.
const VALIDITY_MAX: Duration = Duration::from_mins(1);
/// The pause if the daemon does not say how long it still lasts: as long as XT's lock.
const PAUSE_DEFAULT: Duration = Duration::from_mins(10);
/// The longest pause of a daemon.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// A process that reads beside a daemon.
#[derive(Debug)]
pub(super) struct SecondReader {
    shares: LimitShares,
    daemon: Option<Arc<Daemon>>,
    /// Whether it makes no call without a permit. With a smaller share than 1/2, three daemons may use one key, and each may
    /// make a call in the same second: a fourth call would lock the key.
    needs_permits: bool,
}

/// The daemon that is asked for permits.
#[derive(Debug)]
struct Daemon {
    /// `host:port`.
    address: String,
    /// Whether it gave no permit for another reason than a limit: it is not asked again.
    is_gone: AtomicBool,
    /// Whether it was there: then no call is made without its permit, because all commands that wait would make theirs at the
    /// moment when it stops.
    was_seen: AtomicBool,
    /// Requests that tell it about the end of a call.
    ending: Mutex<JoinSet<()>>,
}

/// The body of a permit.
#[derive(Deserialize)]
struct PermitBody {
    id: String,
    valid_seconds: u64,
}

/// The body of a response that calls with the key are paused.
#[derive(Deserialize)]
struct PausedBody {
    paused_seconds: u64,
}

impl PausedBody {
    fn remaining(self) -> Duration {
        Duration::from_secs(self.paused_seconds).min(PAUSE_MAX)
    }
}

impl SecondReader {
    /// A reader with a part of `share`, or with all of it if the flags say that no daemon uses it.
    pub(super) fn new(flags: &SecondReaderFlags, share: Share) -> Self {
        let shares = LimitShares::from(share);
        if flags.alone {
            return Self { shares, daemon: None, needs_permits: false };
        }
        let address = flags.listen_address.first().filter(|address| address.port() != 0);
        let daemon = address.map(|address| {
            Arc::new(Daemon {
                address: connect_address(address),
                is_gone: AtomicBool::default(),
                was_seen: AtomicBool::default(),
                ending: Mutex::default(),
            })
        });
        Self { shares: shares.for_others(), daemon, needs_permits: !share.is_at_least_half() }
    }

    /// The client for its calls.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub(super) fn client(&self, clock: Clock) -> Result<Client, String> {
        let client = Client::new(clock, self.shares)?;
        if self.daemon.is_none() && !self.needs_permits {
            return Ok(client);
        }
        let (daemon, needs_permits) = (self.daemon.clone(), self.needs_permits);
        Ok(client.with_permit_client(PermitClient::new(move |key| {
            let daemon = daemon.clone();
            Box::pin(async move {
                let response = match daemon {
                    Some(daemon) => daemon.ask(key).await,
                    None => PermitResponse::Unavailable,
                };
                require_permit(response, needs_permits)
            })
        })))
    }

    /// Waits until the daemon knows that the last call has ended, at most a second.
    pub(super) async fn finish(&self) {
        let Some(daemon) = &self.daemon else { return };
        let mut ending = std::mem::take(&mut *daemon.ending.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = timeout(FINISH_TIMEOUT, async { while ending.join_next().await.is_some() {} }).await;
    }
}

fn require_permit(response: PermitResponse, needs_permits: bool) -> PermitResponse {
    match response {
        PermitResponse::Unavailable if needs_permits => {
            let text = "nothing was asked: no exporter permits the call, and with a share below 1/2 the limits have no room for a call without a permit: start this command beside the exporter, or with --limits.alone if no exporter runs";
            PermitResponse::Failed(Failure::new(Reason::Connect, text))
        }
        response => response,
    }
}

impl Daemon {
    async fn ask(self: Arc<Self>, key: Option<KeyId>) -> PermitResponse {
        let query = key.map_or_else(String::new, |key| format!("?key={key}"));
        let mut silent_since = None;
        while !self.is_gone.load(Ordering::Relaxed) {
            let response = self.request("POST", &query).await;
            if matches!(response, Ok((200 | 409 | 503, _))) {
                self.was_seen.store(true, Ordering::Relaxed);
                silent_since = None;
            }
            let why = match response {
                Ok((200, body)) => match serde_json::from_str(&body) {
                    Ok(permit) => return PermitResponse::Granted(self.remote_permit(permit)),
                    Err(_) => "its response is no permit".to_owned(),
                },
                // A body that cannot be read must not lead to calls.
                Ok((409, body)) => {
                    let paused = serde_json::from_str(&body).map(PausedBody::remaining);
                    return PermitResponse::Paused(paused.unwrap_or(PAUSE_DEFAULT));
                }
                Ok((503, _)) => {
                    sleep(RETRY_DELAY).await;
                    continue;
                }
                _ if self.was_seen.load(Ordering::Relaxed) => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SILENCE_MAX {
                        return PermitResponse::Failed(self.no_longer_answers());
                    }
                    sleep(RETRY_DELAY).await;
                    continue;
                }
                Ok((status, _)) => format!("it returned status {status}"),
                Err(why) => why,
            };
            if !self.is_gone.swap(true, Ordering::Relaxed) {
                tracing::debug!(
                    address = self.address,
                    "no exporter gives permits, so this command makes few calls: {why}"
                );
            }
        }
        PermitResponse::Unavailable
    }

    fn no_longer_answers(&self) -> Failure {
        let text = format!(
            "nothing was asked: the exporter at {}, which permits each call, no longer answers",
            self.address
        );
        Failure::new(Reason::Timeout, text)
    }

    fn remote_permit(self: &Arc<Self>, PermitBody { id, valid_seconds }: PermitBody) -> RemotePermit {
        let daemon = Arc::clone(self);
        let on_end = move || {
            // The daemon ends the permit itself if it does not hear of this.
            let Ok(runtime) = Handle::try_current() else { return };
            let asked = Arc::clone(&daemon);
            let end = async move {
                let _ = asked.request("DELETE", &format!("?id={id}")).await;
            };
            let mut ending = daemon.ending.lock().unwrap_or_else(PoisonError::into_inner);
            while ending.try_join_next().is_some() {}
            ending.spawn_on(end, &runtime);
        };
        RemotePermit::new(Duration::from_secs(valid_seconds).min(VALIDITY_MAX), on_end)
    }

    /// Returns the status and the body, or why it got no response.
    async fn request(&self, method: &str, query: &str) -> Result<(u16, String), String> {
        let path = format!("/-/permit{query}");
        match timeout(REPLY_TIMEOUT, request_plain(method, &self.address, &path)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                // It took the connection, and stopped before it answered.
                if error.downcast_ref::<hyper::Error>().is_some_and(|error| !error.is_parse()) {
                    self.was_seen.store(true, Ordering::Relaxed);
                }
                Err(error.to_string())
            }
            Err(_) => Err("it does not respond".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_reader_has_a_part_of_the_share_unless_it_is_alone() {
        let flags = |alone| SecondReaderFlags { listen_address: Vec::new(), alone };
        let shares = |alone| SecondReader::new(&flags(alone), Share::ALL).shares;
        assert_eq!(shares(true), LimitShares::from(Share::ALL));
        assert_eq!(shares(false), LimitShares::from(Share::ALL).for_others());
    }

    #[test]
    fn a_share_below_a_half_has_no_room_for_a_call_without_a_permit() {
        for (share, is_alone, expected) in
            [("1", false, false), ("1/2", false, false), ("1/3", false, true), ("1/3", true, false)]
        {
            let flags = SecondReaderFlags { listen_address: Vec::new(), alone: is_alone };
            let reader = SecondReader::new(&flags, share.parse().unwrap_or(Share::ALL));
            let response = require_permit(PermitResponse::Unavailable, reader.needs_permits);
            assert_eq!(matches!(response, PermitResponse::Failed(_)), expected, "{share} {is_alone}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_is_made_without_the_permit_of_a_daemon_that_has_stopped() {
        for was_seen in [true, false] {
            let daemon = Arc::new(Daemon {
                // Nobody listens there.
                address: "127.0.0.1:1".to_owned(),
                is_gone: AtomicBool::default(),
                was_seen: AtomicBool::new(was_seen),
                ending: Mutex::default(),
            });
            match daemon.ask(None).await {
                PermitResponse::Failed(failure) => {
                    assert!(was_seen && failure.text.contains("127.0.0.1:1"), "{failure}");
                }
                response => assert!(!was_seen, "{response:?}"),
            }
        }
    }
}
