//! Limits the number of connections: at the limit, the connection that has been idle for longest makes room. One network
//! gets at most a quarter of them. Knows neither sockets nor HTTP.

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

/// Maximum number of connections above the limit that were told to close and have not closed yet.
const MAX_CLOSING: usize = 16;
/// Maximum time that a new connection waits for them.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// One network gets the limit divided by this.
const NETWORK_DIVISOR: usize = 4;

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Maximum number; a reload changes it when other parts need file descriptors.
    limit: Arc<AtomicUsize>,
    table: Mutex<ConnectionTable>,
    /// Notified when a connection has closed.
    closed: Notify,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    /// A counter that orders events.
    next_tick: u64,
    by_id: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    network: IpAddr,
    /// The tick since which it waits for a request; `None` while a response is sent.
    idle_since: Option<u64>,
    is_closing: bool,
    close: Arc<Notify>,
}

/// A connection's place among the open ones. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    id: u64,
    close: Arc<Notify>,
}

/// Marks a connection as busy with a request until it is dropped.
#[derive(Debug)]
pub(super) struct BusyGuard {
    connections: Arc<Connections>,
    id: u64,
}

/// The limit is reached, and no connection is idle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyConnections;

impl Connections {
    pub(super) fn new(limit: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default(), closed: Notify::new() })
    }

    /// Opens a slot for a connection from `peer`. If its network or the server is at the limit, the connection that has
    /// been idle for longest is told to close: one of the network, or any.
    ///
    /// # Errors
    /// If none of them is idle.
    pub(super) fn open(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionSlot, TooManyConnections> {
        let (limit, network) = (self.limit.load(Ordering::Relaxed), network(peer));
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.by_id.len() >= limit + MAX_CLOSING {
            return Err(TooManyConnections);
        }
        let open = || table.by_id.values().filter(|connection| !connection.is_closing);
        let open_of_network = open().filter(|connection| connection.network == network).count();
        if open_of_network >= limit.div_ceil(NETWORK_DIVISOR) {
            table.close_oldest_idle(Some(network))?;
        } else if open().count() >= limit {
            table.close_oldest_idle(None)?;
        }
        let id = table.tick();
        let close = Arc::new(Notify::new());
        let connection =
            Connection { network, idle_since: Some(id), is_closing: false, close: Arc::clone(&close) };
        table.by_id.insert(id, connection);
        drop(table);
        Ok(ConnectionSlot { connections: Arc::clone(self), id, close })
    }

    /// Opens a slot like [`Self::open`], and waits up to a second for connections that were told to close.
    ///
    /// # Errors
    /// If no connection is idle or closing.
    pub(super) async fn open_after_eviction(
        self: &Arc<Self>,
        peer: IpAddr,
    ) -> Result<ConnectionSlot, TooManyConnections> {
        let opened = timeout(CLOSING_TIMEOUT, async {
            loop {
                let opened = self.open(peer);
                if opened.is_ok() || !self.is_any_closing() {
                    return opened;
                }
                self.closed.notified().await;
            }
        });
        opened.await.unwrap_or(Err(TooManyConnections))
    }

    fn is_any_closing(&self) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_id.values().any(|connection| connection.is_closing)
    }

    /// Tells the connection that has been idle for longest to close, if there is one.
    pub(super) fn close_oldest_idle(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = table.close_oldest_idle(None);
    }

    fn set_idle(&self, id: u64, is_idle: bool) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = table.tick();
        if let Some(connection) = table.by_id.get_mut(&id) {
            connection.idle_since = is_idle.then_some(now);
        }
    }
}

impl ConnectionTable {
    fn tick(&mut self) -> u64 {
        self.next_tick += 1;
        self.next_tick
    }

    /// Tells the oldest idle connection of `network`, or of all networks, to close.
    fn close_oldest_idle(&mut self, network: Option<IpAddr>) -> Result<(), TooManyConnections> {
        let is_candidate = |connection: &&mut Connection| {
            let is_idle = !connection.is_closing && connection.idle_since.is_some();
            is_idle && network.is_none_or(|network| connection.network == network)
        };
        let idle = self.by_id.values_mut().filter(is_candidate);
        let oldest = idle.min_by_key(|connection| connection.idle_since).ok_or(TooManyConnections)?;
        oldest.is_closing = true;
        oldest.close.notify_one();
        Ok(())
    }
}

impl ConnectionSlot {
    /// Resolves when the connection is told to close.
    pub(super) async fn wait_for_close(&self) {
        self.close.notified().await;
    }

    /// Marks the connection as busy while the guard is held.
    pub(super) fn set_busy(&self) -> BusyGuard {
        self.connections.set_idle(self.id, false);
        BusyGuard { connections: Arc::clone(&self.connections), id: self.id }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.table.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&self.id);
        self.connections.closed.notify_one();
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

    fn connections(limit: usize) -> Arc<Connections> {
        Connections::new(Arc::new(AtomicUsize::new(limit)))
    }

    fn peer(last_byte: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last_byte])
    }

    fn is_closed(slot: &ConnectionSlot) -> bool {
        pin!(slot.wait_for_close()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn open(connections: &Arc<Connections>, last_byte: u8) -> ConnectionSlot {
        connections.open(peer(last_byte)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn the_oldest_idle_connection_makes_room_and_a_busy_one_does_not() {
        let connections = connections(4);
        let slots: Vec<_> = (1..=4).map(|last| open(&connections, last)).collect();
        let [first, second, third, fourth] = &*slots else { panic!("four") };
        let busy = first.set_busy();
        drop(second.set_busy());
        let _fifth = open(&connections, 5);
        assert!(is_closed(third) && !is_closed(first) && !is_closed(second) && !is_closed(fourth));
        drop(busy);
        let _sixth = open(&connections, 6);
        assert!(is_closed(fourth) && !is_closed(first), "it has been idle for the shortest time");
    }

    #[test]
    fn one_network_gets_a_quarter_and_closes_its_own_connections_only() {
        let connections = connections(16);
        let other = open(&connections, 1);
        let own: Vec<_> = (0..4).map(|_| open(&connections, 2)).collect();
        let more = open(&connections, 2);
        assert!(own.first().is_some_and(is_closed) && !is_closed(&other));
        let busy: Vec<_> = own.iter().skip(1).chain([&more]).map(ConnectionSlot::set_busy).collect();
        assert_eq!(connections.open(peer(2)).err(), Some(TooManyConnections));
        drop(busy);
        drop(open(&connections, 2));
    }

    #[test]
    fn the_number_of_closing_connections_is_limited() {
        let connections = connections(4);
        let mut all = Vec::new();
        for last in 0..u8::MAX {
            all.extend(connections.open(peer(last)).ok());
        }
        assert_eq!(all.len(), 4 + MAX_CLOSING);
        all.clear();
        drop(open(&connections, 1));
    }
}
