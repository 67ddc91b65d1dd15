//! Writing the metrics of `once` to the file of `--output`. A regular file is replaced whole or not at all, because a
//! collector may read at any time; whatever else has that name is written to in place and never replaced. Knows nothing of
//! what is written.

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

/// The mode of a file that was not there: a collector of another user reads it.
const NEW_MODE: u32 = 0o644;
/// Links to follow before a path is taken for a circle.
const LINKS_MAX: usize = 16;

/// Writes `parts` to what `path` names, or where a link there leads.
///
/// # Errors
/// The system's, or a sentence that says what cannot be written to and what can.
pub(super) fn write(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    // These lead to open files of a process, which others write to as well: /dev/stdout may be a regular file.
    let open_files = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    let is_of_the_system = open_files.iter().any(|place| path.starts_with(place));
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(refused("it is a directory: name a file in it")),
        Ok(meta) if meta.file_type().is_socket() || meta.file_type().is_block_device() => {
            Err(refused("it is a socket or a block device: name a file"))
        }
        Ok(meta) if meta.is_file() && !is_of_the_system => {
            replace(&fs::canonicalize(path)?, Some(&meta), parts)
        }
        Ok(_) => write_in_place(path, parts),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_of_the_system => {
            replace(&link_target(path)?, None, parts)
        }
        Err(error) => Err(error),
    }
}

fn refused(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// Where a file is created that `path` names: links may lead to a file that is not there yet.
fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(refused("its links lead in a circle: name a file"))
}

fn write_in_place(path: &Path, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().append(true).custom_flags(flags).open(path);
    let no_reader = |error: io::Error| {
        let is_fifo = error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        if is_fifo { refused("nobody reads it: start the reader of this FIFO first") } else { error }
    };
    let mut file = file.map_err(no_reader)?;
    // Opened without waiting for a reader; what it takes is waited for.
    fcntl_setfl(&file, OFlags::APPEND)?;
    parts.iter().try_for_each(|part| file.write_all(part.as_ref()))
}

/// Puts a new file in the place of `target`, with the mode and the owner of the `old` one.
fn replace(target: &Path, old: Option<&fs::Metadata>, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let name = target.file_name().ok_or_else(|| refused("it names no file"))?;
    // A textfile collector reads *.prom only, so it passes over this name.
    let spec = target.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&spec)?;
    let mut write = || {
        parts.iter().try_for_each(|part| file.write_all(part.as_ref()))?;
        if let Some(old) = old {
            keep_owner(&file, old)?;
        }
        // Not left to the umask.
        let mode = old.map_or(NEW_MODE, |old| old.mode() & 0o777);
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&spec, target)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&spec);
    }
    written
}

fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| {
        io::Error::new(
            error.kind(),
            "it belongs to another user or group, which only root can keep: remove it first, or name another file",
        )
    })
}
