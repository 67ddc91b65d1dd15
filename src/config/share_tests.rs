//! Tests of the share of the rate limits: where it may be set, and how many calls it leaves.

use std::fs;

use super::tests::{KEYS, TestResult, folder, from_yaml, load};

const ONE: &str = "accounts: [{name: main, access_key_file: k, secret_key_file: s}]";

#[test]
fn the_share_comes_from_the_file_or_the_flag_and_not_from_both() -> TestResult {
    let share = |text: &str| from_yaml(text).map(|config| config.share.to_string());
    assert_eq!(share(ONE), Ok("1".to_owned()));
    assert_eq!(share(&format!("limits: {{share: 1/3}}\n{ONE}")), Ok("1/3".to_owned()));
    assert_eq!(share(&format!("limits: {{share: 1}}\n{ONE}")), Ok("1".to_owned()));
    assert_eq!(load("--limits.share=1/4", KEYS)?.share.to_string(), "1/4");

    let folder = folder()?;
    let path = folder.path().join("accounts.yml");
    let command = format!("--config.file {} --limits.share=1/2", path.display());
    fs::write(&path, ONE)?;
    assert_eq!(load(&command, &[])?.share.to_string(), "1/2");
    fs::write(&path, format!("limits: {{share: 1/2}}\n{ONE}"))?;
    let error = load(&command, &[]).err().unwrap_or_default();
    assert!(error.contains("limits.share and --limits.share both set the share: remove one"), "{error}");
    Ok(())
}

#[test]
fn a_wrong_share_is_an_error_with_one_that_is_right() {
    for text in ["0.5", "50%", "2", "0", "1/0", "3/2", "half", "[1/2]", "{}", "''"] {
        let error = from_yaml(&format!("limits: {{share: {text}}}\n{ONE}")).err().unwrap_or_default();
        assert!(error.contains("limits") && error.contains("share: 1/2"), "{text}: {error}");
    }
    for (line, right) in [("--limits.share=0.5", "1/2"), ("--limits.share=1/21", "1/20")] {
        let error = load(line, KEYS).err().unwrap_or_default();
        assert!(error.contains("--limits.share") && error.contains(right), "{line}: {error}");
    }
    for text in ["limits: 1/2", "limits: ~", "limits: {}", "limits: {shares: 1/2}"] {
        let error = from_yaml(&format!("{text}\n{ONE}")).err().unwrap_or_default();
        assert!(error.contains("limits: {share: 1/2}") || error.contains("share: 1/2"), "{text}: {error}");
    }
}

#[test]
fn the_load_must_fit_the_share() -> TestResult {
    let folder = folder()?;
    let load_accounts = |head: &str, count: usize| {
        for number in 0..count {
            fs::write(folder.path().join(format!("k{number}")), format!("key-{number}")).ok();
        }
        let row = |number: usize| {
            format!("- {{name: a{number}, access_key_file: k{number}, secret_key_file: s}}\n")
        };
        let path = folder.path().join("accounts.yml");
        let rows: String = (0..count).map(row).collect();
        fs::write(&path, format!("{head}accounts:\n{rows}")).map_err(|error| error.to_string())?;
        load(&format!("--config.file {}", path.display()), &[])
    };
    let half = "limits: {share: 1/2}\n";
    assert!(load_accounts(half, 225).is_ok());
    let error = load_accounts(half, 226).err().unwrap_or_default();
    for part in ["226 accounts make 452 calls per minute", "1/2 of the limit", "450", "raise limits.share"] {
        assert!(error.contains(part), "{part}: {error}");
    }

    // A key with 1/4 makes one call in two seconds.
    let fast = "--poll.interval=2s --poll.timeout=1s --limits.share=";
    assert!(load(&format!("{fast}1/4"), KEYS).is_ok());
    let error = load(&format!("{fast}1/5"), KEYS).err().unwrap_or_default();
    for part in ["0.5 calls per second", "1/5 of the limit (--limits.share)", "0.4", "raise --limits.share"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let second = "--poll.interval=1s --poll.timeout=500ms --limits.share=";
    assert!(load(&format!("{second}1/2"), KEYS).is_ok());
    assert!(load(&format!("{second}1/3"), KEYS).is_err());
    Ok(())
}
