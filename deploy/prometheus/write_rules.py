"""Writes the alerting rules with your names: addresses of runbooks and dashboards, job, severities, teams, vmalert.

    python3 deploy/prometheus/write_rules.py --runbooks https://wiki.example.com/xt --team-label team --output rules

Changes copies of the files beside it. Without options, the copies are equal to these files. Needs Python 3.9 only.
"""

import argparse
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
RULES = ["xt-balance.rules.yml", "xt-withdrawals.rules.yml"]
ALERTMANAGER = HERE.parent / "alertmanager/alertmanager.yml"
JOB = "xt-balance-exporter"
SEVERITIES = ["critical", "warning", "info"]
# Labels of Prometheus, of the exporter's metrics and of the rules. The exporter rejects them as labels of an account.
RESERVED_LABELS = set("""
    alertname instance job le quantile severity
    account currency egress host margin_mode quote reason revision rustversion scope shard shards side symbol version wallet
""".split())
RESERVED_PREFIXES = ("__", "exported_")
# Words that YAML 1.1 reads as a boolean or as nothing.
YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

# The recording rules that give each account its team. {label} is the label with the team.
TEAM_RULES = '''\
      # The teams that exporters show for an account. An account that none shows any more keeps its last one for a day.
      - record: account_{label}:xt_account_info:max
        expr: |
          max by (account, {label}) (
            label_replace(
              xt_account_info,
            "account", "$1", "exported_account", "(.+)")
          )
          or on (account)
          max by (account, {label}) (
            label_replace(
              last_over_time(xt_account_info[1d]),
            "account", "$1", "exported_account", "(.+)")
          )

      # The team of an account. No value if two exporters show different ones: then alerts have no team, but they fire.
      - record: account:xt_account_info:{label}
        expr: |
          account_{label}:xt_account_info:max
          and on (account)
          count by (account) (account_{label}:xt_account_info:max) == 1

'''
# An alert fires without a team if its account has none.
TEAM_JOIN = '''\
          (
{expression}          )
          * on (account) group_left ({label}) account:xt_account_info:{label}
          or
          (
{expression}          )
          unless on (account) account:xt_account_info:{label}
'''


def replace(text, old, new):
    """Replaces `old`, which must be there."""
    if old not in text:
        raise SystemExit(f"{old!r} is not in the rules any more: write_rules.py does not fit them")
    return text.replace(old, new)


def with_address(text, key, address):
    """Replaces the address that the line `# KEY: ADDRESS` at the top names, here and in the annotation KEY_url."""
    shipped = re.search(rf"^# {key}s: ?(\S*)$", text, re.MULTILINE)
    if not shipped:
        raise SystemExit(f"there is no line '# {key}s:' any more: write_rules.py does not fit the rules")
    text = text.replace(shipped[0], f"# {key}s: {address}")
    # A path begins with a slash, also where the shipped address is empty.
    return replace(text, f"{key}_url: {shipped[1]}/", f"{key}_url: {address}/")


def with_job(text, job):
    return re.sub(rf'(job!?="){JOB}"', rf'\g<1>{job}"', text).replace(f"is called {JOB}", f"is called {job}")


def as_yaml(text):
    """Quotes a text that YAML would read as something else, such as a number."""
    is_plain = text[0].isalpha() and text.lower() not in YAML_WORDS
    return text if is_plain else f'"{text}"'


def with_severities(text, severities):
    """`severities` has the new name of each shipped severity."""
    name = lambda match: f"{match[1]}{severities[match[2]]}{match[3]}"
    yaml_name = lambda match: f"{match[1]}{as_yaml(severities[match[2]])}"
    text = re.sub(r"^( +severity: )(\w+)$", yaml_name, text, flags=re.MULTILINE)
    for shipped, yours in severities.items():
        text = re.sub(rf"(# - severity: .*)\b{shipped}\b", rf"\g<1>{yours}", text)
    return re.sub(r'(severity=")(\w+)(")', name, text)


def with_teams(text, label):
    """Joins the team of the account to every alert about an account."""
    if "- record: " in text:
        first = re.search(r"(?:      #.*\n)+      - alert: ", text)
        text = text[: first.start()] + TEAM_RULES.format(label=label) + text[first.start() :]

    def joined(match):
        head, expression, rest = match[1], match[2] or f"          {match[3]}\n", match[4]
        if "$labels.account" not in rest:
            return match[0]
        inner = "".join(f"  {line}\n" for line in expression.rstrip("\n").split("\n"))
        return f"{head}        expr: |\n{TEAM_JOIN.format(expression=inner, label=label)}{rest}"

    alert = r"(      - alert: \w+\n)        expr: (?:\|\n((?:          .*\n)+)|(.*)\n)((?:        .*\n)*)"
    return re.sub(alert, joined, text)


def for_vmalert(text):
    """vmalert of VictoriaMetrics 1.79 does not know keep_firing_for. The comment above it goes too."""
    return re.sub(r"(?:        #.*\n)*        keep_firing_for: .*\n", "", text)


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--runbooks", metavar="URL", help="address of the runbooks, without a slash at its end")
    parser.add_argument("--dashboards", metavar="URL", help="address of Grafana, without a slash at its end")
    parser.add_argument("--job", help=f"name of the scrape job, instead of {JOB}")
    parser.add_argument("--severity", action="append", default=[], metavar="SHIPPED=YOURS",
                        help=f"another name for {', '.join(SEVERITIES)}; also writes alertmanager.yml with it; repeatable")
    parser.add_argument("--team-label", metavar="LABEL", help="label of the accounts that alerts get, such as team")
    parser.add_argument("--flavour", choices=["prometheus", "vmalert"], default="prometheus", help="the program that loads the rules")
    parser.add_argument("--output", default="rules", metavar="FOLDER", help="where the files are written; default: rules")
    given = parser.parse_args()
    for name in ("runbooks", "dashboards"):
        url = getattr(given, name)
        if url is not None and not re.fullmatch(r"https?://[^\s'\"#{}]*[^\s'\"#{}/]", url):
            parser.error(f"--{name} is not an http or https URL without a slash at its end")
    if given.job is not None and not re.fullmatch(r"[\w./:-]+", given.job):
        parser.error("--job is not a name of letters, digits and _ . / : -")
    if given.team_label is not None and not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", given.team_label):
        parser.error("--team-label is not the name of a label: write letters, digits and _, such as team")
    if given.team_label in RESERVED_LABELS or (given.team_label or "").startswith(RESERVED_PREFIXES):
        parser.error(f"--team-label {given.team_label} is a label of Prometheus, the exporter or the rules: "
                     "write the label of your accounts, such as team")
    severities = dict(zip(SEVERITIES, SEVERITIES))
    for pair in given.severity:
        shipped, _, yours = pair.partition("=")
        if shipped not in severities or not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]*", yours):
            parser.error(f"--severity {pair}: write for example critical=page, with one of {', '.join(SEVERITIES)}")
        severities[shipped] = yours
    if len(set(severities.values())) < len(severities):
        parser.error("--severity gives two severities the same name, but the routes must tell them apart")
    given.severities = severities
    return given


def main():
    given = options()
    folder = pathlib.Path(given.output)
    if folder.resolve() == HERE:
        raise SystemExit("--output is the folder of the shipped files: choose another one")
    files = {name: (HERE / name).read_text() for name in RULES}
    for name, text in files.items():
        if given.runbooks:
            text = with_address(text, "runbook", given.runbooks)
        if given.dashboards:
            text = with_address(text, "dashboard", given.dashboards)
        if given.job:
            text = with_job(text, given.job)
        text = with_severities(text, given.severities)
        if given.team_label:
            text = with_teams(text, given.team_label)
        if given.flavour == "vmalert":
            text = for_vmalert(text)
        files[name] = text
    if given.severity:
        files["alertmanager.yml"] = with_severities(ALERTMANAGER.read_text(), given.severities)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        print(folder / name)


if __name__ == "__main__":
    sys.exit(main())
