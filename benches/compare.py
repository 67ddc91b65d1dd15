#!/usr/bin/env python3
"""What a scrape costs here and elsewhere, measured side by side on this machine.

    make bench                   everything, and writes benches/RESULTS.md
    benches/compare.py 1 50      this exporter and nginx alone, for 1 and 50 accounts, printed only

Every server answers with the same two families, a thousand currencies an account, from one process
held to one core; wrk asks from the other (`wrk -t1 -c4`, gzip and plain). What is compared with:

  nginx          the exporter's own answer as a file, with gzip_static: what a static file costs
  client_golang  promhttp, from Debian's golang-github-prometheus-client-golang-dev
  naive Rust     the crates `prometheus` and hyper, put together as their examples do (benches/peers/naive)
  Python         prometheus_client, from Debian's python3-prometheus-client

The exporter is measured whole and at work: the real daemon, polling every account every 30 s, over
plain HTTP, from an nginx that plays the exchange (seven answers of eight are new ones). Nothing but
loopback is ever listened on or asked. Needs root or sudo only to install what is missing.
"""

import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
CURRENCIES = 1000
VARIANTS = 8
SERVER_CORE, CLIENT_CORE = "0", "1"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child held to one core, ended with the `with` block."""

    def __init__(self, command, port, path="/metrics", core=SERVER_CORE, patience=600):
        self.url = f"http://127.0.0.1:{port}{path}"
        self.command, self.core, self.patience = command, core, patience

    def __enter__(self):
        self.child = subprocess.Popen(
            ["taskset", "-c", self.core, *map(str, self.command)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + self.patience
        while True:
            if self.child.poll() is not None:
                sys.exit(f"it ended at once: {self.command}")
            try:
                urllib.request.urlopen(self.url, timeout=60).read(1)
                return self
            except OSError:
                if time.monotonic() > until:
                    sys.exit(f"it never answered: {self.command}")
                time.sleep(0.05)

    def __exit__(self, *_):
        os.killpg(self.child.pid, signal.SIGTERM)
        self.child.wait()

    def get(self, path=None):
        url = self.url if path is None else re.sub(r"(//[^/]*)/.*", rf"\1{path}", self.url)
        with urllib.request.urlopen(url, timeout=600) as answer:
            return answer.read()

    def resident_kib(self):
        """Of the process and its children."""
        total = 0
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
                group = os.getpgid(int(status.parent.name))
            except OSError:
                continue
            if group == self.child.pid and (line := re.search(r"VmRSS:\s*(\d+)", text)):
                total += int(line[1])
        return total

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(server, compressed, seconds):
    """Median latency in ms and answers a second."""
    script = ["-H", "Accept-Encoding: gzip"] if compressed else []
    run = subprocess.run(
        ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c4", f"-d{seconds}s", "--timeout", "60s", "--latency", *script, server.url],
        capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in run:
        sys.exit(f"not every answer was good: {run}")
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", run).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run)[1])
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit], rate


def currencies():
    return [f"c{number:03x}" for number in range(CURRENCIES)]


def answer(variant):
    """Amounts of all sizes with up to eight decimals, one in five of them 0; each variant changes all others."""
    draw = random.Random(variant)

    def amount():
        return "0" if draw.random() < 0.2 else f"{draw.randrange(10 ** draw.randint(4, 14)) / 1e8:.8f}"

    rows = {name: {"available": amount(), "freeze": amount()} for name in currencies()}
    return json.dumps({"code": 200, "data": rows, "info": "success"}, separators=(",", ":"))


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on; open_file_cache max=100;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {http}
    server {{ listen 127.0.0.1:{port}; root {folder}; {server} }}
}}
"""


def nginx(folder, server, http="", core=SERVER_CORE, path="/metrics"):
    port = free_port()
    conf = folder / f"nginx-{port}.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX.format(folder=folder, port=port, server=server, http=http, user=user))
    return Server(["nginx", "-p", folder, "-c", conf], port, path, core)


def exchange(folder, variants=VARIANTS):
    for variant in range(variants):
        (folder / f"balances-{variant}.json").write_text(answer(variant))
    shares = " ".join(f"{100 / variants}% {variant};" for variant in range(variants - 1)) + f" * {variants - 1};"
    return nginx(
        folder, core=CLIENT_CORE, path="/trade/api/v1/getServerTime",
        http=f'split_clients "$request_id" $variant {{ {shares} }}',
        server="""
        location = /trade/api/v1/getServerTime { default_type application/json; return 200 '{"code":200,"data":{"serverTime":1700000000000},"info":"success"}'; }
        location = /trade/api/v1/getBalance { default_type application/json; rewrite ^ /balances-$variant.json break; }""")


def exporter(folder, program, accounts, url, interval=30):
    (folder / "secret").write_text("made-up-secret")
    lines = [f"base_urls: ['{url}']", f"poll_interval: {interval}s", f"poll_timeout: {min(10, interval * 0.9):.1f}s".replace(".0s", "s"), "accounts:"]
    for number in range(accounts):
        (folder / f"{number}.key").write_text(f"made-up-key-{number}")
        lines.append(f"- {{name: account{number:03}, access_key_file: {number}.key, secret_key_file: secret}}")
    (folder / "accounts.yml").write_text("\n".join(lines))
    port = free_port()
    return Server([program, "--config.file", folder / "accounts.yml", "--web.listen-address", f"127.0.0.1:{port}", "--web.max-requests", "0"], port)


def ready(server, patience=120):
    until = time.monotonic() + patience
    while True:
        try:
            return server.get("/-/ready")
        except OSError:
            if time.monotonic() > until:
                sys.exit("the exporter did not read every account")
            time.sleep(0.2)


def families(text):
    """The two families that every server answers with."""
    return "".join(line + "\n" for line in text.splitlines() if re.match(r"(# (HELP|TYPE) )?xt_balance_(free|frozen)[ {]", line))


def build():
    target = pathlib.Path(json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, check=True).stdout)["target_directory"])
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "--locked", "--target-dir", target / "peers"], cwd=PEERS / "naive", check=True)
    golang = target / "peers" / "golang"
    environment = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="")
    subprocess.run(["go", "build", "-o", golang, PEERS / "golang.go"], env=environment, check=True)
    return target / "release" / "xt-balance-exporter", target / "peers" / "release" / "naive", golang


def install():
    needs = {"nginx": "nginx-light", "wrk": "wrk", "go": "golang-go", "taskset": "util-linux"}
    missing = [package for program, package in needs.items() if not shutil.which(program)]
    if not pathlib.Path("/usr/share/gocode/src/github.com/prometheus/client_golang").exists():
        missing.append("golang-github-prometheus-client-golang-dev")
    if subprocess.run(["/usr/bin/python3", "-c", "import prometheus_client"], capture_output=True).returncode:
        missing.append("python3-prometheus-client")
    if missing:
        sudo = [] if os.getuid() == 0 else ["sudo"]
        subprocess.run([*sudo, "apt-get", "update", "-q"], check=True)
        subprocess.run([*sudo, "apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True)


def measure(servers, seconds, rounds):
    """Rounds of all servers in turn, so that a busy moment hits all alike. The medians of latency and rate."""
    kept = {name: {True: [], False: []} for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            for compressed in (True, False):
                if compressed or name != "python":
                    kept[name][compressed].append(wrk(server, compressed, seconds))
    middle = lambda runs: tuple(statistics.median(column) for column in zip(*runs)) if runs else None
    return {name: {compressed: middle(runs) for compressed, runs in both.items()} for name, both in kept.items()}


def compare(accounts, programs, others):
    program, naive, golang = programs
    seconds, rounds = (2, 2) if accounts <= 50 else (8, 3)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        with exchange(folder) as source, exporter(folder, program, accounts, source.url.rsplit("/trade", 1)[0]) as ours:
            ready(ours)
            text = ours.get()
            before = ours.resident_kib()
            (folder / "metrics").write_bytes(text)
            (folder / "metrics.gz").write_bytes(gzip.compress(text, 9))
            two = folder / "families"
            two.write_text(families(text.decode()))
            static = nginx(folder, "location = /metrics { default_type text/plain; gzip_static on; }")
            with static:
                results = measure({"ours": ours, "nginx": static}, seconds, rounds)
            sizes = {"plain": len(text), "ours_gzip": len(compressed(ours)), "file_gzip": (folder / "metrics.gz").stat().st_size,
                     "resident": before, "resident_after": ours.resident_kib(), "series": two.read_text().count("\n") - 4}
        if others:
            for peer, command in {"client_golang": [golang], "naive": [naive], "python": ["/usr/bin/python3", PEERS / "python.py"]}.items():
                port = free_port()
                with Server([*command, two, port], port) as server:
                    results |= measure({peer: server}, seconds, 1)
                    sizes[peer] = server.resident_kib()
    return sizes, results


def compressed(server):
    request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"})
    return urllib.request.urlopen(request, timeout=600).read()


def shown(result):
    if result is None:
        return "–"
    latency, rate = result
    return f"{latency:.3g} ms, {rate:,.0f}/s" if rate >= 10 else f"{latency:,.0f} ms, {rate:.2g}/s"


COLUMNS = {"ours": "this exporter", "nginx": "nginx, static file", "client_golang": "client_golang", "naive": "naive Rust", "python": "Python"}


def table(accounts, sizes, results):
    """One size, as lines of Markdown."""
    columns = [name for name in COLUMNS if name in results]
    lines = [f"## {sizes['series']:,} balances: {accounts} account{'s' if accounts > 1 else ''}", ""]
    lines.append("| | " + " | ".join(COLUMNS[name] for name in columns) + " |")
    lines.append("|---" * (len(columns) + 1) + "|")
    for compressed, label in ((True, "gzip"), (False, "plain")):
        lines.append(f"| {label} | " + " | ".join(shown(results[name][compressed]) for name in columns) + " |")
        rate = lambda name: results[name][compressed][1]
        times = [f"{rate(name) / rate('nginx'):.3g}" if results[name][compressed] else "–" for name in columns]
        lines.append(f"| {label}, of nginx's rate | " + " | ".join(times) + " |")
    mebi = lambda size: f"{size / 1024 / 1024:.3g} MiB"
    lines += ["", f"The exposition is {mebi(sizes['plain'])}, gzipped {mebi(sizes['ours_gzip'])} (the file: {mebi(sizes['file_gzip'])}). "
              f"Resident: {mebi(sizes['resident'] * 1024)} before the scrapes, {mebi(sizes['resident_after'] * 1024)} after them"
              + "".join(f"; {COLUMNS[name]} {mebi(sizes[name] * 1024)}" for name in columns if name in sizes) + ".", ""]
    return lines


def main():
    install()
    programs = build()
    chosen = [int(word) for word in sys.argv[1:]]
    lines = ["# What a scrape costs", "", "Median latency and answers a second; how it is measured stands in [compare.py](compare.py).", ""]
    for accounts in chosen or [1, 50, 450]:
        part = table(accounts, *compare(accounts, programs, others=not chosen))
        print("\n".join(part), flush=True)
        lines += part
    if not chosen:
        (HERE / "RESULTS.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
