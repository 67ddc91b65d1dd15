//! Calls in flight. A call that was sent counts at the exchange, and its reply may tell that the account is locked, whether
//! or not anyone still waits for it. So a call whose poll is dropped, as by a reload or a shutdown, ends in the background.
//! Knows no HTTP.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{runtime::Handle, sync::watch, task::JoinSet};

/// The calls whose callers were dropped, and which continue in the background. They end with the last clone of this.
#[derive(Clone, Debug, Default)]
pub(super) struct AbandonedCalls {
    tasks: Arc<Mutex<JoinSet<()>>>,
    /// The number of those that have not ended.
    count: watch::Sender<usize>,
}

impl AbandonedCalls {
    /// Makes `call`. If the returned future is dropped halfway, the call continues in the background, and `on_end` gets its
    /// result.
    pub(super) fn finish_if_dropped<C, F>(&self, call: C, on_end: F) -> InFlight<C, F>
    where
        C: Future + Send + 'static,
        F: FnOnce(C::Output) + Send + 'static,
    {
        InFlight { call: Some((Box::pin(call), on_end)), state: CallState::New, calls: self.clone() }
    }

    /// Completes when no call is left in the background.
    pub(super) async fn wait(&self) {
        // Fails only without a sender, and `self` has one.
        let _ = self.count.subscribe().wait_for(|calls| *calls == 0).await;
    }

    fn spawn(&self, call: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        self.count.send_modify(|calls| *calls += 1);
        let counted = CallCount(self.count.clone());
        let call = async move {
            call.await;
            drop(counted);
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(call, runtime);
    }
}

/// Counts a call until it is dropped.
struct CallCount(watch::Sender<usize>);

impl Drop for CallCount {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// A call in flight.
pub(super) struct InFlight<C, F>
where
    C: Future + Send + 'static,
    F: FnOnce(C::Output) + Send + 'static,
{
    /// `None` after its end.
    call: Option<(Pin<Box<C>>, F)>,
    state: CallState,
    calls: AbandonedCalls,
}

#[derive(PartialEq)]
enum CallState {
    /// Not sent yet.
    New,
    /// It runs just now. If it is so in `drop`, the call panicked.
    Running,
    Waiting,
}

/// Nothing in it is pinned: the call is in a box.
impl<C, F> Unpin for InFlight<C, F>
where
    C: Future + Send + 'static,
    F: FnOnce(C::Output) + Send + 'static,
{
}

impl<C, F> Future for InFlight<C, F>
where
    C: Future + Send + 'static,
    F: FnOnce(C::Output) + Send + 'static,
{
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        let Some((call, _)) = &mut this.call else { return Poll::Pending };
        this.state = CallState::Running;
        let result = call.as_mut().poll(context);
        this.state = CallState::Waiting;
        if result.is_ready() {
            this.call = None;
        }
        result
    }
}

impl<C, F> Drop for InFlight<C, F>
where
    C: Future + Send + 'static,
    F: FnOnce(C::Output) + Send + 'static,
{
    fn drop(&mut self) {
        if self.state == CallState::Waiting
            && let Some((call, on_end)) = self.call.take()
            && let Ok(runtime) = Handle::try_current()
        {
            self.calls.spawn(async move { on_end(call.await) }, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::AssertUnwindSafe,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures_util::FutureExt as _;
    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    /// A call that ends when the sender sends, and the sum of the results that came after its drop.
    fn call() -> (AbandonedCalls, oneshot::Sender<usize>, impl Future<Output = usize>, Arc<AtomicUsize>) {
        let (calls, abandoned) = (AbandonedCalls::default(), Arc::new(AtomicUsize::new(0)));
        let (reply, replied) = oneshot::channel();
        let sum = Arc::clone(&abandoned);
        let call = async move { replied.await.unwrap_or_default() };
        let call = calls.finish_if_dropped(call, move |result| {
            sum.fetch_add(result, Ordering::Relaxed);
        });
        (calls, reply, call, abandoned)
    }

    #[tokio::test]
    async fn a_call_whose_caller_waits_ends_there_alone() {
        let (calls, reply, call, abandoned) = call();
        assert_eq!(reply.send(7), Ok(()));
        assert_eq!(call.await, 7);
        calls.wait().await;
        assert_eq!(abandoned.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_call_whose_caller_is_dropped_ends_in_the_background() {
        let (calls, reply, call, abandoned) = call();
        assert!(timeout(Duration::from_millis(1), call).await.is_err());
        assert!(timeout(Duration::from_millis(1), calls.wait()).await.is_err(), "it is not over");
        assert_eq!(reply.send(7), Ok(()));
        calls.wait().await;
        assert_eq!(abandoned.load(Ordering::Relaxed), 7);
    }

    #[tokio::test]
    async fn a_call_that_was_not_sent_is_not_sent_in_the_background_and_none_outlives_the_client() {
        let (calls, reply, unsent, abandoned) = call();
        drop(unsent);
        assert!(reply.is_closed());
        calls.wait().await;
        let (calls, mut reply, sent, _) = call();
        assert!(timeout(Duration::from_millis(1), sent).await.is_err());
        assert!(!reply.is_closed());
        drop(calls);
        reply.closed().await;
        assert_eq!(abandoned.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_panic_elsewhere_ends_no_call_and_a_call_that_panics_is_over() {
        let (calls, reply, call, abandoned) = call();
        let panicking = async {
            tokio::pin!(call);
            assert!(call.as_mut().now_or_never().is_none());
            panic!("expected by this test");
        };
        assert!(AssertUnwindSafe(panicking).catch_unwind().await.is_err());
        assert_eq!(reply.send(7), Ok(()));
        calls.wait().await;
        assert_eq!(abandoned.load(Ordering::Relaxed), 7);

        let call = calls.finish_if_dropped(async { panic!("expected by this test") }, |()| {});
        assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        calls.wait().await;
    }
}
