//! The program as releases and the container image have it. `make static` takes minutes, so all tests share one.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = Command::new("make").arg("static").env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(built.status.success(), "make static: {}", String::from_utf8_lossy(&built.stderr));
    target.join("static/xt-balance-exporter")
});

/// Path of the static program, which the first caller builds.
pub fn static_program() -> &'static Path {
    &PROGRAM
}
