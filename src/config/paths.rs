//! Paths of files that the configuration names. Opens no file.

use std::path::{Path, PathBuf};

/// The file at `path`, relative to `folder`. In a directory of systemd's credentials, the file `keys/main.key` is called
/// `keys_main.key`: `LoadCredential=keys:DIRECTORY` joins the names. May block.
pub(super) fn resolve_path(folder: &Path, path: &Path) -> PathBuf {
    let (plain, credential) = (folder.join(path), folder.join(path.to_string_lossy().replace('/', "_")));
    if path.is_relative() && !plain.exists() && credential.exists() { credential } else { plain }
}
