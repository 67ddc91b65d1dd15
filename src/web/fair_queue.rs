//! Turns at work that is done once at a time: clients wait in a queue of their own network, and the networks take turns.
//! A flood from one keeps another's client waiting for one piece of work only. Knows neither the work nor HTTP.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// Clients of one network that may wait at the same time.
const WAITERS_PER_NETWORK: usize = 8;
/// Clients of all networks that may wait at the same time.
const WAITERS: usize = 64;

/// The network whose clients share limits: an IPv4 address, or the 64 bits of an IPv6 address that its owner cannot choose.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A queue for one piece of work at a time.
#[derive(Debug, Default)]
pub(super) struct FairQueue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    /// By network, the next one first. No queue is empty.
    queues: VecDeque<(IpAddr, VecDeque<oneshot::Sender<QueueSlot>>)>,
}

/// The right to work. The next client has it when this is dropped.
#[derive(Debug)]
pub(super) struct QueueSlot(Option<Arc<FairQueue>>);

/// Too many clients wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl FairQueue {
    /// Waits for a turn of a client of `network`.
    ///
    /// # Errors
    /// If too many wait, of this network or of all. Where one network has more waiting, its last client has to go instead.
    pub(super) async fn acquire(self: &Arc<Self>, network: IpAddr) -> Result<QueueSlot, QueueFull> {
        let received = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.is_taken {
                state.is_taken = true;
                return Ok(QueueSlot(Some(Arc::clone(self))));
            }
            state.enqueue(network)?
        };
        received.await.map_err(|_| QueueFull)
    }

    /// Gives the turn to the next client that still waits.
    fn wake_next(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.dequeue();
                state.is_taken = next.is_some();
                next
            };
            let Some(next) = next else { return };
            match next.send(QueueSlot(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // The client is gone, and this turn passes on nothing when it is dropped.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl State {
    fn enqueue(&mut self, network: IpAddr) -> Result<oneshot::Receiver<QueueSlot>, QueueFull> {
        for (_, queue) in &mut self.queues {
            queue.retain(|waiting| !waiting.is_closed());
        }
        self.queues.retain(|(_, queue)| !queue.is_empty());
        let own = self.queues.iter().find(|(known, _)| *known == network).map_or(0, |(_, queue)| queue.len());
        if own >= WAITERS_PER_NETWORK {
            return Err(QueueFull);
        }
        let all: usize = self.queues.iter().map(|(_, queue)| queue.len()).sum();
        if all >= WAITERS {
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

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    /// Asks for a turn; what it resolves to is looked at later.
    fn ask(queue: &Arc<FairQueue>, network: IpAddr) -> Result<Waiting<'_>, Result<QueueSlot, QueueFull>> {
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
    fn networks_take_turns_and_a_flood_is_turned_away() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(working)) = ask(&queue, address(2)) else { panic!("nobody works") };
        let mut flood: Vec<_> =
            (0..WAITERS_PER_NETWORK).filter_map(|_| ask(&queue, address(2)).ok()).collect();
        assert_eq!(flood.len(), WAITERS_PER_NETWORK);
        assert!(matches!(ask(&queue, address(2)), Err(Err(QueueFull))));
        let Ok(mut right) = ask(&queue, address(1)) else { panic!("another network's client waits") };
        drop(working);
        let first = flood.first_mut().and_then(poll);
        assert!(matches!(first, Some(Ok(_))) && poll(&mut right).is_none());
        drop(first);
        assert!(matches!(poll(&mut right), Some(Ok(_))), "it waited for one of the flood");
    }

    #[test]
    fn a_client_that_leaves_takes_no_turn() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(working)) = ask(&queue, address(1)) else { panic!("nobody works") };
        let left = ask(&queue, address(2)).ok();
        let Ok(mut stays) = ask(&queue, address(3)) else { panic!("it waits") };
        let told_and_left = ask(&queue, address(4)).ok();
        drop(left);
        drop(working);
        assert!(matches!(poll(&mut stays), Some(Ok(_))), "the turn is dropped here");
        drop(told_and_left);
        assert!(matches!(ask(&queue, address(5)), Err(Ok(_))), "nobody works any more");
    }

    #[test]
    fn many_networks_with_few_clients_each_keep_no_other_out() {
        let queue = Arc::new(FairQueue::default());
        let Err(Ok(_working)) = ask(&queue, address(200)) else { panic!("nobody works") };
        let per_network = WAITERS_PER_NETWORK - 1;
        let mut flood = Vec::new();
        for number in 0..WAITERS {
            let network = u8::try_from(number / per_network).unwrap_or(u8::MAX);
            flood.extend(ask(&queue, address(network)).ok());
        }
        let Ok(mut right) = ask(&queue, address(201)) else { panic!("it is turned away") };
        assert!(poll(&mut right).is_none());
        assert!(flood.iter_mut().any(|waiting| matches!(poll(waiting), Some(Err(QueueFull)))));
    }

    #[test]
    fn a_network_is_an_address_or_the_part_of_it_that_its_owner_cannot_choose() {
        let same = |a: &str, b: &str| match (a.parse(), b.parse()) {
            (Ok(a), Ok(b)) => network(a) == network(b),
            _ => panic!("{a} {b}"),
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("127.0.0.1", "::ffff:127.0.0.1") && !same("127.0.0.1", "127.0.0.2"));
    }
}
