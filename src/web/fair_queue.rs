//! A lock with fair queues: each network has a queue, and the networks take turns. A flood from one network delays a
//! client of another by one turn only. Knows neither the work under the lock nor HTTP.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// Maximum number of waiting clients of one network.
const MAX_WAITERS_PER_NETWORK: usize = 8;
/// Maximum number of waiting clients of all networks.
const MAX_WAITERS: usize = 64;

/// The network of an address, for limits: an IPv4 address itself, or the first 64 bits of an IPv6 address, because a
/// client can choose the others.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A lock that one client holds at a time.
#[derive(Debug, Default)]
pub(super) struct FairQueue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    is_held: bool,
    /// Waiting clients by network, the next network first. No queue is empty.
    queues: VecDeque<(IpAddr, VecDeque<oneshot::Sender<QueueSlot>>)>,
}

/// The lock, held. Dropping it wakes the next client.
#[derive(Debug)]
pub(super) struct QueueSlot(Option<Arc<FairQueue>>);

/// Too many clients wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl FairQueue {
    /// Waits for the lock, for a client of `network`.
    ///
    /// # Errors
    /// If too many clients of this network or of all networks wait. A network with more waiting clients than this one loses
    /// its last client instead.
    pub(super) async fn acquire(self: &Arc<Self>, network: IpAddr) -> Result<QueueSlot, QueueFull> {
        let received = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.is_held {
                state.is_held = true;
                return Ok(QueueSlot(Some(Arc::clone(self))));
            }
            state.enqueue(network)?
        };
        received.await.map_err(|_| QueueFull)
    }

    /// Hands the lock to the next client that still waits.
    fn wake_next(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.dequeue();
                state.is_held = next.is_some();
                next
            };
            let Some(next) = next else { return };
            match next.send(QueueSlot(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // The client has disconnected, and dropping its slot must not wake another.
                Err(mut slot) => slot.0 = None,
            }
        }
    }
}

impl QueueState {
    fn enqueue(&mut self, network: IpAddr) -> Result<oneshot::Receiver<QueueSlot>, QueueFull> {
        for (_, queue) in &mut self.queues {
            queue.retain(|waiter| !waiter.is_closed());
        }
        self.queues.retain(|(_, queue)| !queue.is_empty());
        let own = self.queues.iter().find(|(known, _)| *known == network).map_or(0, |(_, queue)| queue.len());
        if own >= MAX_WAITERS_PER_NETWORK {
            return Err(QueueFull);
        }
        let all: usize = self.queues.iter().map(|(_, queue)| queue.len()).sum();
        if all >= MAX_WAITERS {
            let longest = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len());
            let longest = longest.filter(|(_, queue)| queue.len() > own + 1).ok_or(QueueFull)?;
            longest.1.pop_back();
        }
        let (sender, receiver) = oneshot::channel();
        match self.queues.iter_mut().find(|(known, _)| *known == network) {
            Some((_, queue)) => queue.push_back(sender),
            None => self.queues.push_back((network, [sender].into())),
        }
        Ok(receiver)
    }

    fn dequeue(&mut self) -> Option<oneshot::Sender<QueueSlot>> {
        let (network, mut queue) = self.queues.pop_front()?;
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.queues.push_back((network, queue));
        }
        next
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.wake_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::Pin,
        task::{Context, Waker},
    };

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<QueueSlot, QueueFull>> + 'a>>;

    fn address(last_byte: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last_byte])
    }

    /// Polls once: the result if there is one, or the waiting future.
    fn try_acquire(
        queue: &Arc<FairQueue>,
        network: IpAddr,
    ) -> Result<Waiting<'_>, Result<QueueSlot, QueueFull>> {
        let mut waiting: Waiting<'_> = Box::pin(queue.acquire(network));
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(done) => Err(done),
            std::task::Poll::Pending => Ok(waiting),
        }
    }

    fn poll(waiting: &mut Waiting<'_>) -> Option<Result<QueueSlot, QueueFull>> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn networks_take_turns_and_a_flood_is_rejected() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(holder)) = try_acquire(&queue, address(2)) else { panic!("the lock is free") };
        let mut flood: Vec<_> =
            (0..MAX_WAITERS_PER_NETWORK).filter_map(|_| try_acquire(&queue, address(2)).ok()).collect();
        assert_eq!(flood.len(), MAX_WAITERS_PER_NETWORK);
        assert!(matches!(try_acquire(&queue, address(2)), Err(Err(QueueFull))));
        let Ok(mut other) = try_acquire(&queue, address(1)) else {
            panic!("a client of another network waits")
        };
        drop(holder);
        let first = flood.first_mut().and_then(poll);
        assert!(matches!(first, Some(Ok(_))) && poll(&mut other).is_none());
        drop(first);
        assert!(matches!(poll(&mut other), Some(Ok(_))), "it waited for one client of the flood");
    }

    #[test]
    fn a_disconnected_client_is_skipped() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(holder)) = try_acquire(&queue, address(1)) else { panic!("the lock is free") };
        let disconnected = try_acquire(&queue, address(2)).ok();
        let Ok(mut waiting) = try_acquire(&queue, address(3)) else { panic!("the client waits") };
        let disconnected_after_wake = try_acquire(&queue, address(4)).ok();
        drop(disconnected);
        drop(holder);
        assert!(matches!(poll(&mut waiting), Some(Ok(_))), "this drops the lock");
        drop(disconnected_after_wake);
        assert!(matches!(try_acquire(&queue, address(5)), Err(Ok(_))), "the lock is free again");
    }

    #[test]
    fn many_networks_with_few_clients_each_do_not_lock_out_another() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(_holder)) = try_acquire(&queue, address(200)) else { panic!("the lock is free") };
        let per_network = MAX_WAITERS_PER_NETWORK - 1;
        let mut flood = Vec::new();
        for number in 0..MAX_WAITERS {
            let network = u8::try_from(number / per_network).unwrap_or(u8::MAX);
            flood.extend(try_acquire(&queue, address(network)).ok());
        }
        let Ok(mut other) = try_acquire(&queue, address(201)) else { panic!("it is rejected") };
        assert!(poll(&mut other).is_none());
        assert!(flood.iter_mut().any(|waiting| matches!(poll(waiting), Some(Err(QueueFull)))));
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_64_bits_of_an_ipv6_address() {
        let same = |a: &str, b: &str| match (a.parse(), b.parse()) {
            (Ok(a), Ok(b)) => network(a) == network(b),
            _ => panic!("{a} {b}"),
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("127.0.0.1", "::ffff:127.0.0.1") && !same("127.0.0.1", "127.0.0.2"));
    }
}
