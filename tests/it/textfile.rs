//! `once --output`: what is replaced, what is written to in place, and what a collector of files makes of several.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

use crate::common::golden::{Transcript, assert_golden, error_output};
use crate::common::{ACCESS_KEY, Exchange, Exporter, Output, PROGRAM, SECRET_KEY};

/// Runs `once` for the account `name`, under the umask of a careful user.
fn once(exchange: &Exchange, name: &str, path: &Path) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077 && exec \"$0\" \"$@\"", PROGRAM]);
    let (url, output) = (exchange.url(), path.to_str().unwrap());
    let args = ["once", "--xt.base-url", &url, "--xt.account", name, "--output", output];
    let env = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    Exporter::start_by(command, &args, &env).wait()
}

fn is_written(text: &str) -> bool {
    text.contains("xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"} 3867.43650012\n")
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", output.stderr);
}

#[test]
fn a_regular_file_is_replaced_and_keeps_its_mode_and_owner() {
    let (exchange, folder) = (Exchange::documented(), tempfile::tempdir().unwrap());
    let file = folder.path().join("xt.prom");
    succeeds(&once(&exchange, "main", &file));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&file), 0o644, "whatever the umask");
    assert!(is_written(&fs::read_to_string(&file).unwrap()));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&file, Some(61_234), Some(61_235)).unwrap();
    let before = fs::metadata(&file).unwrap();
    succeeds(&once(&exchange, "main", &file));
    let after = fs::metadata(&file).unwrap();
    assert_eq!((mode(&file), after.uid(), after.gid()), (0o640, 61_234, 61_235));
    assert_ne!(before.ino(), after.ino(), "whole or not at all");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let (exchange, folder) = (Exchange::documented(), tempfile::tempdir().unwrap());
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (link, target, is_there) in [("there", "old.prom", true), ("dangling", "new.prom", false)] {
        let (link, target) = (folder.path().join(link), elsewhere.join(target));
        if is_there {
            fs::write(&target, "old").unwrap();
        }
        symlink(Path::new("elsewhere").join(target.file_name().unwrap()), &link).unwrap();
        succeeds(&once(&exchange, "main", &link));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(is_written(&fs::read_to_string(&target).unwrap()));
    }
    symlink("circle", folder.path().join("circle")).unwrap();
    assert!(!once(&exchange, "main", &folder.path().join("circle")).status.success());
}

#[test]
fn devices_and_fifos_are_written_to_and_never_replaced() {
    let (exchange, folder) = (Exchange::documented(), tempfile::tempdir().unwrap());
    // A device of its own: a fault would cost the machine its /dev/null.
    let null = folder.path().join("null");
    assert!(Command::new("mknod").arg(&null).args(["c", "1", "3"]).status().unwrap().success());
    succeeds(&once(&exchange, "main", &null));
    assert!(fs::metadata(&null).unwrap().file_type().is_char_device());

    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let refused = once(&exchange, "main", &fifo);
    assert_eq!(refused.status.code(), Some(1));
    assert_golden("once_output_fifo", &error_output(&refused));
    let flag = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut reader = OpenOptions::new().read(true).custom_flags(flag).open(&fifo).unwrap();
    succeeds(&once(&exchange, "main", &fifo));
    let mut text = Vec::new();
    match reader.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    assert!(is_written(&String::from_utf8(text).unwrap()));
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());

    let stdout = once(&exchange, "main", Path::new("/dev/stdout"));
    succeeds(&stdout);
    assert!(is_written(&stdout.stdout));
}

#[test]
fn folders_and_sockets_are_refused() {
    let (exchange, folder) = (Exchange::documented(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut transcript = Transcript::default();
    for path in [folder.path(), &socket] {
        let refused = once(&exchange, "main", path);
        assert_eq!(refused.status.code(), Some(1));
        transcript.add("", &error_output(&refused));
    }
    transcript.assert("once_output_special_file");
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}

/// `node_exporter` takes no file at all if two of them have a series in common.
#[test]
fn files_of_two_configurations_have_no_series_in_common() {
    let (exchange, folder) = (Exchange::documented(), tempfile::tempdir().unwrap());
    let mut series = BTreeSet::new();
    for name in ["main", "other"] {
        let file = folder.path().join(format!("{name}.prom"));
        succeeds(&once(&exchange, name, &file));
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(sample.to_owned()), "{sample} is in both");
        }
    }
}
