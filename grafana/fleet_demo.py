#!/usr/bin/env python3
"""Starts a Prometheus with generated samples of many accounts, for the dashboard `XT fleet`.

    grafana/fleet_demo.py [ACCOUNTS [HOURS [TICK]]]     450 accounts, 3 hours and 60 seconds between two samples by default

Prints one line of JSON, {"prometheus": URL, "recorded_until": Unix time}, and runs until its standard input is closed.

No exporter runs: this program writes the series that five exporters with a fifth of the accounts each would show, two of them
with a second egress group. The names of metrics and labels are those that the dashboard uses. One account in fifty cannot be
read for a while, the account before the last is paused, and all accounts of the third shard are held for ten minutes. The exporter of
the fifth shard stops a quarter of an hour before the end.

Needs prometheus and promtool. Must not know the dashboards.
"""

import contextlib
import json
import math
import pathlib
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from demo import JOB, prometheus, promtool

SHARDS = 5
POLL_INTERVAL_SECONDS = 30
DURATIONS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CAPACITY = {"address": 900, "key": 2}


def account_state(number, accounts, hours):
    """0 fresh, 1 held, 2 unknown, by the hours before the end."""
    if number == accounts - 2:
        return 2 if hours < 0.4 else 0
    if number % SHARDS == 2 and 1.2 < hours < 1.37:
        return 1
    if number % 50 == 7:
        start = 0.2 + (number * 37 % 250) / 100
        return 0 if not start < hours < start + 0.5 else 1 if hours > start + 0.48 else 2
    return 0


def account_samples(number, accounts, at, end):
    """Samples of one account and wallet: metric, labels and value."""
    hours = (end - at) / 3600
    state = account_state(number, accounts, hours)
    labels = f'account="desk-{number + 1:03}",wallet="spot"'
    age = 4 + number % 25 if state == 0 else 70 if state == 1 else 600
    yield "xt_up", labels, int(state == 0)
    if state < 2:
        yield "xt_currencies", labels, 20 + number % 11
        free = 1000 if number % 90 == 11 else 5000
        yield "xt_balance_free", f'{labels},currency="usdt"', free
    yield "xt_balance_free_threshold", f'{labels},currency="usdt"', 2000
    yield "xt_balance_free_page_threshold", f'{labels},currency="usdt"', 800
    yield "xt_last_success_timestamp_seconds", labels, at - age
    polls = int((at - end + 1e6) / POLL_INTERVAL_SECONDS)
    yield "xt_polls_total", labels, polls
    yield "xt_poll_failures_total", f'{labels},reason="timeout"', (polls + 97 * number) // (40 if number % 50 == 7 else 4000)
    key = labels.split(",")[0]
    yield "xt_paused_until_timestamp_seconds", key, end + 300 if number == accounts - 2 and hours < 0.4 else 0
    calls = 2 if number % 80 == 3 else (number + int(at / 60)) % 2
    yield "xt_rate_limit_calls", f'scope="key",{key}', calls
    yield "xt_rate_limit_capacity", f'scope="key",{key}', CAPACITY["key"]


def exporter_samples(shard, accounts, at, end):
    """Samples of an exporter itself."""
    share = accounts / SHARDS
    yield "xt_shard_info", f'shard="{shard + 1}",shards="{SHARDS}"', 1
    yield "xt_shards", "", SHARDS
    yield "xt_exporter_build_info", 'revision="demo",rustversion="demo",version="demo"', 1
    yield "process_resident_memory_bytes", "", int(3e7 + 60_000 * share)
    yield "scrape_duration_seconds", "", 0.004 + 0.00002 * share
    for group, part in (("default", 1.0), ("office", 0.55)) if shard < 2 else (("default", 1.0),):
        calls = min(1, share / 100) * part * (0.62 + 0.12 * math.sin(at / 900 + shard)) * CAPACITY["address"]
        yield "xt_rate_limit_calls", f'scope="address",egress="{group}"', int(calls)
        yield "xt_rate_limit_capacity", f'scope="address",egress="{group}"', CAPACITY["address"]
    polls = int((at - end + 1e6) / POLL_INTERVAL_SECONDS * share)
    for bound in (*DURATIONS, math.inf):
        count = int(polls * (1 - math.exp(-bound * 9)))
        le = "+Inf" if math.isinf(bound) else bound
        yield "xt_poll_duration_seconds_bucket", f'account="desk-{shard + 1:03}",wallet="spot",le="{le}"', count


def write_samples(output, accounts, hours, tick, end):
    for at in range(int(end - 3600 * hours), int(end) + 1, tick):
        for shard in range(SHARDS):
            target = f'job="{JOB}",instance="10.0.0.{shard + 1}:9744"'
            is_up = shard < SHARDS - 1 or end - at > 900
            output.write(f"up{{{target}}} {int(is_up)} {at}\n")
            if is_up:
                of_accounts = (account_samples(number, accounts, at, end) for number in range(shard, accounts, SHARDS))
                for samples in (*of_accounts, exporter_samples(shard, accounts, at, end)):
                    for name, labels, value in samples:
                        output.write(f"{name}{{{labels}{',' if labels else ''}{target}}} {value} {at}\n")
    output.write("# EOF\n")


def main():
    given = [float(argument) for argument in sys.argv[1:]]
    accounts, hours, tick = [*given, *(450, 3, 60)[len(given) :]]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        end = int(time.time())
        samples = folder / "samples"
        with samples.open("w") as output:
            write_samples(output, int(accounts), hours, int(tick), end)
        promtool("openmetrics", samples, folder / "data")
        samples.unlink()
        url = stack.enter_context(prometheus(folder, []))
        print(json.dumps({"prometheus": url, "recorded_until": end}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
