//! Files that may be replaced at any time and may contain secrets: their content, whether a file has changed since it
//! was read, and who may read it. Everything here may block on a network file system, so callers use a thread of
//! [`crate::blocking`].

use std::{
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Reads the regular file at `path`, or the one that a link there leads to.
///
/// # Errors
/// The system's error; `InvalidInput` for anything but a regular file, because a FIFO could block and a device be endless;
/// `FileTooLarge` for a file of more than `max_bytes` bytes.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Without this flag, opening a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(add_fix)?;
    if !file.metadata()?.is_file() {
        let text = "not a regular file: choose a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("larger than {max_bytes} bytes: is this the right file?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Adds the fix to the text of an error.
fn add_fix(error: io::Error) -> io::Error {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "let the user of the exporter read it",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {fix}"))
}

/// Inode, device, modification time (seconds, nanoseconds) and size in bytes of a file; `None` if it cannot be read.
pub(crate) type Fingerprint = Option<(u64, u64, i64, i64, u64)>;

/// The fingerprint of the file at `path`, or of the one that a link there leads to.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// A warning if more users may read the file than need to.
pub(crate) fn permission_warning(path: &Path) -> Option<String> {
    let me = rustix::process::geteuid().as_raw();
    let command = permission_fix(&fs::metadata(path).ok()?, me)?;
    Some(format!("other users can read {path}: run {command} {path}", path = path.display()))
}

/// The command that keeps a file from users who do not need it; `None` if it is already kept from them. The user `me` may
/// read the file of another user through its group or an access control list, which shows in the group's bits: systemd's
/// credentials and Kubernetes' secrets work like that.
fn permission_fix(meta: &fs::Metadata, me: u32) -> Option<&'static str> {
    let (needless_bits, command) = if meta.uid() == me { (0o077, "chmod 600") } else { (0o007, "chmod o=") };
    (meta.permissions().mode() & needless_bits != 0).then_some(command)
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
            let error = read(&at(name), 4).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::FileTooLarge));
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )?;
        let error = |path: &Path| read(path, 5).err().map(|error| error.kind());
        for path in [&at("fifo"), Path::new("/dev/zero")] {
            assert_eq!(error(path), Some(io::ErrorKind::InvalidInput), "{}", path.display());
        }
        assert!(error(folder.path()).is_some());
        Ok(())
    }

    #[test]
    fn the_group_may_read_a_file_of_another_user() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let me = rustix::process::geteuid().as_raw();
        let fix = |mode, me| -> io::Result<_> {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))?;
            Ok(permission_fix(&fs::metadata(file.path())?, me))
        };
        assert_eq!(fix(0o440, me + 1)?, None, "credentials of systemd have this mode");
        assert_eq!(
            fix(0o444, me + 1)?,
            Some("chmod o="),
            "removing the group's bits would lock out this process"
        );
        assert_eq!(fix(0o440, me)?, Some("chmod 600"));
        Ok(())
    }
}
