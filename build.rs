//! Tells the program which commit and compiler it was built from, for `--version` and build info.
//!
//! Branch and revision come from git. A source archive has no `.git`: then both are unknown, and so is the branch of a
//! commit that was checked out by its tag.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Another repository that contains this folder would name its own commit.
    let is_repository = Path::new(".git").exists();
    let git = |args: &[&str]| if is_repository { output("git", args) } else { None };
    let branch = git(&["symbolic-ref", "--short", "--quiet", "HEAD"]);
    let revision = git(&["rev-parse", "--short=12", "HEAD"]);
    // In a worktree, these files are not below `.git`. A branch has a file of its own until git packs it.
    let reference = branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
    for name in ["HEAD", "packed-refs"].into_iter().chain(reference.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = output(&rustc, &["--version"]).unwrap_or_default();
    let version = version.split(' ').nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=XT_BRANCH={}", branch.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=XT_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=XT_RUSTVERSION={version}");
}

/// What a program that succeeds prints; `None` if that is nothing.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
