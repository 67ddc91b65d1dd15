//! Lends permits of the daemon's rate limiter to other processes on this machine. A permit counts as a call in flight until
//! its process says that the call has ended, and no longer than ten seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::{
    clock::Clock,
    exchange::{Client, KeyId, LentPermit},
    web::{GrantedPermit, PermitRefusal, PermitRequest},
};

/// Maximum number of requests that wait to be read.
pub(super) const REQUESTS_MAX: usize = 64;
/// Maximum number of requests that wait for a permit or hold one. A process needs at most one per account that it polls at the
/// same time.
const CONCURRENT_MAX: usize = 32;
/// Maximum time that a request waits for a permit.
const GRANT_TIMEOUT: Duration = Duration::from_secs(10);
/// A call counts as ended after this time: its process may have been killed.
const VALIDITY: Duration = Duration::from_secs(10);

/// By its id: what ends a permit before its time.
type Held = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// Answers `requests` until their senders are gone. If the future is dropped, all permits end.
pub(super) async fn lend_permits(
    exchange: Arc<Client>,
    clock: Clock,
    mut requests: mpsc::Receiver<PermitRequest>,
) {
    let held = Held::default();
    let mut lending = JoinSet::new();
    while let Some(request) = requests.recv().await {
        while lending.try_join_next().is_some() {}
        match request {
            PermitRequest::Grant(_, reply) if lending.len() >= CONCURRENT_MAX => {
                let _ = reply.send(Err(PermitRefusal::Busy));
            }
            PermitRequest::Grant(key, reply) => {
                let exchange = Arc::clone(&exchange);
                let held = Arc::clone(&held);
                lending.spawn(async move {
                    let granted = grant(&exchange, clock, key).await;
                    hold(granted, reply, &held).await;
                });
            }
            PermitRequest::End(id) => drop(lock(&held).remove(&id)),
        }
    }
}

/// Waits for a permit to make a call, with `key` if the call has one.
async fn grant(exchange: &Client, clock: Clock, key: Option<KeyId>) -> Result<LentPermit, PermitRefusal> {
    match timeout(GRANT_TIMEOUT, exchange.lend(key)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(paused)) => {
            let remaining = paused.until.saturating_duration_since(clock.now().monotonic);
            Err(PermitRefusal::Paused { remaining })
        }
        Err(_) => Err(PermitRefusal::Busy),
    }
}

/// Sends a permit with `reply`, and keeps it until it ends.
async fn hold(
    granted: Result<LentPermit, PermitRefusal>,
    reply: oneshot::Sender<Result<GrantedPermit, PermitRefusal>>,
    held: &Held,
) {
    let permit = match granted {
        Ok(permit) => permit,
        Err(why) => {
            let _ = reply.send(Err(why));
            return;
        }
    };
    let (end, ended) = oneshot::channel();
    // Random, so that a process can end no permit of another.
    let id = fastrand::u64(..);
    lock(held).insert(id, end);
    if reply.send(Ok(GrantedPermit { id, valid_for: VALIDITY })).is_ok() {
        let _ = timeout(VALIDITY, ended).await;
    }
    lock(held).remove(&id);
    drop(permit);
}

fn lock(held: &Held) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
