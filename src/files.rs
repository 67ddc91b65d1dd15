//! Files that may be replaced at any time, and hold what others must not read: whether one has changed
//! since it was read, and who may read it. Opens none.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// What a file looks like from outside: inode, device, modification time and size; `None` for one
/// that cannot be seen.
pub(crate) type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// What the file at `path`, or where a link there leads, looks like now.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// A sentence about a file that more users may read than need to.
pub(crate) fn warning(path: &Path) -> Option<String> {
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
    use std::io;

    use super::*;

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
