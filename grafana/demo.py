#!/usr/bin/env python3
"""Starts the exporter on a simulated exchange, and a Prometheus that holds a demo day for the dashboards.

    grafana/demo.py PROGRAM [STEPS]     PROGRAM: the built xt-balance-exporter; STEPS: recorded moments of the last 6 hours, 180

Prints one line of JSON, {"prometheus": URL, "recorded_until": Unix time, "exporter": process id}, and runs until its
standard input is closed. Prometheus has data of the last 32 hours and continues to scrape.

The past is a recording. At each step this program sets balances and faults at the simulated exchange and waits for the
exporter to poll. It writes the text of /metrics as samples of the demo day, in which one second of the recording stands for
minutes. It shifts the timestamps inside the samples (last good poll, end of a pause) accordingly. `up` and
`scrape_duration_seconds` describe the recording's own scrapes. promtool evaluates the recording rules.

Needs prometheus and promtool. Must not know the dashboards.
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
TIMEOUT_SECONDS = 60

# The demo day: earlier hours have few steps, the last six hours have STEPS. A tick is the seconds between samples.
EARLIER_HOURS, LAST_HOURS = 26, 6
EARLIER_STEPS = 13
EARLIER_TICK_SECONDS, LAST_TICK_SECONDS = 240, 30

# Metrics whose values are timestamps that move with the samples.
SHIFTED_METRICS = (
    "xt_last_success_timestamp_seconds",
    "xt_paused_until_timestamp_seconds",
    "xt_positions_last_success_timestamp_seconds",
    "xt_price_last_success_timestamp_seconds",
)

# Name, owner of the key, wallet, watched currencies with their thresholds, as in the configuration file.
ACCOUNTS = [
    ("treasury", "treasury", "spot", {"usdt": 100000}),
    ("treasury-fiat", "treasury", "fiat", {"usd": 200000}),
    ("market-maker", "market-maker", "spot", {"usdt": {"warn": 500, "page": 300}, "btc": 0.02}),
    ("arbitrage", "arbitrage", "spot", {"usdt": 5000, "trx": None}),
    ("cold-storage", "cold-storage", "spot", {"btc": 10}),
    ("grid-bot", "grid-bot", "spot", {"usdt": 300}),
    ("arbitrage-futures", "arbitrage", "futures_usdt", {"usdt": 2000}),
]
CURRENCIES = ["usdt", "btc", "eth", "usdc", "sol", "xrp", "usd", "eur"]
# Read with v4. All others are read with v1.
V4_ACCOUNT, FUTURES_ACCOUNT = "cold-storage", "arbitrage-futures"
# Why the BTC of the first one are frozen.
PARTS = {"trade": "0", "withdraw": "0.5", "lock": "1.25", "freeze": "0", "copyTrade": "0"}


# ---- The demo day


def wave(hour, period, shift=0.0):
    return math.sin(2 * math.pi * hour / period + shift)


def sawtooth(hour, top, bottom, period, shift):
    """Falls from top to bottom and jumps back, every period."""
    return top - (top - bottom) * (((hour + shift) % period) / period)


def balances(hour):
    """Balances at an hour (negative: before the end): (account, wallet, currency) → free, frozen."""
    orders = 90 + 60 * wave(hour, 0.9) + 25 * wave(hour, 0.23, 1)
    return {
        # The next top-up is three hours away, and the balance is just below its threshold.
        ("market-maker", "spot", "usdt"): (sawtooth(hour, 1800, 180, 6.5, 5.4) - orders / 3, orders),
        ("market-maker", "spot", "btc"): (0.05 + 0.008 * wave(hour, 13), 0.01 + 0.002 * wave(hour, 1.1)),
        # Pays out every hour and stays above its threshold for some hours.
        ("treasury", "spot", "usdt"): (133000 - 9000 * hour / 2 - 400 * wave(hour, 0.7), 25000),
        ("treasury", "fiat", "usd"): (481203.5, 0),
        ("arbitrage", "spot", "usdt"): (11500 + 5800 * wave(hour, 9), 4200 + 3000 * wave(hour, 1.7)),
        ("arbitrage", "spot", "eth"): (9.5 - 2 * wave(hour, 9), 1.5 + 1.2 * wave(hour, 1.7)),
        ("arbitrage", "futures_usdt", "usdt"): (5200 + 300 * wave(hour, 5), 8400),
        ("cold-storage", "spot", "btc"): (41.5, 2),
        ("grid-bot", "spot", "usdt"): (610 + 120 * wave(hour, 4), 330 + 90 * wave(hour, 0.5)),
    }


def positions(hour):
    """Open futures positions at an hour: (symbol, side) → contracts, units in a contract, entry, mark and liquidation price.
    The exchange never liquidates a position with the price 0."""
    return {
        # Is between its two thresholds at the end.
        ("eth_usdt", "LONG"): (1200, 0.01, 3180, 3290 + 150 * wave(hour, 11, 2.4), 2876),
        ("btc_usdt", "SHORT"): (4000, 0.0001, 63900, 64210 + 500 * wave(hour, 5), 0),
        ("sol_usdt", "SHORT"): (260, 0.1, 148, 151 + 5 * wave(hour, 7), 214.5),
    }


def open_position(contracts, unit, entry, mark, liquidation, side):
    """The position as the simulated exchange takes it."""
    profit = contracts * unit * (mark - entry) * (1 if side == "LONG" else -1)
    amounts = {"size": contracts, "entry": entry, "mark": mark, "liquidation": liquidation, "profit": profit}
    amounts["margin"] = contracts * unit * entry / 10
    texts = {name: f"{amount:.8f}".rstrip("0").rstrip(".") for name, amount in amounts.items()}
    return {**texts, "isolated": liquidation > 0, "leverage": 10}


def faults(step, steps):
    """New faults at a step of the last hours, in the format of the simulated exchange, and whether old faults end."""
    left = steps - 1 - step
    maintenance = {"account": "grid-bot", "effect": "maintenance"}
    # The key of this account also reads futures.
    spot = {"account": "arbitrage", "endpoint": "getBalance"}
    plan = {
        int(steps * 0.30): [maintenance],
        int(steps * 0.55): [{**spot, "calls": 1, "effect": "empty_data"}],
        int(steps * 0.65): [{"account": "treasury", "calls": 3, "effect": {"delay": {"ms": 350}}}],
        int(steps * 0.75): [
            {"account": "market-maker", "calls": 2, "effect": {"status": {"status": 502}}},
            {**spot, "calls": 1, "effect": {"row": {"currency": "eth", "value": {"available": "NaN", "freeze": None}}}},
        ],
    }
    new_faults = plan.get(step, [])
    if left == 9:
        new_faults = [*new_faults, maintenance]
    # Rates of 15 minutes still see this failure, and recorded series of 5 minutes no longer see its balance.
    if left == 7:
        # The exporter sends no request for this account from now on.
        new_faults = [*new_faults, {"account": "grid-bot", "effect": {"status": {"status": 429}}}]
    return new_faults, step == int(steps * 0.45) or left == 7


# ---- The programs


def http(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
        return reply.read().decode()


def until(event, check):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise SystemExit(f"timed out after {TIMEOUT_SECONDS} s waiting for: {event}")


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


def wait_for_log(log, pattern, child):
    """Waits until a program logs the pattern, and returns its first group."""

    def found():
        if child.poll() is not None:
            raise SystemExit(pathlib.Path(log).read_text())
        return re.search(pattern, pathlib.Path(log).read_text())

    return until(f"{pattern} in {log}", found)[1]


def configuration(folder, exchange):
    """Writes the exporter's configuration, with the keys of the simulated exchange."""
    keys = dict(re.findall(r"^  (\S+) +(de300000-\S+ +\S+)$", http(f"{exchange}/simulator/"), re.MULTILINE))
    lines = ["api: v1", f"base_urls: ['{exchange}']", "prices: usdt", "poll_interval: 1s", "poll_timeout: 900ms", "max_age: 5s"]
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
        ]
        # The exchange's total counts every currency: here the worth does so too.
        if name != V4_ACCOUNT:
            lines += [f"    currencies: {{only: {json.dumps(CURRENCIES)}}}"]
        if name in (V4_ACCOUNT, FUTURES_ACCOUNT):
            lines += ["    api: v4", f"    base_urls: ['{exchange}']", f"    futures_usdt_base_urls: ['{exchange}/fapi']"]
        if name == FUTURES_ACCOUNT:
            # Two calls; with one a second for the spot wallet of the same key, they reach its limit of 2 a second.
            lines += ["    futures_risk: true", "    poll_interval: 2s"]
    path = folder / "exporter.yml"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- The recording

SAMPLE = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")


def record(exchange, exporter, hour_of, steps):
    """Plays the demo day. Returns the time, duration and text of each step's scrape."""
    recorded, polled = [], {}
    for step in range(-EARLIER_STEPS, steps):
        for (account, wallet, currency), (free, frozen) in balances(hour_of(step)).items():
            amounts = {"available": f"{max(free, 0):.8f}", "freeze": f"{max(frozen, 0):.8f}"}
            if (account, wallet, currency) == (V4_ACCOUNT, "spot", "btc"):
                amounts["parts"] = PARTS
            http(f"{exchange}/simulator/accounts/{account}/{wallet}/{currency}", "PUT", amounts)
        for (symbol, side), position in positions(hour_of(step)).items():
            path = f"accounts/arbitrage/futures_usdt/positions/{symbol}/{side.lower()}"
            http(f"{exchange}/simulator/{path}", "PUT", open_position(*position, side))
        if step == 0:
            # The exchange omits a watched currency from now on.
            http(f"{exchange}/simulator/accounts/arbitrage/spot/trx", "DELETE")
        new_faults, old_faults_end = faults(step, steps)
        if old_faults_end:
            http(f"{exchange}/simulator/faults", "DELETE")
        for fault in new_faults:
            http(f"{exchange}/simulator/faults", "POST", fault)

        def scrape_after_polls():
            started = time.time()
            text = http(f"{exporter}/metrics")
            polls = dict(re.findall(r"^xt_polls_total\{(.*)\} (\d+)$", text, re.MULTILINE))
            paused = re.findall(r'^xt_paused_until_timestamp_seconds\{(account=".*?")\} [^0]', text, re.MULTILINE)
            # Balances of futures are read in every second step, but have to be fresh at the end.
            waiting = [
                wallet for wallet, count in polls.items()
                if int(count) <= polled.get(wallet, 0) and wallet.split(",")[0] not in paused
                and (wallet not in polled or FUTURES_ACCOUNT not in wallet or step > steps - 3)
            ]
            # Positions are read just before the balances of their wallet.
            read_at = re.search(r"^xt_positions_last_success_timestamp_seconds\{.*\} (\S+)$", text, re.MULTILINE)
            is_old = step > steps - 3 and float(read_at[1]) <= recorded[-1][0]
            if waiting or not polls or is_old:
                return None
            polled.update({wallet: int(count) for wallet, count in polls.items()})
            return started, time.time() - started, text

        recorded.append(until("every account is polled again", scrape_after_polls))
    return recorded


def openmetrics(recorded, spans, instance, output):
    """Writes the recording as samples of the demo day: each scrape is repeated over its span."""
    target = f'job="{JOB}",instance="{instance}"'

    def shift(moment, scraped, at):
        """The time on the demo day of a moment of the recording, in a sample at `at`."""
        before = [span for (other, _, _), span in zip(recorded, spans) if moment <= other < scraped]
        return before[0][1] if before else at + moment - scraped

    for (scraped, took, text), (begin, end, tick) in zip(recorded, spans):
        series = [(f"up{{{target}}}", 1, False), (f"scrape_duration_seconds{{{target}}}", took, False)]
        for line in text.splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                labels = f"{labels},{target}" if labels else target
                shifted = name in SHIFTED_METRICS and float(value) != 0
                series.append((f"{name}{{{labels}}}", float(value) if shifted else value, shifted))
        at = begin
        while at < end:
            for name, value, shifted in series:
                output.write(f"{name} {shift(value, scraped, at) if shifted else value} {at}\n")
            at += tick
    output.write("# EOF\n")


@contextlib.contextmanager
def prometheus(folder, targets):
    """A server on the recorded data. It evaluates the rules only if it has targets to scrape."""
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
        # Prometheus does not accept port 0, so it gets a port that was just free, and another one if that is taken.
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
def demo_day(program, steps):
    """Yields the URL of Prometheus, the end of the recording and the exporter's process id."""
    span = LAST_HOURS / steps
    # The middle of each step, in hours before the end.
    hour_of = lambda step: -(steps - step - 0.5) * span if step >= 0 else -LAST_HOURS + (step + 0.5) * EARLIER_HOURS / EARLIER_STEPS
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = folder / "simulate.log"
        child = stack.enter_context(running([program, "simulate", "--web.listen-address=127.0.0.1:0"], log))
        exchange = wait_for_log(log, r"listens on (http://\S+)/", child)
        log = folder / "exporter.log"
        command = [program, f"--config.file={configuration(folder, exchange)}", "--web.listen-address=127.0.0.1:0"]
        exporter = stack.enter_context(running(command, log))
        instance = wait_for_log(log, r"listening.*? address=(\S+)", exporter)
        recorded = record(exchange, f"http://{instance}", hour_of, steps)

        end = int(time.time())
        # One more poll fails, after the recording.
        fault = {"account": "arbitrage", "endpoint": "getBalance", "calls": 2, "effect": {"status": {"status": 502}}}
        http(f"{exchange}/simulator/faults", "POST", fault)
        spans = []
        for step in range(-EARLIER_STEPS, steps):
            half = (span if step >= 0 else EARLIER_HOURS / EARLIER_STEPS) / 2
            bounds = [int(end + 3600 * (hour_of(step) + side)) for side in (-half, half)]
            spans.append((*bounds, LAST_TICK_SECONDS if step >= 0 else EARLIER_TICK_SECONDS))
        # The last span reaches the end, so that there is no gap before the first live scrape.
        spans[-1] = (spans[-1][0], end + 1, LAST_TICK_SECONDS)
        samples = folder / "samples"
        with samples.open("w") as output:
            openmetrics(recorded, spans, instance, output)
        promtool("openmetrics", samples, folder / "data")
        # promtool does not show a rule the results of other rules in the same run, so each level of rules needs a run. The
        # runs start half an hour early for the rules that look back that far.
        for _ in range(3):
            with prometheus(folder, []) as url:
                times = [f"--start={end - 3600 * LAST_HOURS - 1800}", f"--end={end}", "--eval-interval=60s"]
                promtool("rules", f"--url={url}", *times, f"--output-dir={folder / 'rules'}", RULES)
            for block in (folder / "rules").iterdir():
                block.rename(folder / "data" / block.name)
        started = time.time()
        url = stack.enter_context(prometheus(folder, [instance]))
        for name in ("up", "account_wallet_currency:xt_balance_free:fall30m"):
            query = urllib.parse.quote(f"timestamp({name}) > {started}")
            until(
                f"new samples of {name} after the recording",
                lambda: json.loads(http(f"{url}/api/v1/query?query={query}"))["data"]["result"],
            )
        yield url, end, exporter.pid


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    steps = int(sys.argv[2]) if len(sys.argv) == 3 else 180
    # SIGTERM must end the child processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with demo_day(sys.argv[1], steps) as (url, end, exporter):
        print(json.dumps({"prometheus": url, "recorded_until": end, "exporter": exporter}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
