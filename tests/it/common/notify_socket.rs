//! The socket of a service manager: a real datagram socket, as `NOTIFY_SOCKET` names it.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::WAIT_TIMEOUT;

pub struct NotifySocket {
    socket: UnixDatagram,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
    /// Lines that were received and not yet returned.
    received: Vec<String>,
}

impl NotifySocket {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path, _folder: folder, received: Vec::new() }
    }

    /// Waits for the line `expected`, and returns every line up to it.
    pub fn wait_for(&mut self, expected: &str) -> Vec<String> {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some(at) = self.received.iter().position(|line| line == expected) {
                return self.received.drain(..=at).collect();
            }
            let received = self.receive(WAIT_TIMEOUT);
            // Other lines may arrive forever.
            assert!(
                !received.is_empty() && Instant::now() < deadline,
                "no {expected:?} in {:?}",
                self.received
            );
            self.received.extend(received);
        }
    }

    /// All remaining lines of senders that have ended.
    pub fn take_rest(&mut self) -> Vec<String> {
        loop {
            let received = self.receive(Duration::from_millis(1));
            if received.is_empty() {
                return std::mem::take(&mut self.received);
            }
            self.received.extend(received);
        }
    }

    /// The lines of one datagram; empty if no datagram arrives in time.
    fn receive(&self, timeout: Duration) -> Vec<String> {
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }
}
