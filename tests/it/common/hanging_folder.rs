//! A folder on a file system that hangs on request, like a network file system without its server.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::until;

/// A folder that another process, bindfs, serves. While bindfs is stopped, every access to the folder waits.
pub struct HangingFolder {
    folder: tempfile::TempDir,
    server: Child,
}

impl HangingFolder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, mount) = (folder.path().join("source"), folder.path().join("mount"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&mount).unwrap();
        let mut server = Command::new("bindfs");
        // Without the kernel's caches every look at a file asks the server.
        server
            .args(["-f", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0"])
            .args([&source, &mount]);
        let server = server.stdin(Stdio::null()).spawn().expect("tests/install installs bindfs");
        let this = Self { folder, server };
        let mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(mount.to_str().unwrap());
        until("the folder is mounted", || mounted().then_some(()));
        this
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Makes every access to the folder wait from now on.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    /// Ends [`Self::hang`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.server.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for HangingFolder {
    fn drop(&mut self) {
        self.resume();
        // Lazily: a process that was killed while it waited may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
