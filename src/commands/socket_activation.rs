//! Sockets that systemd opened and passes to this process (`LISTEN_FDS`). They stay open in systemd, so clients wait during
//! a restart and are not refused. Accepts nothing.

use std::io;

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::TcpListener;

/// The fix for sockets that cannot be used.
const ADVICE: &str = "give the .socket unit one ListenStream= for each TCP address, and leave Accept= off";

/// Takes over all sockets that systemd passes. Call it once, inside the runtime.
///
/// # Errors
/// A sentence with the fix, if there is no socket, or if one is not a TCP socket that listens.
pub(super) fn take_listeners() -> Result<Vec<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let taken = take_listener(&mut passed, index);
        let listener = taken.map_err(|why| {
            let number = index + 1;
            format!("cannot listen on socket {number} of --web.systemd-socket: {why}: {ADVICE}")
        })?;
        listeners.extend(listener);
    }
    if listeners.is_empty() {
        let why = "--web.systemd-socket is set, but systemd passed no socket: start the .socket unit before the service, \
                   or remove the flag";
        return Err(why.to_owned());
    }
    Ok(listeners)
}

fn take_listener(passed: &mut ListenFd, index: usize) -> io::Result<Option<TcpListener>> {
    // Otherwise the socket is of another kind; the library's error names a descriptor, which means nothing to users.
    let not_tcp = |_| io::Error::new(io::ErrorKind::InvalidInput, "it is not a TCP socket");
    let Some(listener) = passed.take_tcp_listener(index).map_err(not_tcp)? else { return Ok(None) };
    if !SockRef::from(&listener).is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a connection and does not listen"));
    }
    // tokio requires this, and the socket's creator decides about it.
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Some)
}
