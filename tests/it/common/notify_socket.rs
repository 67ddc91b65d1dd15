//! A service manager's ear: a real datagram socket, as `NOTIFY_SOCKET` names it.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::PATIENCE;

pub struct NotifySocket {
    socket: UnixDatagram,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
    /// Heard, and not yet returned.
    heard: Vec<String>,
}

impl NotifySocket {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path, _folder: folder, heard: Vec::new() }
    }

    /// Waits for `said`, and returns every line up to it.
    pub fn until(&mut self, said: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard.iter().position(|line| line == said) {
                return self.heard.drain(..=at).collect();
            }
            let heard = self.hear(PATIENCE);
            // Something else may be said for ever.
            assert!(!heard.is_empty() && Instant::now() < deadline, "no {said:?} in {:?}", self.heard);
            self.heard.extend(heard);
        }
    }

    /// Every line that is still to be heard from senders that have ended.
    pub fn rest(&mut self) -> Vec<String> {
        loop {
            let heard = self.hear(Duration::from_millis(1));
            if heard.is_empty() {
                return std::mem::take(&mut self.heard);
            }
            self.heard.extend(heard);
        }
    }

    /// The lines of one datagram; empty if no datagram arrives in time.
    fn hear(&self, patience: Duration) -> Vec<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }
}
