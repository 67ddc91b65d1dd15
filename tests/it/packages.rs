//! The packages of a release: what they hold, that they are the same each time, and what a stranger does with them.
//! README's commands run on a Debian that has nothing but systemd (`tests/install` makes it), in a machine made of
//! namespaces. Needs root.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::common::{Exporter, get, static_program::static_program, until};
use crate::systemd::{Machine, key_pairs};

const NAME: &str = "xt-balance-exporter";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Any time will do, if it is the same each time.
const EPOCH: &str = "1795860000";

/// The folder of what cargo and tests/install made.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Runs a program that must succeed, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/install"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Packs `program` into `folder` in an environment that must not matter.
fn pack(program: &Path, folder: &Path, umask: &str, zone: &str) {
    let script = format!("umask {umask} && exec packaging/dist \"$0\" \"$1\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(program).arg(folder);
    run(command.env("SOURCE_DATE_EPOCH", EPOCH).env("TZ", zone));
}

static PACKAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = target().join("packages");
    pack(static_program(), &folder, "022", "UTC");
    folder
});

fn tarball() -> PathBuf {
    PACKAGES.join(format!("{NAME}-{VERSION}.linux-amd64.tar.gz"))
}

fn deb() -> PathBuf {
    PACKAGES.join(format!("{NAME}_{VERSION}_amd64.deb"))
}

#[test]
fn the_packages_hold_the_program_and_what_belongs_to_it() {
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&*PACKAGES));
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("tar").arg("xzf").arg(tarball()).arg("--directory").arg(folder.path()));
    let root = folder.path().join(format!("{NAME}-{VERSION}.linux-amd64"));
    let program = fs::read(static_program()).unwrap();
    assert!(fs::read(root.join(NAME)).unwrap() == program, "the tarball has another program");
    for file in ["LICENSE", "NOTICE", "THIRD-PARTY-NOTICES", "CHANGELOG.md"] {
        assert_eq!(fs::read(root.join(file)).unwrap(), fs::read(file).unwrap(), "{file}");
    }
    for file in [
        "deploy/prometheus/xt-balance.rules.yml",
        "deploy/prometheus/xt-withdrawals.rules.yml",
        "deploy/alertmanager/alertmanager.yml",
        "deploy/runbooks/XtBalanceLow.md",
        "deploy/systemd/xt-balance-exporter.service",
        "deploy/systemd/xt-balance-exporter.socket",
        "grafana/xt-balances.json",
        "grafana/xt-fleet.json",
    ] {
        assert_eq!(fs::read(root.join(file)).unwrap(), fs::read(file).unwrap(), "{file}");
    }
    let man = fs::read_to_string(root.join(format!("{NAME}.1"))).unwrap();
    assert!(man.contains(".SH NAME") && man.contains("access\\-key\\-file"), "{man}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = fs::read_to_string(root.join(format!("completions/{NAME}.{shell}"))).unwrap();
        assert!(completions.contains("healthcheck"), "{shell}: {completions}");
    }

    run(Command::new("dpkg-deb").arg("--raw-extract").arg(deb()).arg(folder.path().join("deb")));
    let root = folder.path().join("deb");
    assert!(fs::read(root.join("usr/bin").join(NAME)).unwrap() == program, "the .deb has another program");
    assert_eq!(
        fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap(),
        "/etc/xt-balance-exporter/accounts.yml\n"
    );
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/xt-balance-exporter.service")).unwrap();
    assert!(
        unit.contains("\nExecStart=/usr/bin/xt-balance-exporter ") && !unit.contains("/usr/local"),
        "{unit}"
    );
}

/// Every Markdown page below `folder`.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.flat_map(|path| if path.is_dir() { pages(&path) } else { vec![path] });
    pages.filter(|path| path.extension() == Some("md".as_ref())).collect()
}

#[test]
fn every_link_of_a_packed_page_leads_to_a_packed_file_or_to_one_of_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("tar").arg("xzf").arg(tarball()).arg("--directory").arg(folder.path()));
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(deb()).arg(folder.path().join("deb")));
    let repository = format!("{}/", env!("CARGO_PKG_REPOSITORY"));
    let (mut packed, mut remote) = (0, 0);
    for page in pages(folder.path()) {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.map(|link| link.split('#').next().unwrap()).filter(|link| !link.is_empty()) {
            if let Some(path) = link.strip_prefix(&repository) {
                let Some(path) = ["blob", "raw", "tree"]
                    .iter()
                    .find_map(|kind| path.strip_prefix(&format!("{kind}/v{VERSION}/")))
                else {
                    continue;
                };
                assert!(Path::new(path).exists(), "{}: {link}", page.display());
                remote += 1;
            } else if !link.contains("://") {
                assert!(page.parent().unwrap().join(link).exists(), "{}: {link}", page.display());
                packed += 1;
            }
        }
    }
    assert!(packed > 20 && remote > 20, "{packed} links to packed files, {remote} to the repository");
}

#[test]
fn lintian_finds_nothing() {
    // Bytes of a program look like misspelled words by chance.
    let chance = "--suppress-tags=spelling-error-in-binary";
    let checks =
        ["--profile=debian", "--display-info", "--fail-on=error,warning,info", "--allow-root", chance];
    assert_eq!(run(Command::new("lintian").args(checks).arg(deb())), "");
}

#[test]
fn the_bill_of_materials_keeps_to_its_schema() {
    let script = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n\
        sys.exit(str(error) if error else 0)";
    let python = target().join("packaging/python/bin/python");
    let bill = PACKAGES.join(format!("{NAME}-{VERSION}.cdx.json"));
    run(Command::new(python).args(["-c", script]).arg(&bill));
    let bill: serde_json::Value = serde_json::from_str(&fs::read_to_string(bill).unwrap()).unwrap();
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<_> = components.iter().filter_map(|component| component["name"].as_str()).collect();
    assert!(names.contains("tokio") && names.contains("ring") && !names.contains("proptest"), "{names:?}");
    assert!(components.iter().all(|component| component["hashes"][0]["content"].is_string()));
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("other/name");
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::copy(static_program(), &program).unwrap();
    pack(&program, &folder.path().join("packages"), "077", "Pacific/Chatham");
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&folder.path().join("packages")), sums(&PACKAGES));
}

/// A second compilation takes minutes. What would make it differ is a path of this machine in the program.
#[test]
fn the_program_names_no_folder_of_this_machine() {
    let program = fs::read(static_program()).unwrap();
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME")).unwrap();
    for folder in [&home, env!("CARGO_MANIFEST_DIR"), target().to_str().unwrap()] {
        // A short one, such as /root, may be there by chance.
        let folder = format!("{folder}/");
        assert!(!program.windows(folder.len()).any(|window| window == folder.as_bytes()), "{folder}");
    }
}

/// The commands that README gives under `heading`, without the download and as root.
fn commands(heading: &str) -> Vec<String> {
    let readme = fs::read_to_string("README.md").unwrap();
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let commands = block.lines().filter(|line| !line.starts_with("curl "));
    let commands: Vec<_> = commands.map(|line| line.trim_start_matches("sudo ").to_owned()).collect();
    assert!(!commands.is_empty() && block.lines().count() <= 3, "{heading}: {block}");
    commands
}

/// A machine with nothing but Debian's essential packages, apt and systemd.
fn bare_debian() -> Machine {
    let root = target().join("packaging/debian");
    assert!(root.join("usr/lib/systemd/systemd").exists(), "no Debian: run tests/install");
    Machine::boot_in(&root)
}

#[test]
fn a_stranger_runs_the_demo_from_the_tarball() {
    let machine = bare_debian();
    machine.copy(&tarball(), "/root/");
    let commands = commands("### Tarball");
    let (demo, unpack) = commands.split_last().unwrap();
    for command in unpack {
        machine.run(&["sh", "-c", &format!("cd /root && {command}")]);
    }
    machine.run(&["systemd-run", "--unit=demo", "--working-directory=/root", "sh", "-c", demo]);
    until("the demo shows a balance", || {
        machine.get("/metrics").contains("\nxt_balance_free{account=\"market-maker\"").then_some(())
    });
}

#[test]
fn a_stranger_installs_upgrades_and_purges_the_debian_package() {
    let machine = bare_debian();
    machine.copy(&deb(), "/root/");
    let commands = commands("### Debian package");
    let (enable, install) = commands.split_last().unwrap();
    for command in install {
        machine.run(&["sh", "-c", &format!("cd /root && {command}")]);
    }
    // There are no keys yet, so it must not run and fail again and again.
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.property("UnitFileState"), "disabled");
    assert_eq!(machine.run_unchecked(&["systemd-analyze", "verify", "xt-balance-exporter.service"]), "");

    // The owner adds keys, and tells where the exchange is.
    machine.run(&["systemd-run", "--unit=exchange", "xt-balance-exporter", "simulate"]);
    let pairs = until("the exchange prints its key pairs", || {
        let text = machine.run_unchecked(&["journalctl", "--no-pager", "--output=cat", "--unit=exchange"]);
        Some(key_pairs(&text)).filter(|pairs| pairs.len() >= 2)
    });
    let (_, key, secret) = &pairs[0];
    machine.write("/etc/xt-balance-exporter/keys/main.key", key);
    machine.write("/etc/xt-balance-exporter/keys/main.secret", secret);
    let accounts = "/etc/xt-balance-exporter/accounts.yml";
    let shipped = machine.run(&["cat", accounts]);
    let edited = format!(
        "api: v1\nbase_urls: ['http://127.0.0.1:8470']\npoll_interval: 1s\npoll_timeout: 900ms\n{shipped}"
    );
    machine.write(accounts, &edited);
    machine.run(&["sh", "-c", enable]);
    let is_polled =
        || machine.get("/metrics").contains("\nxt_up{account=\"main\",wallet=\"spot\"} 1").then_some(());
    until("it has polled", is_polled);

    // A newer version runs at once, with the same configuration.
    let process = machine.property("MainPID");
    let repack = format!(
        "cd /root && dpkg-deb --raw-extract {NAME}_*.deb new && sed -i 's/^Version: .*/Version: 99/' new/DEBIAN/control && \
         dpkg-deb --root-owner-group --build new new.deb && apt-get install --yes ./new.deb"
    );
    machine.run(&["sh", "-c", &repack]);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_ne!(machine.property("MainPID"), process);
    assert_eq!(machine.run(&["cat", accounts]), edited);
    until("it has polled", is_polled);

    // Removed, it has stopped, and the configuration stays.
    machine.run(&["apt-get", "remove", "--yes", NAME]);
    assert_eq!(machine.get("/metrics").lines().next().filter(|line| line.starts_with("HTTP")), None);
    assert_eq!(machine.run(&["cat", accounts]), edited);
    // Purged, nothing is left of it.
    machine.run(&["apt-get", "purge", "--yes", NAME]);
    let left = machine.run(&[
        "find",
        "/etc",
        "/usr",
        "/var/lib/private",
        "/var/lib/systemd",
        "-name",
        "*xt-balance*",
    ]);
    assert_eq!(left, "");
}

/// Everything but the time of the optimiser is as in README.
#[test]
fn a_stranger_builds_a_fresh_clone_and_runs_the_demo() {
    let folder = target().join("newcomer");
    let _ = fs::remove_dir_all(folder.join("repository"));
    fs::create_dir_all(&folder).unwrap();
    run(Command::new("git").args(["clone", "--quiet", "--no-hardlinks", "."]).arg(folder.join("repository")));
    let commands = commands("### From source");
    let [install, demo] = &commands[..] else { panic!("{commands:?}") };
    let url = format!("file://{}", folder.join("repository").display());
    let install = install.replace(env!("CARGO_PKG_REPOSITORY"), &url);
    assert!(install.contains(&url), "{install}");
    let mut command = Command::new("sh");
    command.args(["-c", &install]).current_dir(&folder);
    command.env("CARGO_TARGET_DIR", folder.join("target")).env("CARGO_INSTALL_ROOT", &folder);
    for (name, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("STRIP", "none")] {
        command.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    run(&mut command);
    let mut command = Command::new("sh");
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    // The demo's port may be taken: it gets one of its own.
    command.args(["-c", &format!("exec {demo} --web.listen-address=127.0.0.1:0")]);
    let demo = Exporter::start_by(command, &[], &[("PATH", &path)]);
    let line = demo.stdout.wait_for("  metrics ");
    let address = line.split("http://").nth(1).and_then(|url| url.split('/').next()).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    until("the demo shows a balance", || {
        get(address, "/metrics", &[])
            .text()
            .contains("\nxt_balance_free{account=\"market-maker\"")
            .then_some(())
    });
}
