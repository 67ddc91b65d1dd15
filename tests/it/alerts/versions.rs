//! The versions that deploy/README.md names: the tests run on Debian's, and the oldest ones that it promises are no newer.

use std::fs;

use super::run;

/// The name in the table, and Debian's package.
const PACKAGES: [(&str, &str); 3] = [
    ("Prometheus", "prometheus"),
    ("Alertmanager", "prometheus-alertmanager"),
    ("vmalert and vmagent", "victoria-metrics"),
];

/// Major and minor version at the start of a text.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn the_stated_versions_are_those_that_the_tests_run_on() {
    let readme = fs::read_to_string("deploy/README.md").unwrap();
    let section = readme.split_once("\n### Versions\n").unwrap().1;
    let section = section.split("\n#").next().unwrap();
    let is_debian_12 = fs::read_to_string("/etc/os-release").unwrap().contains("VERSION_ID=\"12\"");
    for (name, package) in PACKAGES {
        let row = section.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let cells: Vec<_> =
            row.unwrap_or_else(|| panic!("no row of {name}")).split('|').map(str::trim).collect();
        let installed = version(&run("dpkg-query", &["--show", "--showformat=${Version}", package]));
        assert!(
            version(cells[2]) <= installed,
            "{name}: {} is promised, but the tests run on {installed:?}",
            cells[2]
        );
        let tested = cells[4].strip_prefix("Debian 12's ").unwrap();
        assert!(version(tested) >= version(cells[2]), "{name}");
        assert!(!is_debian_12 || version(tested) == installed, "{name}: the tests run on {installed:?}");
    }
    assert!(section.contains("| Grafana | 11 |"), "{section}");
}
