//! Tests that no key of an account is accepted in a text that metrics, pages and logs show.

use std::fs;

use super::tests::{TestResult, folder, load};

#[test]
fn a_key_in_a_text_that_is_shown_is_rejected_and_not_repeated() {
    let env = [("XT_ACCESS_KEY", "1f2e3d4c-access"), ("XT_SECRET_KEY", "5b6a7980SECRET")];
    for (line, setting) in [
        ("--xt.account 1f2e3d4c-access", "the account's name"),
        ("--xt.account bot-5b6a7980secret", "the account's name"),
        ("--balance.watch 5b6a7980SECRET=5", "--balance.watch"),
        ("--xt.base-url https://5b6a7980secret.example", "--xt.base-url"),
    ] {
        let error = load(line, &env).err().unwrap_or_else(|| panic!("accepted: {line}"));
        assert!(
            error.starts_with(&format!("{setting} contains the access key or the secret key")),
            "{error}"
        );
        assert!(!error.to_lowercase().contains("1f2e3d4c") && !error.contains("5b6a7980"), "{error}");
    }
    assert!(load("--xt.account bot --balance.watch usdt=5", &env).is_ok());
}

#[test]
fn the_key_of_another_account_is_rejected_too_and_not_repeated() -> TestResult {
    let folder = folder()?;
    let path = folder.path().join("accounts.yml");
    fs::write(folder.path().join("s2"), "SeCrEt-of-the-second")?;
    let load_with = |name: &str, settings: &str| {
        let text = format!(
            "accounts:\n- {{name: {name}, access_key_file: k, secret_key_file: s{settings}}}\n- {{name: other, access_key_file: k2, secret_key_file: s2}}\n"
        );
        fs::write(&path, text).map_err(|error| error.to_string())?;
        load(&format!("--config.file {}", path.display()), &[])
    };
    for (name, settings) in [
        ("secret-of-the-second", ""),
        ("main", ", labels: {team: SeCrEt-of-the-second}"),
        ("main", ", currencies: {exclude: [secret-of-the-second]}"),
    ] {
        let error = load_with(name, settings).err().unwrap_or_else(|| panic!("accepted: {name}{settings}"));
        assert!(error.contains("secret key of accounts[1]"), "{error}");
        assert!(!error.to_lowercase().contains("of-the-second"), "{error}");
    }
    assert!(load_with("main", ", labels: {team: desk}").is_ok());
    Ok(())
}
