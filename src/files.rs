//! Files that may be replaced at any time, and hold what others must not read: their content, whether one has
//! changed since it was read, and who may read it. All of it may block on a network file system, so it is called on
//! a thread of [`crate::blocking`].

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Reads at most `max_bytes` bytes of the regular file at `path`, or where a link there leads; and one more where
/// there are more, so that the caller can tell.
///
/// # Errors
/// The system's, or `InvalidInput` for what is no regular file: a FIFO would be waited for, a device read without end.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Without the flag, to open a FIFO that nobody writes to waits for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        let text = "it is not a regular file: give the path of one";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file looks like from outside: inode, device, modification time and size; `None` for one
/// that cannot be seen.
pub(crate) type Fingerprint = Option<(u64, u64, i64, i64, u64)>;

/// What the file at `path`, or where a link there leads, looks like now.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// A sentence about a file that more users may read than need to.
pub(crate) fn permission_warning(path: &Path) -> Option<String> {
    let me = rustix::process::geteuid().as_raw();
    let remedy = remedy(&fs::metadata(path).ok()?, me)?;
    Some(format!("{} can be read by other users than its owner: {remedy} it", path.display()))
}

/// How to close a file to users who have no need of it; `None` if it is closed to them. A file of
/// another user reaches the user `me` through its group or a list of rights, which shows in the
/// same bits: that is how systemd's credentials and secrets of Kubernetes are handed over.
fn remedy(meta: &fs::Metadata, me: u32) -> Option<&'static str> {
    let (too_open, remedy) = if meta.uid() == me { (0o077, "chmod 600") } else { (0o007, "chmod o=") };
    (meta.permissions().mode() & too_open != 0).then_some(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_links_to_them() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "12345")?;
        std::os::unix::fs::symlink(at("file"), at("link"))?;
        for name in ["file", "link"] {
            assert_eq!(**read(&at(name), 5)?, *b"12345");
            assert_eq!(read(&at(name), 3)?.len(), 4, "one more than asked for tells that there is more");
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )?;
        let refused = |path: &Path| read(path, 5).err().map(|error| error.kind());
        for path in [&at("fifo"), Path::new("/dev/zero")] {
            assert_eq!(refused(path), Some(io::ErrorKind::InvalidInput), "{}", path.display());
        }
        assert!(refused(folder.path()).is_some());
        Ok(())
    }

    #[test]
    fn a_file_that_another_user_hands_over_may_be_read_by_its_group() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let me = rustix::process::geteuid().as_raw();
        let remedy = |mode, me| -> io::Result<_> {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))?;
            Ok(remedy(&fs::metadata(file.path())?, me))
        };
        assert_eq!(remedy(0o440, me + 1)?, None, "so come credentials of systemd");
        assert_eq!(
            remedy(0o444, me + 1)?,
            Some("chmod o="),
            "the owner of the file is not asked to lock us out"
        );
        assert_eq!(remedy(0o440, me)?, Some("chmod 600"));
        Ok(())
    }
}
