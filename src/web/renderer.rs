//! Large documents for people and accountants, rendered off the threads that answer scrapes: one at a time, shared
//! by all who ask for the same one, and with limits of their own. Knows neither a route nor a document's content.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

use super::body::gzip;

/// A document is rendered again after this.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Once its content has changed, a document is still shared for this many times its rendering time, up to [`MAX_AGE`]:
/// a change shows at once where rendering is cheap, and rendering takes a small part of a core where it is not.
const PAUSE_FACTOR: u32 = 20;
/// Requests that may wait for a rendering at the same time.
const WAITERS: usize = 64;
/// Documents kept at the same time.
const DOCUMENTS: usize = 8;
/// While documents hold more than this, kept ones and those that clients are still taking, no other is rendered.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Renders documents and shares them. `D` names a document.
#[derive(Debug)]
pub(super) struct Renderer<D> {
    kept: Mutex<Vec<CachedDocument<D>>>,
    /// One rendering at a time; requests wait for it in turn.
    alone: Arc<Semaphore>,
    /// Room for requests that wait.
    waiters: Semaphore,
    /// Bytes of all documents that somebody still holds.
    held_bytes: Arc<AtomicUsize>,
}

/// The state of the content at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// The moment, on [`crate::clock::Moment::elapsed`].
    pub now: Duration,
    /// How often the content had changed.
    pub changes: u64,
}

/// A document's bytes.
#[derive(Debug)]
pub(super) struct Rendered {
    /// Without compression.
    pub plain: Vec<u8>,
    /// When something in it becomes too old to be shown, on [`crate::clock::Moment::elapsed`].
    pub known_until: Option<Duration>,
}

/// Why there is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenderError {
    /// Too many requests wait, or clients have not yet taken what was rendered for them.
    Busy,
    /// The rendering panicked.
    Failed,
}

#[derive(Debug)]
struct CachedDocument<D> {
    document: D,
    plain: Bytes,
    gzip: Option<Bytes>,
    changes: u64,
    /// Not to be used from then on.
    until: Duration,
    /// Not to be used from then on if the content has changed since.
    until_if_changed: Duration,
}

impl<D> CachedDocument<D> {
    fn is_current(&self, version: Version) -> bool {
        let until = if self.changes == version.changes { self.until } else { self.until_if_changed };
        version.now < until
    }
}

impl<D: Clone + PartialEq + Send + 'static> Renderer<D> {
    /// A renderer that keeps nothing yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            alone: Arc::new(Semaphore::new(1)),
            waiters: Semaphore::new(WAITERS),
            held_bytes: Arc::default(),
        })
    }

    /// The bytes of `document`, compressed if that `is_gzip`: those that were rendered within the last second, or new
    /// ones by `render`. `version` tells the state of the content now.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn get(
        self: &Arc<Self>,
        document: &D,
        is_gzip: bool,
        version: impl Fn() -> Version,
        render: impl FnOnce() -> Rendered + Send + 'static,
    ) -> Result<Bytes, RenderError> {
        if let Some(bytes) = self.kept_bytes(document, is_gzip, version()) {
            return Ok(bytes);
        }
        let _waiting = self.waiters.try_acquire().map_err(|_| RenderError::Busy)?;
        let Ok(alone) = Arc::clone(&self.alone).acquire_owned().await else { return Err(RenderError::Busy) };
        let begun = version();
        if let Some(bytes) = self.kept_bytes(document, is_gzip, begun) {
            return Ok(bytes);
        }
        self.forget_expired(begun.now);
        if self.held_bytes.load(Ordering::Acquire) > MEMORY_BYTES {
            return Err(RenderError::Busy);
        }
        let (renderer, document) = (Arc::clone(self), document.clone());
        let bytes = spawn_blocking(move || {
            // Held here: a client that hangs up ends the waiting, but not this.
            let _alone = alone;
            renderer.render(document, is_gzip, begun, render)
        });
        let bytes = bytes.await.inspect_err(|error| {
            tracing::error!("cannot render a document for a client: {error}: please report this");
        });
        self.forget_later(begun.now);
        bytes.ok().flatten().ok_or(RenderError::Failed)
    }

    fn kept_bytes(&self, document: &D, is_gzip: bool, version: Version) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|kept| kept.document == *document && kept.is_current(version))?;
        if is_gzip { found.gzip.clone() } else { Some(found.plain.clone()) }
    }

    /// The plain bytes of a document, to be compressed, and until when they may be used.
    fn kept_plain(&self, document: &D, version: Version) -> Option<(Bytes, Duration)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|kept| kept.document == *document)?;
        // Not if the content has changed: the bytes would count as those of the newer content.
        let is_same = found.changes == version.changes && version.now < found.until;
        is_same.then(|| (found.plain.clone(), found.until))
    }

    /// Renders or compresses a document and keeps it; `None` if it cannot be compressed.
    fn render(
        &self,
        document: D,
        is_gzip: bool,
        begun: Version,
        render: impl FnOnce() -> Rendered,
    ) -> Option<Bytes> {
        let started = Instant::now();
        let (plain, until) = self.kept_plain(&document, begun).unwrap_or_else(|| {
            let Rendered { plain, known_until } = render();
            let until = begun.now.saturating_add(MAX_AGE);
            (self.counted(plain), known_until.map_or(until, |known| known.min(until)))
        });
        let packed = if is_gzip { Some(self.compressed(&plain)?) } else { None };
        let rested = begun.now.saturating_add(started.elapsed() * PAUSE_FACTOR);
        let bytes = packed.clone().unwrap_or_else(|| plain.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.document != document);
        if kept.len() >= DOCUMENTS {
            kept.remove(0);
        }
        let (changes, until_if_changed) = (begun.changes, rested.min(until));
        kept.push(CachedDocument { document, plain, gzip: packed, changes, until, until_if_changed });
        Some(bytes)
    }

    /// `plain` compressed; `None` if that fails, which it does not in memory.
    fn compressed(&self, plain: &[u8]) -> Option<Bytes> {
        gzip(plain).ok().map(|packed| self.counted(packed))
    }

    /// `bytes` that count as held until the last copy of the handle is gone.
    fn counted(&self, bytes: Vec<u8>) -> Bytes {
        self.held_bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        Bytes::from_owner(CountedBytes { bytes, held_bytes: Arc::clone(&self.held_bytes) })
    }

    fn forget_expired(&self, now: Duration) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| now < kept.until);
    }

    /// Frees documents once nobody may be answered with them.
    fn forget_later(self: &Arc<Self>, begun: Duration) {
        let renderer = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(MAX_AGE).await;
            if let Some(renderer) = renderer.upgrade() {
                renderer.forget_expired(begun.saturating_add(MAX_AGE));
            }
        });
    }
}

/// Bytes whose number is in a sum as long as they are held.
struct CountedBytes {
    bytes: Vec<u8>,
    held_bytes: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes.len(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{atomic::AtomicU64, mpsc};

    use tokio::task::JoinSet;

    use super::*;

    const NOTHING_CHANGED: Version = Version { now: Duration::ZERO, changes: 0 };

    fn at(milliseconds: u64, changes: u64) -> impl Fn() -> Version {
        move || Version { now: Duration::from_millis(milliseconds), changes }
    }

    fn rendered(text: &str) -> Rendered {
        Rendered { plain: text.as_bytes().to_vec(), known_until: None }
    }

    async fn get(renderer: &Arc<Renderer<&'static str>>, milliseconds: u64, text: &'static str) -> Bytes {
        let got = renderer.get(&"page", false, at(milliseconds, 0), move || rendered(text)).await;
        got.unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[tokio::test]
    async fn all_who_ask_within_a_second_get_the_same_bytes() {
        let renderer = Renderer::new();
        let first = get(&renderer, 0, "a").await;
        let later = get(&renderer, 999, "b").await;
        assert_eq!((&*first, first.as_ptr()), (&*later, later.as_ptr()));
        assert_eq!(&*get(&renderer, 1000, "c").await, b"c");
        let other = renderer.get(&"other", false, at(1000, 0), || rendered("d")).await;
        assert_eq!(other.as_deref(), Ok(&b"d"[..]));
    }

    #[tokio::test]
    async fn a_document_is_compressed_once_and_from_the_bytes_of_the_plain_one() {
        let renderer = Renderer::new();
        let plain = get(&renderer, 0, "a").await;
        let packed = |milliseconds| renderer.get(&"page", true, at(milliseconds, 0), || rendered("b"));
        let (first, second) = (packed(1).await, packed(2).await);
        let (Ok(first), Ok(second)) = (first, second) else { panic!("no document") };
        assert_eq!(first.as_ptr(), second.as_ptr());
        let mut unpacked = String::new();
        let read = std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*first), &mut unpacked);
        assert!(read.is_ok() && unpacked.as_bytes() == plain, "{unpacked}");
    }

    #[tokio::test]
    async fn a_document_is_never_shared_when_something_in_it_is_too_old() {
        let renderer = Renderer::new();
        let short = || Rendered { plain: b"a".to_vec(), known_until: Some(Duration::from_millis(300)) };
        let got = renderer.get(&"page", false, at(0, 0), short).await;
        assert_eq!(got.as_deref(), Ok(&b"a"[..]));
        assert_eq!(&*get(&renderer, 299, "b").await, b"a");
        assert_eq!(&*get(&renderer, 300, "c").await, b"c");
    }

    #[tokio::test]
    async fn a_change_shows_once_twenty_times_the_cost_of_a_rendering_has_passed() {
        let renderer = Renderer::new();
        let slow = || {
            std::thread::sleep(Duration::from_millis(5));
            rendered("a")
        };
        let got = renderer.get(&"page", false, at(0, 0), slow).await;
        assert_eq!(got.as_deref(), Ok(&b"a"[..]));
        let shared = renderer.get(&"page", false, at(99, 1), || rendered("b")).await;
        assert_eq!(shared.as_deref(), Ok(&b"a"[..]));
        let new = renderer.get(&"page", false, at(1000, 1), || rendered("c")).await;
        assert_eq!(new.as_deref(), Ok(&b"c"[..]));
    }

    #[tokio::test]
    async fn one_document_is_rendered_at_a_time_and_too_many_waiters_are_told_so() {
        let renderer = Renderer::new();
        let (release, held) = mpsc::channel::<()>();
        let renderings = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let first = Arc::clone(&renderer);
        let (started, is_started) = tokio::sync::oneshot::channel();
        tasks.spawn(async move {
            let wait = move || {
                let _ = started.send(());
                let _ = held.recv();
                rendered("a")
            };
            first.get(&"page", false, || NOTHING_CHANGED, wait).await
        });
        assert!(is_started.await.is_ok());
        for _ in 1..WAITERS {
            let (renderer, renderings) = (Arc::clone(&renderer), Arc::clone(&renderings));
            tasks.spawn(async move {
                let count = move || {
                    renderings.fetch_add(1, Ordering::Relaxed);
                    rendered("b")
                };
                renderer.get(&"page", false, || NOTHING_CHANGED, count).await
            });
        }
        while renderer.waiters.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = renderer.get(&"other", false, || NOTHING_CHANGED, || rendered("c")).await;
        assert_eq!(refused, Err(RenderError::Busy));
        assert!(release.send(()).is_ok());
        while let Some(done) = tasks.join_next().await {
            assert!(matches!(&done, Ok(Ok(bytes)) if **bytes == *b"a"), "{done:?}");
        }
        assert_eq!(renderings.load(Ordering::Relaxed), 0, "they all got the bytes of the first");
    }

    #[tokio::test]
    async fn a_panic_or_a_client_that_leaves_holds_up_nobody() {
        let renderer = Renderer::new();
        let failed = renderer.get(&"page", false, at(0, 0), || panic!("a mistake in the page")).await;
        assert_eq!(failed, Err(RenderError::Failed));
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (release, held) = mpsc::channel::<()>();
        let leaving = renderer.get(&"page", false, at(0, 0), move || {
            let _ = started.send(());
            let _ = held.recv();
            rendered("a")
        });
        tokio::select! {
            _ = leaving => panic!("nobody has released it"),
            started = is_started => assert!(started.is_ok()),
        }
        assert!(release.send(()).is_ok());
        assert_eq!(&*get(&renderer, 1, "b").await, b"a", "the work of the client that left is used");
    }

    #[tokio::test]
    async fn documents_that_slow_clients_hold_are_bounded_and_memory_is_freed_after_them() {
        let renderer = Renderer::new();
        let large = || Rendered { plain: vec![0; MEMORY_BYTES + 1], known_until: None };
        let slow_reader = renderer.get(&"page", false, at(0, 0), large).await;
        assert!(slow_reader.is_ok());
        let busy = renderer.get(&"page", false, at(1000, 0), || rendered("b")).await;
        assert_eq!(busy, Err(RenderError::Busy));
        drop(slow_reader);
        assert_eq!(renderer.held_bytes.load(Ordering::Acquire), 0, "it is not kept for ever either");
        assert_eq!(&*get(&renderer, 1000, "c").await, b"c");
    }
}
