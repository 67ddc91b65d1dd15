//! Renders large documents (the status page, JSON) off the threads that serve scrapes: one at a time, shared by all
//! clients that request the same document, and with limits of its own. Knows neither routes nor the documents' content.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};

use super::response::gzip;
use crate::clock::MonotonicTime;

/// A document is rendered again after this time.
const MAX_AGE: Duration = Duration::from_secs(1);
/// A document whose content has changed is still shared for this many times its rendering time, up to [`MAX_AGE`]. Cheap
/// documents follow changes at once, and costly ones use a small part of a core.
const PAUSE_FACTOR: u32 = 20;
/// Maximum number of requests that wait for a rendering.
const MAX_WAITERS: usize = 64;
/// Maximum number of cached documents.
const MAX_DOCUMENTS: usize = 8;
/// No document is rendered while cached documents, and documents that clients are still receiving, take more than this.
const MAX_MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Renders documents and shares them. `D` identifies a document.
#[derive(Debug)]
pub(super) struct Renderer<D> {
    cache: Mutex<Vec<CachedDocument<D>>>,
    /// The permit for one rendering at a time; requests wait for it in order.
    render_permit: Arc<Semaphore>,
    /// Permits to wait.
    wait_permits: Semaphore,
    /// Bytes of all documents that are not dropped yet.
    held_bytes: Arc<AtomicUsize>,
}

/// The version of the content at a point in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// The time.
    pub now: MonotonicTime,
    /// Number of changes of the content until then.
    pub changes: u64,
}

/// A document's bytes.
#[derive(Debug)]
pub(super) struct Rendered {
    /// Uncompressed.
    pub plain: Vec<u8>,
    /// When a value in it becomes too old to show.
    pub expires: Option<MonotonicTime>,
}

/// Why there is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenderError {
    /// Too many requests wait, or clients have not received their documents yet.
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
    /// When it expires.
    expires: MonotonicTime,
    /// When it expires if the content has changed since.
    expires_if_changed: MonotonicTime,
}

impl<D> CachedDocument<D> {
    fn is_current(&self, version: Version) -> bool {
        let is_unchanged = self.changes == version.changes;
        version.now < if is_unchanged { self.expires } else { self.expires_if_changed }
    }
}

impl<D: Clone + PartialEq + Send + 'static> Renderer<D> {
    /// A renderer with an empty cache.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            cache: Mutex::default(),
            render_permit: Arc::new(Semaphore::new(1)),
            wait_permits: Semaphore::new(MAX_WAITERS),
            held_bytes: Arc::default(),
        })
    }

    /// Returns the bytes of `document`, compressed if `is_gzip`: those of the cache if they are current, or else the result
    /// of `render`. `version` returns the present version of the content.
    ///
    /// # Errors
    /// If there is no capacity, or rendering fails.
    pub(super) async fn get(
        self: &Arc<Self>,
        document: &D,
        is_gzip: bool,
        version: impl Fn() -> Version,
        render: impl FnOnce() -> Rendered + Send + 'static,
    ) -> Result<Bytes, RenderError> {
        if let Some(bytes) = self.cached_bytes(document, is_gzip, version()) {
            return Ok(bytes);
        }
        let _wait_permit = self.wait_permits.try_acquire().map_err(|_| RenderError::Busy)?;
        let Ok(permit) = Arc::clone(&self.render_permit).acquire_owned().await else {
            return Err(RenderError::Busy);
        };
        let version = version();
        if let Some(bytes) = self.cached_bytes(document, is_gzip, version) {
            return Ok(bytes);
        }
        self.remove_expired(version.now);
        if self.held_bytes.load(Ordering::Acquire) > MAX_MEMORY_BYTES {
            return Err(RenderError::Busy);
        }
        let (renderer, document) = (Arc::clone(self), document.clone());
        let bytes = spawn_blocking(move || {
            // Held here: the rendering continues if the client disconnects.
            let _permit = permit;
            renderer.render(document, is_gzip, version, render)
        });
        let bytes = bytes.await.inspect_err(|error| {
            tracing::error!("cannot render a document: {error}: please report this bug");
        });
        self.schedule_removal(version.now);
        bytes.ok().flatten().ok_or(RenderError::Failed)
    }

    fn cached_bytes(&self, document: &D, is_gzip: bool, version: Version) -> Option<Bytes> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached =
            cache.iter().find(|cached| cached.document == *document && cached.is_current(version))?;
        if is_gzip { cached.gzip.clone() } else { Some(cached.plain.clone()) }
    }

    /// The uncompressed bytes of a cached document, and when they expire.
    fn cached_plain(&self, document: &D, version: Version) -> Option<(Bytes, MonotonicTime)> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.iter().find(|cached| cached.document == *document)?;
        // Not if the content has changed: the compressed bytes would count as those of the newer content.
        let is_unchanged = cached.changes == version.changes && version.now < cached.expires;
        is_unchanged.then(|| (cached.plain.clone(), cached.expires))
    }

    /// Renders or compresses a document and caches it; `None` if compression fails.
    fn render(
        &self,
        document: D,
        is_gzip: bool,
        version: Version,
        render: impl FnOnce() -> Rendered,
    ) -> Option<Bytes> {
        let started = Instant::now();
        let (plain, expires) = self.cached_plain(&document, version).unwrap_or_else(|| {
            let rendered = render();
            let expires = version.now + MAX_AGE;
            (self.count(rendered.plain), rendered.expires.map_or(expires, |known| known.min(expires)))
        });
        let gzip = if is_gzip { Some(self.compress(&plain)?) } else { None };
        let pause_end = version.now + started.elapsed() * PAUSE_FACTOR;
        let bytes = gzip.clone().unwrap_or_else(|| plain.clone());
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|cached| cached.document != document);
        if cache.len() >= MAX_DOCUMENTS {
            cache.remove(0);
        }
        let (changes, expires_if_changed) = (version.changes, pause_end.min(expires));
        cache.push(CachedDocument { document, plain, gzip, changes, expires, expires_if_changed });
        Some(bytes)
    }

    /// `None` if compression fails, which it does not in memory.
    fn compress(&self, plain: &[u8]) -> Option<Bytes> {
        gzip(plain).ok().map(|compressed| self.count(compressed))
    }

    /// Counts `bytes` in `held_bytes` until the last copy of the handle is dropped.
    fn count(&self, bytes: Vec<u8>) -> Bytes {
        self.held_bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        Bytes::from_owner(CountedBytes { bytes, held_bytes: Arc::clone(&self.held_bytes) })
    }

    fn remove_expired(&self, now: MonotonicTime) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).retain(|cached| now < cached.expires);
    }

    /// Removes documents once they have expired, without a further request.
    fn schedule_removal(self: &Arc<Self>, rendered_at: MonotonicTime) {
        let renderer = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(MAX_AGE).await;
            if let Some(renderer) = renderer.upgrade() {
                renderer.remove_expired(rendered_at + MAX_AGE);
            }
        });
    }
}

/// Bytes that are counted in a sum until they are dropped.
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

    const NOTHING_CHANGED: Version = Version { now: MonotonicTime::START, changes: 0 };

    fn at(milliseconds: u64, changes: u64) -> impl Fn() -> Version {
        move || Version { now: MonotonicTime::START + Duration::from_millis(milliseconds), changes }
    }

    fn rendered(text: &str) -> Rendered {
        Rendered { plain: text.as_bytes().to_vec(), expires: None }
    }

    async fn get(renderer: &Arc<Renderer<&'static str>>, milliseconds: u64, text: &'static str) -> Bytes {
        let got = renderer.get(&"page", false, at(milliseconds, 0), move || rendered(text)).await;
        got.unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[tokio::test]
    async fn clients_within_a_second_share_the_same_bytes() {
        let renderer = Renderer::new();
        let first = get(&renderer, 0, "a").await;
        let later = get(&renderer, 999, "b").await;
        assert_eq!((&*first, first.as_ptr()), (&*later, later.as_ptr()));
        assert_eq!(&*get(&renderer, 1000, "c").await, b"c");
        let other = renderer.get(&"other", false, at(1000, 0), || rendered("d")).await;
        assert_eq!(other.as_deref(), Ok(&b"d"[..]));
    }

    #[tokio::test]
    async fn a_document_is_compressed_once_from_its_plain_bytes() {
        let renderer = Renderer::new();
        let plain = get(&renderer, 0, "a").await;
        let compressed = |milliseconds| renderer.get(&"page", true, at(milliseconds, 0), || rendered("b"));
        let (first, second) = (compressed(1).await, compressed(2).await);
        let (Ok(first), Ok(second)) = (first, second) else { panic!("no document") };
        assert_eq!(first.as_ptr(), second.as_ptr());
        let mut decompressed = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&*first);
        let read = std::io::Read::read_to_string(&mut decoder, &mut decompressed);
        assert!(read.is_ok() && decompressed.as_bytes() == plain, "{decompressed}");
    }

    #[tokio::test]
    async fn a_document_expires_with_the_first_value_in_it() {
        let renderer = Renderer::new();
        let short = || Rendered {
            plain: b"a".to_vec(),
            expires: Some(MonotonicTime::START + Duration::from_millis(300)),
        };
        let got = renderer.get(&"page", false, at(0, 0), short).await;
        assert_eq!(got.as_deref(), Ok(&b"a"[..]));
        assert_eq!(&*get(&renderer, 299, "b").await, b"a");
        assert_eq!(&*get(&renderer, 300, "c").await, b"c");
    }

    #[tokio::test]
    async fn a_change_is_visible_after_twenty_times_the_rendering_time() {
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
    async fn one_document_is_rendered_at_a_time_and_the_number_of_waiters_is_limited() {
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
        for _ in 1..MAX_WAITERS {
            let (renderer, renderings) = (Arc::clone(&renderer), Arc::clone(&renderings));
            tasks.spawn(async move {
                let count = move || {
                    renderings.fetch_add(1, Ordering::Relaxed);
                    rendered("b")
                };
                renderer.get(&"page", false, || NOTHING_CHANGED, count).await
            });
        }
        while renderer.wait_permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = renderer.get(&"other", false, || NOTHING_CHANGED, || rendered("c")).await;
        assert_eq!(refused, Err(RenderError::Busy));
        assert!(release.send(()).is_ok());
        while let Some(done) = tasks.join_next().await {
            assert!(matches!(&done, Ok(Ok(bytes)) if **bytes == *b"a"), "{done:?}");
        }
        assert_eq!(renderings.load(Ordering::Relaxed), 0, "all waiters share the first rendering");
    }

    #[tokio::test]
    async fn a_panic_or_a_disconnected_client_does_not_block_others() {
        let renderer = Renderer::new();
        let failed = renderer.get(&"page", false, at(0, 0), || panic!("a bug in the page")).await;
        assert_eq!(failed, Err(RenderError::Failed));
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (release, held) = mpsc::channel::<()>();
        let leaving = renderer.get(&"page", false, at(0, 0), move || {
            let _ = started.send(());
            let _ = held.recv();
            rendered("a")
        });
        tokio::select! {
            _ = leaving => panic!("the rendering is still held"),
            started = is_started => assert!(started.is_ok()),
        }
        assert!(release.send(()).is_ok());
        assert_eq!(&*get(&renderer, 1, "b").await, b"a", "the rendering of the disconnected client is used");
    }

    #[tokio::test]
    async fn documents_of_slow_clients_are_limited_and_freed_after_them() {
        let renderer = Renderer::new();
        let large = || Rendered { plain: vec![0; MAX_MEMORY_BYTES + 1], expires: None };
        let slow_reader = renderer.get(&"page", false, at(0, 0), large).await;
        assert!(slow_reader.is_ok());
        let busy = renderer.get(&"page", false, at(1000, 0), || rendered("b")).await;
        assert_eq!(busy, Err(RenderError::Busy));
        drop(slow_reader);
        assert_eq!(renderer.held_bytes.load(Ordering::Acquire), 0, "the cache drops expired documents");
        assert_eq!(&*get(&renderer, 1000, "c").await, b"c");
    }
}
