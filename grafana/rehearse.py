#!/usr/bin/env python3
"""A day of five made-up accounts, so that the dashboards have something to show: the exporter, polling the simulated
exchange, and a Prometheus that knows the 32 hours up to now and goes on scraping.

    grafana/rehearse.py PROGRAM [STEPS]     PROGRAM: the built xt-balance-exporter; STEPS: moments of the last 6 hours, 180

Prints one line of JSON, {"prometheus": URL, "recorded_until": Unix time, "exporter": process id}, and goes on until its
standard input is closed.

The past is recorded, not made up: at each step balances and faults are set at the simulated exchange, the exporter polls
it, and what its /metrics says is what Prometheus gets, only that a second of the rehearsal stands for minutes of the day.
So the times within a sample (the last good poll, the end of a pause) are moved with it. `up` and `scrape_duration_seconds`
are those of the recording's own scrapes. The recording rules are evaluated over it by promtool.

Needs prometheus and promtool. Knows nothing of the dashboards.
"""

import contextlib
import json
import math
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

RULES = pathlib.Path(__file__).resolve().parent.parent / "deploy/prometheus/xt-balance.rules.yml"
JOB = "xt-balance-exporter"
PATIENCE = 60

# The day: hours of one step each before the last six, which hold the steps that were asked for. Seconds between samples.
EARLIER_HOURS, LAST_HOURS = 26, 6
EARLIER_STEPS = 13
EARLIER_TICK, LAST_TICK = 240, 30

# What is moved in time with the samples.
MOVED = (
    "xt_last_success_timestamp_seconds",
    "xt_paused_until_timestamp_seconds",
    "xt_price_last_success_timestamp_seconds",
)

# Name, whose key, wallet, what is watched there.
ACCOUNTS = [
    ("treasury", "treasury", "spot", {"usdt": 100000}),
    ("treasury-fiat", "treasury", "fiat", {"usd": 200000}),
    ("market-maker", "market-maker", "spot", {"usdt": 500, "btc": 0.02}),
    ("arbitrage", "arbitrage", "spot", {"usdt": 5000, "trx": None}),
    ("cold-storage", "cold-storage", "spot", {"btc": 10}),
    ("grid-bot", "grid-bot", "spot", {"usdt": 300}),
]
CURRENCIES = ["usdt", "btc", "eth", "usdc", "sol", "xrp", "usd", "eur"]


# ---- The day


def wave(hour, period, shift=0.0):
    return math.sin(2 * math.pi * hour / period + shift)


def saw(hour, top, bottom, period, shift):
    """Falls from top to bottom, and is topped up, every period."""
    return top - (top - bottom) * (((hour + shift) % period) / period)


def balances(hour):
    """What the exchange holds, some hours (negative) before the end: (account, wallet, currency) → free, frozen."""
    orders = 90 + 60 * wave(hour, 0.9) + 25 * wave(hour, 0.23, 1)
    return {
        # Three hours from its next top-up, and just below its threshold.
        ("market-maker", "spot", "usdt"): (saw(hour, 1800, 180, 6.5, 5.4) - orders / 3, orders),
        ("market-maker", "spot", "btc"): (0.05 + 0.008 * wave(hour, 13), 0.01 + 0.002 * wave(hour, 1.1)),
        # Pays out every hour; above its threshold for some hours yet.
        ("treasury", "spot", "usdt"): (133000 - 9000 * hour / 2 - 400 * wave(hour, 0.7), 25000),
        ("treasury", "fiat", "usd"): (481203.5, 0),
        ("arbitrage", "spot", "usdt"): (11500 + 5800 * wave(hour, 9), 4200 + 3000 * wave(hour, 1.7)),
        ("arbitrage", "spot", "eth"): (9.5 - 2 * wave(hour, 9), 1.5 + 1.2 * wave(hour, 1.7)),
        ("cold-storage", "spot", "btc"): (41.5, 0),
        ("grid-bot", "spot", "usdt"): (610 + 120 * wave(hour, 4), 330 + 90 * wave(hour, 0.5)),
    }


def faults(step, steps):
    """What goes wrong at a step of the last hours, as the simulated exchange takes it."""
    left = steps - 1 - step
    maintenance = {"account": "grid-bot", "effect": "maintenance"}
    plan = {
        int(steps * 0.30): [maintenance],
        int(steps * 0.55): [{"account": "arbitrage", "calls": 1, "effect": "empty_data"}],
        int(steps * 0.65): [{"account": "treasury", "calls": 3, "effect": {"delay": {"ms": 350}}}],
        int(steps * 0.75): [
            {"account": "market-maker", "calls": 2, "effect": {"status": {"status": 502}}},
            {"account": "arbitrage", "calls": 1, "effect": {"row": {"currency": "eth", "value": {"available": "NaN", "freeze": None}}}},
        ],
    }
    wished = plan.get(step, [])
    if left == 8:
        wished = [*wished, maintenance]
    if left == 6:
        # From now on nothing is sent for this account.
        wished = [*wished, {"account": "grid-bot", "effect": {"status": {"status": 429}}}]
    return wished, step == int(steps * 0.45) or left == 6


# ---- The programs


def http(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def until(what, ask):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        time.sleep(0.02)
    raise SystemExit(f"waited in vain until {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command, log):
    with open(log, "w") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def line_of(log, pattern, child):
    """What a program says where it listens."""

    def found():
        if child.poll() is not None:
            raise SystemExit(pathlib.Path(log).read_text())
        return re.search(pattern, pathlib.Path(log).read_text())

    return until(f"{log} says {pattern}", found)[1]


def configuration(folder, exchange):
    """The exporter's, with the keys that the simulated exchange gives out."""
    keys = dict(re.findall(r"^  (\S+) +(de300000-\S+ +\S+)$", http(f"{exchange}/simulator/"), re.MULTILINE))
    lines = [f"base_urls: ['{exchange}']", "prices: usdt", "poll_interval: 1s", "poll_timeout: 900ms", "max_age: 5s"]
    lines += ["accounts:"]
    for name, owner, wallet, watch in ACCOUNTS:
        for half, key in zip(("access", "secret"), keys[owner].split()):
            (folder / f"{owner}.{half}").write_text(key)
        lines += [
            f"  - name: {name}",
            f"    access_key_file: {owner}.access",
            f"    secret_key_file: {owner}.secret",
            f"    wallets: [{wallet}]",
            f"    watch: {json.dumps(watch)}",
            f"    currencies: {{only: {json.dumps(CURRENCIES)}}}",
        ]
    path = folder / "exporter.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- The recording

SAMPLE = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")


def record(exchange, exporter, hour_of, steps):
    """Plays the day and returns, for each step, when it was scraped, how long that took, and what it gave."""
    recorded, polled = [], {}
    for step in range(-EARLIER_STEPS, steps):
        for (account, wallet, currency), (free, frozen) in balances(hour_of(step)).items():
            amounts = {"available": f"{max(free, 0):.8f}", "freeze": f"{max(frozen, 0):.8f}"}
            http(f"{exchange}/simulator/accounts/{account}/{wallet}/{currency}", "PUT", amounts)
        if step == 0:
            # The exchange leaves a watched currency out from now on.
            http(f"{exchange}/simulator/accounts/arbitrage/spot/trx", "DELETE")
        wished, ended = faults(step, steps)
        if ended:
            http(f"{exchange}/simulator/faults", "DELETE")
        for fault in wished:
            http(f"{exchange}/simulator/faults", "POST", fault)

        def polled_anew():
            begun = time.time()
            text = http(f"{exporter}/metrics")
            polls = dict(re.findall(r"^xt_polls_total\{(.*)\} (\d+)$", text, re.MULTILINE))
            paused = re.findall(r'^xt_paused_until_timestamp_seconds\{(account=".*?")\} [^0]', text, re.MULTILINE)
            waiting = [
                wallet for wallet, count in polls.items()
                if int(count) <= polled.get(wallet, 0) and wallet.split(",")[0] not in paused
            ]
            if waiting or not polls:
                return None
            polled.update({wallet: int(count) for wallet, count in polls.items()})
            return begun, time.time() - begun, text

        recorded.append(until("every account has been polled again", polled_anew))
    return recorded


def openmetrics(recorded, spans, instance, output):
    """Writes the recording as samples of the day: each scrape again and again over its span."""
    target = f'job="{JOB}",instance="{instance}"'

    def then(moment, scraped, at):
        """What a moment of the rehearsal is on the day, as seen in a sample at `at`."""
        before = [span for (other, _, _), span in zip(recorded, spans) if moment <= other < scraped]
        return before[0][1] if before else at + moment - scraped

    for (scraped, took, text), (begin, end, tick) in zip(recorded, spans):
        series = [(f"up{{{target}}}", 1, False), (f"scrape_duration_seconds{{{target}}}", took, False)]
        for line in text.splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                labels = f"{labels},{target}" if labels else target
                moved = name in MOVED and float(value) != 0
                series.append((f"{name}{{{labels}}}", float(value) if moved else value, moved))
        at = begin
        while at < end:
            for name, value, moved in series:
                output.write(f"{name} {then(value, scraped, at) if moved else value} {at}\n")
            at += tick
    output.write("# EOF\n")


@contextlib.contextmanager
def prometheus(folder, targets):
    """A server on what is recorded. Only if it has targets, it scrapes them and evaluates the rules."""
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)] if targets else [],
                "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": targets}]}],
            }
        )
    )
    while True:
        # Prometheus takes no port 0, so it gets one that was free a moment ago; another if that has been taken.
        url = f"http://127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={url.removeprefix('http://')}", "--storage.tsdb.allow-overlapping-blocks"]
        log = folder / "prometheus.log"
        with running(command, log) as child:

            def ready():
                if child.poll() is not None:
                    return "ended"
                with contextlib.suppress(OSError):
                    return http(f"{url}/-/ready")

            if until("Prometheus is ready", ready) != "ended":
                yield url
                return
        if "address already in use" not in log.read_text():
            raise SystemExit(log.read_text())


def promtool(*arguments):
    command = ["promtool", "tsdb", "create-blocks-from", *map(str, arguments)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise SystemExit(run.stdout)


@contextlib.contextmanager
def rehearsal(program, steps):
    """Yields Prometheus' URL, until when the recording goes, and the exporter's process id."""
    span = LAST_HOURS / steps
    # In hours before the end, the middle of each step.
    hour_of = lambda step: -(steps - step - 0.5) * span if step >= 0 else -LAST_HOURS + (step + 0.5) * EARLIER_HOURS / EARLIER_STEPS
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = folder / "simulate.log"
        child = stack.enter_context(running([program, "simulate", "--listen=127.0.0.1:0"], log))
        exchange = line_of(log, r"listens on (http://\S+)/", child)
        log = folder / "exporter.log"
        command = [program, f"--config.file={configuration(folder, exchange)}", "--web.listen-address=127.0.0.1:0"]
        exporter = stack.enter_context(running(command, log))
        instance = line_of(log, r"listening.*? address=(\S+)", exporter)
        recorded = record(exchange, f"http://{instance}", hour_of, steps)

        end = int(time.time())
        # One more poll fails, after the recording.
        fault = {"account": "arbitrage", "endpoint": "getBalance", "calls": 2, "effect": {"status": {"status": 502}}}
        http(f"{exchange}/simulator/faults", "POST", fault)
        spans = []
        for step in range(-EARLIER_STEPS, steps):
            half = (span if step >= 0 else EARLIER_HOURS / EARLIER_STEPS) / 2
            bounds = [int(end + 3600 * (hour_of(step) + side)) for side in (-half, half)]
            spans.append((*bounds, LAST_TICK if step >= 0 else EARLIER_TICK))
        # To the very end, so that nothing is missing between the recording and what follows.
        spans[-1] = (spans[-1][0], end + 1, LAST_TICK)
        samples = folder / "samples"
        with samples.open("w") as output:
            openmetrics(recorded, spans, instance, output)
        promtool("openmetrics", samples, folder / "data")
        # As often as rules stand on one another, because promtool does not show a rule what another has just recorded. Half
        # an hour earlier, for the rules that look so far back.
        for _ in range(3):
            with prometheus(folder, []) as url:
                times = [f"--start={end - 3600 * LAST_HOURS - 1800}", f"--end={end}", "--eval-interval=60s"]
                promtool("rules", f"--url={url}", *times, f"--output-dir={folder / 'rules'}", RULES)
            for block in (folder / "rules").iterdir():
                block.rename(folder / "data" / block.name)
        begun = time.time()
        url = stack.enter_context(prometheus(folder, [instance]))
        for name in ("up", "account_wallet_currency:xt_balance_free:fall30m"):
            query = urllib.parse.quote(f"timestamp({name}) > {begun}")
            until(
                f"Prometheus goes on from the recording with {name}",
                lambda: json.loads(http(f"{url}/api/v1/query?query={query}"))["data"]["result"],
            )
        yield url, end, exporter.pid


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    steps = int(sys.argv[2]) if len(sys.argv) == 3 else 180
    # Whatever ends it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with rehearsal(sys.argv[1], steps) as (url, end, exporter):
        print(json.dumps({"prometheus": url, "recorded_until": end, "exporter": exporter}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
