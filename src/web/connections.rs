//! Which connections are open, and who has to go when there are too many: the one that has been idle for longest. One
//! network never has them all. Knows neither sockets nor HTTP.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::fair_queue::network;

/// Connections that may still be closing while others have their place.
const CLOSING_MAX: usize = 16;
/// How long a new connection waits for those.
const CLOSING: Duration = Duration::from_secs(1);
/// One network has at most this part of the connections.
const NETWORK_PART: usize = 4;

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// How many there may be; changes with what else needs file descriptors.
    cap: Arc<AtomicUsize>,
    open: Mutex<ConnectionTable>,
    /// A connection has closed.
    freed: Notify,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    /// Counts up, to tell what was first.
    clock: u64,
    by_id: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    network: IpAddr,
    /// Since when it waits for a request; `None` while it is answered.
    idle_since: Option<u64>,
    is_closing: bool,
    close: Arc<Notify>,
}

/// The place of a connection, free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    id: u64,
    close: Arc<Notify>,
}

/// A request that is being answered: its connection is not idle until this is dropped.
#[derive(Debug)]
pub(super) struct BusyGuard {
    connections: Arc<Connections>,
    id: u64,
}

/// No connection can be closed to make room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyConnections;

impl Connections {
    /// At most so many connections.
    pub(super) fn new(cap: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { cap, open: Mutex::default(), freed: Notify::new() })
    }

    /// A place for a connection from `peer`. If its network or the server has no place left, the connection that has been
    /// idle for longest is told to close.
    ///
    /// # Errors
    /// If none of those is idle.
    pub(super) fn open(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionSlot, TooManyConnections> {
        let (cap, network) = (self.cap.load(Ordering::Relaxed), network(peer));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_id.len() >= cap + CLOSING_MAX {
            return Err(TooManyConnections);
        }
        let staying = || open.by_id.values().filter(|known| !known.is_closing);
        if staying().filter(|known| known.network == network).count() >= cap.div_ceil(NETWORK_PART) {
            open.close_oldest_idle(Some(network))?;
        } else if staying().count() >= cap {
            open.close_oldest_idle(None)?;
        }
        let id = open.tick();
        let close = Arc::new(Notify::new());
        let connection =
            Connection { network, idle_since: Some(id), is_closing: false, close: Arc::clone(&close) };
        open.by_id.insert(id, connection);
        drop(open);
        Ok(ConnectionSlot { connections: Arc::clone(self), id, close })
    }

    /// The same, but waits a moment for connections that were told to close and have not come to it yet.
    ///
    /// # Errors
    /// If none is idle or about to close.
    pub(super) async fn open_after_eviction(
        self: &Arc<Self>,
        peer: IpAddr,
    ) -> Result<ConnectionSlot, TooManyConnections> {
        let opened = timeout(CLOSING, async {
            loop {
                let opened = self.open(peer);
                if opened.is_ok() || !self.is_any_closing() {
                    return opened;
                }
                self.freed.notified().await;
            }
        });
        opened.await.unwrap_or(Err(TooManyConnections))
    }

    fn is_any_closing(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_id.values().any(|known| known.is_closing)
    }

    /// Tells the connection that has been idle for longest to close, if there is one.
    pub(super) fn close_oldest_idle(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = open.close_oldest_idle(None);
    }

    fn set_idle(&self, id: u64, is_idle: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = open.tick();
        if let Some(connection) = open.by_id.get_mut(&id) {
            connection.idle_since = is_idle.then_some(now);
        }
    }
}

impl ConnectionTable {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn close_oldest_idle(&mut self, of: Option<IpAddr>) -> Result<(), TooManyConnections> {
        let staying = self.by_id.values_mut().filter(|known| !known.is_closing && known.idle_since.is_some());
        let staying = staying.filter(|known| of.is_none_or(|network| known.network == network));
        let oldest = staying.min_by_key(|known| known.idle_since).ok_or(TooManyConnections)?;
        oldest.is_closing = true;
        oldest.close.notify_one();
        Ok(())
    }
}

impl ConnectionSlot {
    /// Waits until the connection is to close.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// The connection is not idle while this is held.
    pub(super) fn busy(&self) -> BusyGuard {
        self.connections.set_idle(self.id, false);
        BusyGuard { connections: Arc::clone(&self.connections), id: self.id }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&self.id);
        self.connections.freed.notify_one();
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.connections.set_idle(self.id, true);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn connections(cap: usize) -> Arc<Connections> {
        Connections::new(Arc::new(AtomicUsize::new(cap)))
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn is_closed(slot: &ConnectionSlot) -> bool {
        pin!(slot.closed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn open(connections: &Arc<Connections>, last: u8) -> ConnectionSlot {
        connections.open(peer(last)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn the_oldest_idle_connection_makes_room_and_one_that_is_answered_does_not() {
        let connections = connections(4);
        let slots: Vec<_> = (1..=4).map(|last| open(&connections, last)).collect();
        let [first, second, third, fourth] = &*slots else { panic!("four") };
        let answered = first.busy();
        drop(second.busy());
        let _fifth = open(&connections, 5);
        assert!(is_closed(third) && !is_closed(first) && !is_closed(second) && !is_closed(fourth));
        drop(answered);
        let _sixth = open(&connections, 6);
        assert!(is_closed(fourth) && !is_closed(first), "it has been idle for the shortest time");
    }

    #[test]
    fn one_network_has_a_quarter_and_closes_its_own_only() {
        let connections = connections(16);
        let other = open(&connections, 1);
        let own: Vec<_> = (0..4).map(|_| open(&connections, 2)).collect();
        let more = open(&connections, 2);
        assert!(own.first().is_some_and(is_closed) && !is_closed(&other));
        let busy: Vec<_> = own.iter().skip(1).chain([&more]).map(ConnectionSlot::busy).collect();
        assert_eq!(connections.open(peer(2)).err(), Some(TooManyConnections));
        drop(busy);
        drop(open(&connections, 2));
    }

    #[test]
    fn connections_that_are_slow_to_close_are_bounded_too() {
        let connections = connections(4);
        let mut all = Vec::new();
        for last in 0..u8::MAX {
            all.extend(connections.open(peer(last)).ok());
        }
        assert_eq!(all.len(), 4 + CLOSING_MAX);
        all.clear();
        drop(open(&connections, 1));
    }
}
