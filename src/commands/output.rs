//! Writes the file of `once --output`. Replaces a regular file atomically, because a collector may read it at any time.
//! Writes to anything else, such as a FIFO, in place. Knows no metric.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};

/// Mode of a new file: the collector may run as another user.
const NEW_MODE: u32 = 0o644;
/// Maximum number of links to follow.
const LINKS_MAX: usize = 16;

/// Writes `parts` to the file at `path`, or to the one that a link there leads to.
///
/// # Errors
/// The system's error, or what kind of file cannot be written and the fix.
pub(super) fn write(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    // These lead to open files of a process, such as a regular file behind /dev/stdout, which must not be replaced.
    let open_files = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    let is_open_file = open_files.iter().any(|place| path.starts_with(place));
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(invalid_input("it is a directory: choose a file in it")),
        Ok(meta) if meta.file_type().is_socket() || meta.file_type().is_block_device() => {
            Err(invalid_input("it is a socket or a block device: choose a file"))
        }
        Ok(meta) if meta.is_file() && !is_open_file => replace(&fs::canonicalize(path)?, Some(&meta), parts),
        Ok(_) => write_in_place(path, parts),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_open_file => {
            replace(&resolve_link(path)?, None, parts)
        }
        Err(error) => Err(error),
    }
}

fn invalid_input(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// Follows links from `path` to a file that does not exist yet.
fn resolve_link(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(invalid_input("too many symbolic links: choose a file"))
}

fn write_in_place(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().append(true).custom_flags(flags).open(path);
    let no_reader = |error: io::Error| {
        let is_fifo = error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        if is_fifo { invalid_input("no process reads this FIFO: start its reader first") } else { error }
    };
    let mut file = file.map_err(no_reader)?;
    // Only opening must not block.
    fcntl_setfl(&file, OFlags::APPEND)?;
    parts.iter().try_for_each(|part| file.write_all(part.as_ref()))
}

/// Replaces `target` by a new file with the mode and the owner of the `old` one.
fn replace(target: &Path, old: Option<&fs::Metadata>, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let name = target.file_name().ok_or_else(|| invalid_input("it has no file name: choose a file"))?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A textfile collector reads *.prom only, so it ignores the temporary file.
    let prefix = format!(".{}.", name.to_string_lossy());
    fs::metadata(folder)?;
    let file = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(folder);
    // The library's error would repeat the path.
    let mut file = file.map_err(|error| io::Error::from(error.kind()))?;
    parts.iter().try_for_each(|part| file.write_all(part.as_ref()))?;
    if let Some(old) = old {
        keep_owner(file.as_file(), old)?;
    }
    // Sets the mode explicitly, because the umask applies only to new files.
    let mode = old.map_or(NEW_MODE, |old| old.mode() & 0o777);
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(target).map(drop).map_err(|error| error.error)
}

fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| {
        io::Error::new(
            error.kind(),
            "it belongs to another user or group, which only root can preserve: remove the file first, or choose another file",
        )
    })
}
