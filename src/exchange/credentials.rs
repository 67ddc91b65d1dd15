//! An account's key pairs: where they come from, and which one to use. The files are read again when they change, and a
//! new pair replaces the old one only after the exchange accepted it.
//! Signs nothing and sends nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::secret::{KeyPair, Secret};
use crate::{
    blocking::BlockingWorker,
    clock::UnixTime,
    files::{self, Fingerprint},
    quoting::quote_existing_path,
};

/// The most bytes of a key file. Keys are far shorter.
const FILE_MAX_BYTES: u64 = 4096;
/// How long a poll waits for the key files. After that it uses the current pair.
const FILES_DEADLINE: Duration = Duration::from_secs(1);

/// The sources of both halves of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// The access key.
    pub access: KeyHalf,
    /// The secret key.
    pub secret: KeyHalf,
}

/// The source of one half of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHalf {
    /// A value from the environment.
    Given(Secret),
    /// A file, which may be replaced at any time.
    File(PathBuf),
}

/// An account's key pairs: the one in use, and possibly a newer one that the exchange has not accepted yet.
#[derive(Debug)]
pub struct Credentials {
    source: KeySource,
    current: KeyPair,
    /// Unix time at which the pair in use was read.
    loaded: UnixTime,
    current_refused: bool,
    candidate: Option<(KeyPair, UnixTime)>,
    refused_candidate: Option<KeyPair>,
    /// `None` if the files must be read again even if they look unchanged.
    read_fingerprints: Option<Vec<Fingerprint>>,
    warnings: Vec<String>,
    reader: BlockingWorker<PendingRead>,
}

/// The fingerprints of the key files, and their content if the fingerprints changed.
type PendingRead = (Vec<Fingerprint>, Option<Result<KeyPair, String>>);

impl Credentials {
    /// Reads the first pair at `now`. May block.
    ///
    /// # Errors
    /// A sentence with the file and the problem.
    pub fn open(source: KeySource, now: UnixTime) -> Result<Self, String> {
        let read_fingerprints = Some(source.fingerprints());
        let current = source.read()?;
        Ok(Self {
            warnings: source.files().filter_map(files::permission_warning).collect(),
            source,
            current,
            loaded: now,
            current_refused: false,
            candidate: None,
            refused_candidate: None,
            read_fingerprints,
            reader: BlockingWorker::default(),
        })
    }

    /// Warnings about files that other users could read when the first pair was read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks whether the files changed since they were last read, and reads them if so. A pair that is neither in use
    /// nor known to be refused is tried next. Returns whether there is a new pair to try. Waits at most a second for a
    /// file system that hangs.
    ///
    /// # Errors
    /// If the files cannot be checked or read; the pair in use stays.
    pub async fn refresh(&mut self, now: UnixTime) -> Result<bool, String> {
        if self.source.files().next().is_none() {
            return Ok(false);
        }
        let (source, read_fingerprints) = (self.source.clone(), self.read_fingerprints.clone());
        let read_if_changed = move || {
            let fingerprints = source.fingerprints();
            let is_same = read_fingerprints.as_ref() == Some(&fingerprints);
            (fingerprints, (!is_same).then(|| source.read()))
        };
        let read = self.reader.run("key files", FILES_DEADLINE, read_if_changed).await;
        let (fingerprints, read) = read.map_err(|error| format!("the key files cannot be read: {error}"))?;
        let Some(pair) = read.transpose()? else { return Ok(false) };
        self.read_fingerprints = Some(fingerprints);
        let is_new = pair != self.current && self.refused_candidate.as_ref() != Some(&pair);
        self.candidate = is_new.then_some((pair, now));
        Ok(is_new)
    }

    /// The pair to sign with: the newer one if there is one, otherwise the one in use.
    #[must_use]
    pub fn pair(&self) -> &KeyPair {
        self.candidate.as_ref().map_or(&self.current, |(pair, _)| pair)
    }

    /// Records that the exchange accepted the pair of [`Credentials::pair`], which is now in use. Returns whether that
    /// is a change.
    pub fn record_success(&mut self) -> bool {
        self.current_refused = false;
        let Some((pair, loaded)) = self.candidate.take() else { return false };
        self.current = pair;
        self.loaded = loaded;
        true
    }

    /// Records that the exchange refused the pair of [`Credentials::pair`]. Returns whether to try the pair in use
    /// instead. If that is the refused one, the files will be read again, because a network file system may have shown
    /// an old version.
    pub fn record_refusal(&mut self) -> bool {
        if let Some((pair, _)) = self.candidate.take() {
            self.refused_candidate = Some(pair);
            return !self.current_refused;
        }
        self.current_refused = true;
        self.read_fingerprints = None;
        false
    }

    /// Records a failure that may be the fault of the pair of [`Credentials::pair`]. Returns whether to try the pair in
    /// use instead; the newer pair is tried again next time.
    pub fn record_possible_refusal(&mut self) -> bool {
        let was_new = self.candidate.take().is_some();
        if was_new {
            self.read_fingerprints = None;
        }
        was_new && !self.current_refused
    }

    /// Allows one more try of a refused pair, because the exchange may accept it now.
    pub fn reset_rejected(&mut self) {
        self.refused_candidate = None;
        self.read_fingerprints = None;
    }

    /// The sources of the pairs.
    #[must_use]
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Unix time at which the pair in use was read.
    #[must_use]
    pub fn loaded_at(&self) -> UnixTime {
        self.loaded
    }
}

impl KeySource {
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.access, &self.secret].into_iter().filter_map(|half| match half {
            KeyHalf::Given(_) => None,
            KeyHalf::File(path) => Some(path.as_path()),
        })
    }

    fn read(&self) -> Result<KeyPair, String> {
        Ok(KeyPair::new(self.access.read("access key")?, self.secret.read("secret key")?))
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.files().map(files::fingerprint).collect()
    }
}

impl KeyHalf {
    /// Reads one half, which errors call `what`.
    fn read(&self, what: &str) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => read_key_file(path)
                .map_err(|why| format!("the {what} file{} {why}", quote_existing_path(path))),
        }
    }
}

fn read_key_file(path: &Path) -> Result<Secret, String> {
    let bytes = files::read(path, FILE_MAX_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
    let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
    let text = text.map_err(|_| "cannot be read: it is not UTF-8")?;
    Ok(Secret::new(&text)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, io, os::unix::fs::PermissionsExt as _};

    use super::*;

    struct KeyFiles {
        _folder: tempfile::TempDir,
        access: PathBuf,
        secret: PathBuf,
    }

    impl KeyFiles {
        fn new() -> io::Result<Self> {
            let folder = tempfile::tempdir()?;
            let (access, secret) = (folder.path().join("key"), folder.path().join("secret"));
            let files = Self { _folder: folder, access, secret };
            files.write("a1", "s1")?;
            Ok(files)
        }

        /// Replaces both files by a rename, so that the inode changes.
        fn write(&self, access: &str, secret: &str) -> io::Result<()> {
            for (path, text) in [(&self.access, access), (&self.secret, secret)] {
                let new = path.with_extension("new");
                fs::write(&new, text)?;
                fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
                fs::rename(new, path)?;
            }
            Ok(())
        }

        fn source(&self) -> KeySource {
            KeySource {
                access: KeyHalf::File(self.access.clone()),
                secret: KeyHalf::File(self.secret.clone()),
            }
        }
    }

    fn access_key(credentials: &Credentials) -> String {
        credentials.pair().access().to_owned()
    }

    const FIRST: UnixTime = UnixTime::from_secs(1);
    const SECOND: UnixTime = UnixTime::from_secs(2);

    #[tokio::test]
    async fn a_new_pair_is_tried_and_used_after_the_exchange_accepted_it()
    -> Result<(), Box<dyn std::error::Error>> {
        let files = KeyFiles::new()?;
        let mut credentials = Credentials::open(files.source(), FIRST)?;
        assert!(!credentials.refresh(SECOND).await?, "nothing has changed");
        files.write("a2", "s2")?;
        assert!(credentials.refresh(SECOND).await?);
        assert_eq!(
            (access_key(&credentials), credentials.loaded_at()),
            ("a2".to_owned(), FIRST),
            "the new pair is tried, but not in use yet"
        );
        assert!(credentials.record_success());
        assert_eq!((access_key(&credentials), credentials.loaded_at()), ("a2".to_owned(), SECOND));
        assert!(!credentials.record_success(), "only the first success is a change");
        Ok(())
    }

    #[tokio::test]
    async fn after_a_refused_new_pair_the_old_pair_stays_in_use() -> Result<(), Box<dyn std::error::Error>> {
        let files = KeyFiles::new()?;
        let mut credentials = Credentials::open(files.source(), FIRST)?;
        files.write("wrong", "s2")?;
        assert!(credentials.refresh(SECOND).await?);
        assert!(credentials.record_refusal(), "the old pair is tried next");
        assert_eq!((access_key(&credentials), credentials.loaded_at()), ("a1".to_owned(), FIRST));
        files.write("wrong", "s2")?;
        assert!(
            !credentials.refresh(SECOND).await?,
            "a refused pair is not tried again when it is written again"
        );
        credentials.reset_rejected();
        assert!(credentials.refresh(SECOND).await?, "it is tried again after a reset");
        Ok(())
    }

    #[tokio::test]
    async fn when_both_pairs_are_refused_only_the_new_one_is_tried() -> Result<(), Box<dyn std::error::Error>>
    {
        let files = KeyFiles::new()?;
        let mut credentials = Credentials::open(files.source(), FIRST)?;
        assert!(!credentials.record_refusal(), "there is no other pair");
        files.write("a2", "s2")?;
        assert!(credentials.refresh(SECOND).await?);
        assert!(!credentials.record_refusal(), "the old pair was refused before");
        files.write("a3", "s3")?;
        assert!(credentials.refresh(SECOND).await? && credentials.record_success());
        assert_eq!(access_key(&credentials), "a3");
        Ok(())
    }

    #[tokio::test]
    async fn the_pair_in_use_stays_when_its_files_become_invalid() -> Result<(), Box<dyn std::error::Error>> {
        let files = KeyFiles::new()?;
        let mut credentials = Credentials::open(files.source(), FIRST)?;
        files.write("a2", "")?;
        let error = credentials.refresh(SECOND).await.err().unwrap_or_default();
        assert!(error.contains("secret is empty"), "{error}");
        assert_eq!(access_key(&credentials), "a1");
        fs::remove_file(&files.access)?;
        assert!(
            credentials
                .refresh(SECOND)
                .await
                .is_err_and(|error| error.contains("the access key file cannot be read"))
        );
        files.write("a3", "s3")?;
        assert!(credentials.refresh(SECOND).await?, "the files are valid again");
        Ok(())
    }

    #[test]
    fn errors_name_an_invalid_file_and_do_not_quote_it() -> Result<(), Box<dyn std::error::Error>> {
        let files = KeyFiles::new()?;
        for (text, why) in [
            ("", "is empty"),
            ("two words", "is not one word"),
            (&*"x".repeat(5_000), "larger than 4096 bytes"),
        ] {
            files.write("a1", text)?;
            let error = Credentials::open(files.source(), FIRST).err().unwrap_or_default();
            assert!(error.contains(why) && error.contains("secret") && !error.contains("two"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn files_that_other_users_can_read_cause_a_warning() -> Result<(), Box<dyn std::error::Error>> {
        let files = KeyFiles::new()?;
        let credentials = Credentials::open(files.source(), FIRST)?;
        assert_eq!(credentials.warnings(), [""; 0]);
        fs::set_permissions(&files.secret, fs::Permissions::from_mode(0o640))?;
        let credentials = Credentials::open(files.source(), FIRST)?;
        let warnings = credentials.warnings();
        assert!(
            warnings.len() == 1 && warnings.iter().all(|text| text.starts_with("other users can read")),
            "{warnings:?}"
        );
        Ok(())
    }
}
