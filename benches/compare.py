#!/usr/bin/env python3
"""Compares the cost of a scrape with other servers, side by side on this machine.

    make bench                   measure everything and write benches/RESULTS.md
    benches/compare.py 1 50      measure only scrapes of this exporter and nginx, for 1 and 50 accounts, and print them
    benches/compare.py polls     measure only polls and startup, and print them

Every server serves the same two metric families, with a thousand currencies for each account, from one process
pinned to one core. wrk (`wrk -t1 -c4`, gzip and plain) runs on the other core. If an answer takes longer than a
quarter of a second, one client sends one request after the other instead. The other servers:

  nginx          the exporter's own answer as a static file, with gzip_static
  client_golang  promhttp, from Debian's golang-github-prometheus-client-golang-dev
  naive Rust     the crates `prometheus` and hyper, combined as in their examples (benches/peers/naive)
  Python         prometheus_client, from Debian's python3-prometheus-client

The exporter is the real daemon at work: it polls every account every 30 s, over plain HTTP, from an nginx that
acts as the exchange (49 of 50 answers are new). The cost of a poll is measured over TLS, beside peers/fetch, which
fetches the same answer and discards it. CPU time is the kernel's count for all of the daemon's threads, idle time
included. The program is the static one of `make static`. All traffic stays on loopback. The script needs root or
sudo only to install missing packages.
"""

import datetime
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
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
SLOW = 0.25
VARIANTS = 50
SERVER_CORE, CLIENT_CORE = "0", "1"
# Whether the made-up exchange answers at all is asked without a look at its certificate.
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname, UNCHECKED.verify_mode = False, ssl.CERT_NONE


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(process):
    """Of its threads, to the nanosecond."""
    total = 0
    for thread in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except FileNotFoundError:
            pass  # It has ended.
    return total / 1e9


class Server:
    """A child pinned to one core and ended with the `with` block."""

    def __init__(self, command, port, path="/metrics", core=SERVER_CORE, patience=600, scheme="http"):
        self.url = f"{scheme}://127.0.0.1:{port}{path}"
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
                urllib.request.urlopen(self.url, timeout=60, context=UNCHECKED).read(1)
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
        return cpu_seconds(self.child.pid)

    def polls(self):
        """How many have ended, how many have failed, and the CPU seconds used at that moment."""
        text = self.get().decode()
        total = lambda name: sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{"))
        return total("xt_polls_total"), total("xt_poll_failures_total"), self.cpu_seconds()


def wrk(server, compressed, seconds):
    """Median latency in ms and answers a second; of one request after the other where one takes longer than SLOW."""
    if (once := fetch(server, compressed)) > SLOW:
        once = statistics.median([once, fetch(server, compressed), fetch(server, compressed)])
        return once * 1000, 1 / once
    script = ["-H", "Accept-Encoding: gzip"] if compressed else []
    run = subprocess.run(
        ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c4", f"-d{seconds}s", "--timeout", "60s", "--latency", *script, server.url],
        capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in run:
        sys.exit(f"not every answer was good: {run}")
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", run).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", run)[1])
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit], rate


def fetch(server, compressed):
    """Seconds that one answer takes."""
    request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip" if compressed else "identity"})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=600) as answer:
        while answer.read(1 << 20):
            pass
    return time.monotonic() - began


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
    server {{ listen 127.0.0.1:{port} {tls}; root {folder}; {server} }}
}}
"""


def nginx(folder, server, http="", core=SERVER_CORE, path="/metrics", tls=""):
    port = free_port()
    conf = folder / f"nginx-{port}.conf"
    user = "user root;" if os.getuid() == 0 else ""
    conf.write_text(NGINX.format(folder=folder, port=port, server=server, http=http, user=user, tls=tls))
    return Server(["nginx", "-p", folder, "-c", conf], port, path, core, scheme="https" if tls else "http")


def exchange(folder, variants=VARIANTS, tls=False):
    for variant in range(variants):
        (folder / f"balances-{variant}.json").write_text(answer(variant))
    if tls:
        certify(folder)
    shares = " ".join(f"{100 / variants}% {variant};" for variant in range(variants - 1)) + f" * {variants - 1};"
    return nginx(
        folder, core=CLIENT_CORE, path="/trade/api/v1/getServerTime",
        tls=f"ssl; ssl_certificate {folder}/host.crt; ssl_certificate_key {folder}/host.key" if tls else "",
        http=f'split_clients "$request_id" $variant {{ {shares} }}',
        server="""
        location = /trade/api/v1/getServerTime { default_type application/json; return 200 '{"code":200,"data":{"serverTime":1700000000000},"info":"success"}'; }
        location = /trade/api/v1/getBalance { default_type application/json; rewrite ^ /balances-$variant.json break; }""")


def certify(folder):
    """Makes a certificate for this machine, and an authority that vouches for it."""
    run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    run("req", "-x509", *key, "-keyout", "authority.key", "-out", "authority.crt", "-days", "2", "-subj", "/CN=made up")
    run("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=host")
    run("x509", "-req", "-in", "host.csr", "-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2",
        "-extfile", "names", "-out", "host.crt")


def exporter(folder, program, accounts, url, interval=30):
    (folder / "secret").write_text("made-up-secret")
    lines = ["api: v1", f"base_urls: ['{url}']", f"poll_interval: {interval}s", f"poll_timeout: {min(10, interval * 0.9):.1f}s".replace(".0s", "s"), "accounts:"]
    for number in range(accounts):
        (folder / f"{number}.key").write_text(f"made-up-key-{number}")
        lines.append(f"- {{name: account{number:03}, access_key_file: {number}.key, secret_key_file: secret}}")
    (folder / "accounts.yml").write_text("\n".join(lines))
    port = free_port()
    command = [program, "--config.file", folder / "accounts.yml", "--web.listen-address", f"127.0.0.1:{port}", "--web.max-requests", "0"]
    return Server(["env", f"SSL_CERT_FILE={folder}/authority.crt", *command] if url.startswith("https") else command, port)


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
    subprocess.run(["make", "static"], cwd=ROOT, check=True)
    for peer in ("naive", "fetch"):
        subprocess.run(["cargo", "build", "--release", "--locked", "--target-dir", target / "peers"], cwd=PEERS / peer, check=True)
    golang = target / "peers" / "golang"
    environment = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="")
    subprocess.run(["go", "build", "-o", golang, PEERS / "golang.go"], env=environment, check=True)
    peers = target / "peers" / "release"
    return target / "static" / "xt-balance-exporter", peers / "naive", golang, peers / "fetch"


def install():
    needs = {"nginx": "nginx-light", "wrk": "wrk", "go": "golang-go", "taskset": "util-linux", "openssl": "openssl"}
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
    program, naive, golang, _ = programs
    seconds, rounds = (3, 3) if accounts <= 50 else (5, 3)
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


def polls(accounts, interval, program, variants, seconds):
    """CPU milliseconds of a poll over TLS, the share of a core, CPU milliseconds of a gzipped scrape meanwhile, and MiB
    resident after all that; of accounts polled for so long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        with exchange(folder, variants, tls=True) as source:
            with exporter(folder, program, accounts, source.url.rsplit("/trade", 1)[0], interval) as ours:
                ready(ours)
                before, _, used = ours.polls()
                time.sleep(seconds)
                spent = ours.cpu_seconds() - used
                after, failed, _ = ours.polls()
                if failed:
                    sys.exit(f"{failed:.0f} polls failed")
                used, scraping = ours.cpu_seconds(), 3
                _, rate = wrk(ours, True, scraping)
                scrapes = ours.cpu_seconds() - used - spent / seconds * scraping
                return spent * 1000 / (after - before), spent / seconds, scrapes * 1000 / (rate * scraping), ours.resident_kib() / 1024


def each_poll(program, variants, count):
    """CPU milliseconds of a poll of one account over TLS, and of all that the daemon does until the next one a second
    later: the median of so many. And MiB resident after them."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        with exchange(folder, variants, tls=True) as source:
            with exporter(folder, program, 1, source.url.rsplit("/trade", 1)[0], 1) as ours:
                ready(ours)
                cost = each_second(ours.cpu_seconds, count)
                _, failed, _ = ours.polls()
                if failed:
                    sys.exit(f"{failed:.0f} polls failed")
                return cost, ours.resident_kib() / 1024


def each_fetch(program, count):
    """The same of a program that does nothing but fetch an answer."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        with exchange(folder, 1, tls=True) as source:
            url = source.url.rsplit("/trade", 1)[0] + "/trade/api/v1/getBalance"
            child = subprocess.Popen(["taskset", "-c", SERVER_CORE, program, url], env=dict(os.environ, SSL_CERT_FILE=str(folder / "authority.crt")))
            try:
                return each_second(lambda: cpu_seconds(child.pid), count)
            finally:
                child.terminate()
                child.wait()


def each_second(cpu_seconds, count):
    """CPU milliseconds of what is done once a second: the median of so many."""
    # Polls begin at most 0.17 s late: halfway between two of them, one is always over.
    time.sleep(2)
    used = cpu_seconds()
    while cpu_seconds() - used < 0.0002:
        time.sleep(0.005)
    began = time.monotonic() + 0.45
    readings = []
    for second in range(count + 1):
        time.sleep(max(0, began + second - time.monotonic()))
        readings.append(cpu_seconds())
    return statistics.median((after - before) * 1000 for before, after in zip(readings, readings[1:]))


def start(program, rounds=9):
    """Milliseconds from exec to the first good poll, over plain HTTP: the median."""
    times = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            folder = pathlib.Path(name)
            with exchange(folder) as source:
                ours = exporter(folder, program, 1, source.url.rsplit("/trade", 1)[0])
                began = time.time()
                child = subprocess.Popen(list(map(str, ours.command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                # It says so in the log, and when it was in the metrics.
                next(line for line in child.stderr if "the first poll was good" in line)
                good = re.search(r"^xt_last_success_timestamp_seconds{.*} (.*)$", ours.get().decode(), re.M)
                times.append((float(good[1]) - began) * 1000)
                child.terminate()
                child.communicate()
    return statistics.median(times)


def of_polls(program, fetch):
    """What polls and the start cost, as lines of Markdown."""
    lines = ["## Polls and start", ""]
    lines += ["One account with 1 000 currencies, polled every second over TLS. The CPU time is that of the whole process from one poll to the next, as the median of 40 polls.", ""]
    lines += ["| | CPU per poll | resident |", "|---|---|---|"]
    for variants, what in ((VARIANTS, "every amount changed"), (1, "nothing changed")):
        cost, resident = each_poll(program, variants, 40)
        lines.append(f"| {what} | {cost:.2f} ms | {resident:.3g} MiB |")
    lines.append(f"| reqwest alone fetches the same answer and discards it | {each_fetch(fetch, 40):.2f} ms | |")
    lines += ["", f"From exec to the end of the first good poll, over plain HTTP: {start(program):.0f} ms. Size of the static program: {os.path.getsize(program) / 1024 / 1024:.3g} MiB.", ""]
    lines += ["Growth with the number of accounts, polled every 30 s over TLS, with every amount changed:", ""]
    lines += ["| accounts | balances | CPU per poll | polls, share of a core | CPU per gzipped scrape | resident |", "|---|---|---|---|---|---|"]
    for accounts in (1, 50, 150, 450):
        # Of one account there is a poll or none in 30 s, as it may begin a second late.
        cost, share, scrape, resident = polls(accounts, 30, program, VARIANTS, 61 if accounts == 1 else 30)
        lines.append(f"| {accounts} | {accounts * 2 * CURRENCIES:,} | {cost:.2f} ms | {share * 100:.2g} % | {scrape:.3g} ms | {resident:.3g} MiB |")
    return [*lines, ""]


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
        lines.append(f"| {label}, rate relative to nginx | " + " | ".join(times) + " |")
    mebi = lambda size: f"{size / 1024 / 1024:.3g} MiB"
    lines += ["", f"The exposition is {mebi(sizes['plain'])}, gzipped {mebi(sizes['ours_gzip'])} (nginx' file: {mebi(sizes['file_gzip'])}). "
              f"Resident memory: this exporter {mebi(sizes['resident'] * 1024)} before the scrapes and {mebi(sizes['resident_after'] * 1024)} after them"
              + "".join(f"; {COLUMNS[name]} {mebi(sizes[name] * 1024)}" for name in columns if name in sizes) + ".", ""]
    return lines


def main():
    # On SIGTERM, end the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("received SIGTERM"))
    install()
    programs = build()
    if sys.argv[1:] == ["polls"]:
        return print("\n".join(of_polls(programs[0], programs[3])))
    chosen = [int(word) for word in sys.argv[1:]]
    lines = ["# Benchmark results", "", f"Measured on {datetime.date.today()} with `make bench`. [compare.py](compare.py) explains the method. Each cell has the median latency and the", "answers per second. All servers run on one core, and the client on another.", ""]
    for accounts in chosen or [1, 50, 450]:
        part = table(accounts, *compare(accounts, programs, others=not chosen))
        print("\n".join(part), flush=True)
        lines += part
    if not chosen:
        part = of_polls(programs[0], programs[3])
        print("\n".join(part), flush=True)
        results = HERE / "RESULTS.md"
        # The figures of page_askers.py stay: it needs an older build beside the new one.
        _, heading, kept = results.read_text().partition("## Scrapes beside")
        results.write_text("\n".join([*lines, *part, heading + kept]).rstrip() + "\n")


if __name__ == "__main__":
    main()
