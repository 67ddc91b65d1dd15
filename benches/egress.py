#!/usr/bin/env python3
"""Measures an exporter with many accounts and several egress groups, on this machine.

    benches/egress.py PROGRAM [ACCOUNTS GROUPS CURRENCIES INTERVAL]     default: 5000 accounts, 12 groups, 30 currencies, 30 s

An nginx with TLS acts as the exchange and logs the address of each caller: the groups have the source addresses 127.0.0.2
and those after it. 49 of 50 answers are new. The script waits for the first poll of every account, watches the
exporter for two minutes, and prints its memory, its CPU time for polls, the size and the time of a scrape, and how many
accounts were not fresh. It fails if an account is not fresh, or if an address made more calls in a minute than the exchange
permits. Nothing is pinned to a core, so the times are those of a machine that does other work too.
"""

import collections
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
import urllib.request

import compare

WATCH_SECONDS = 120
ADDRESS_LIMIT = 1000


def write_config(folder, accounts, groups, url, interval):
    (folder / "secret").write_text("made-up-secret")
    lines = ["api: v1", f"base_urls: ['{url}']", f"poll_interval: {interval}s", "egress:"]
    lines += [f"- {{name: g{group:02}, source_address: 127.0.0.{group + 2}}}" for group in range(groups)]
    lines.append("accounts:")
    for number in range(accounts):
        (folder / f"{number}.key").write_text(f"made-up-key-{number}")
        keys = f"access_key_file: {number}.key, secret_key_file: secret"
        lines.append(f"- {{name: account{number:04}, egress: g{number % groups:02}, {keys}}}")
    (folder / "accounts.yml").write_text("\n".join(lines))


def exchange(folder):
    for variant in range(compare.VARIANTS):
        (folder / f"balances-{variant}.json").write_text(compare.answer(variant))
    compare.certify(folder)
    shares = " ".join(f"{100 / compare.VARIANTS}% {variant};" for variant in range(compare.VARIANTS - 1))
    server = compare.nginx(
        folder, path="/trade/api/v1/getServerTime", core=f"0-{os.cpu_count() - 1}",
        tls=f"ssl; ssl_certificate {folder}/host.crt; ssl_certificate_key {folder}/host.key",
        http=f'split_clients "$request_id" $variant {{ {shares} * {compare.VARIANTS - 1}; }} log_format calls "$msec $remote_addr";',
        server="""access_log %s/calls.log calls;
        location = /trade/api/v1/getServerTime { default_type application/json; return 200 '{"code":200,"data":{"serverTime":1700000000000},"info":"success"}'; }
        location = /trade/api/v1/getBalance { default_type application/json; rewrite ^ /balances-$variant.json break; }""" % folder)
    return server


def most_calls_in_a_minute(log):
    """Of each address, in any 60 seconds."""
    calls = collections.defaultdict(list)
    for line in log.read_text().splitlines():
        at, address = line.split()
        # From there this script asks whether the exchange runs.
        if address != "127.0.0.1":
            calls[address].append(float(at))
    most = {}
    for address, times in calls.items():
        times.sort()
        first = 0
        for last, at in enumerate(times):
            while at - times[first] > 60:
                first += 1
            most[address] = max(most.get(address, 0), last - first + 1)
    return most


def samples(text, name):
    return [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{")]


def scrape(server, compressed):
    """Milliseconds and bytes of one scrape, as they pass the network."""
    request = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"} if compressed else {})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        size = len(answer.read())
    return (time.perf_counter() - began) * 1000, size


def scrape_cost(server, count=10):
    """CPU milliseconds of a gzipped scrape beyond the polls, of so many, and their times."""
    used, began = server.cpu_seconds(), time.monotonic()
    time.sleep(10)
    idle = (server.cpu_seconds() - used) / (time.monotonic() - began)
    used, began, times = server.cpu_seconds(), time.monotonic(), []
    for _ in range(count):
        times.append(scrape(server, True)[0])
        # The exporter gives the same answer again within 100 ms.
        time.sleep(0.2)
    spent = server.cpu_seconds() - used - idle * (time.monotonic() - began)
    return times, spent * 1000 / count


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    accounts, groups, compare.CURRENCIES, interval = [*map(int, sys.argv[2:]), *(5000, 12, 30, 30)[len(sys.argv) - 2:]]
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        with exchange(folder) as source:
            write_config(folder, accounts, groups, source.url.rsplit("/trade", 1)[0], interval)
            port = compare.free_port()
            command = ["env", f"SSL_CERT_FILE={folder}/authority.crt", program, "--config.file", folder / "accounts.yml",
                       "--web.listen-address", f"127.0.0.1:{port}"]
            began = time.monotonic()
            with compare.Server(command, port, core=f"0-{os.cpu_count() - 1}") as ours:
                started = time.monotonic() - began
                compare.ready(ours, patience=600)
                ready = time.monotonic() - began
                first = ours.resident_kib() / 1024
                scraping, cost = scrape_cost(ours)
                before, _, used = ours.polls()
                stale, oldest, gzip, plain, watched = 0, 0, [], [], time.monotonic()
                while time.monotonic() - watched < WATCH_SECONDS:
                    time.sleep(5)
                    gzip.append(scrape(ours, True))
                    plain.append(scrape(ours, False))
                    text = ours.get().decode()
                    success = samples(text, "xt_last_success_timestamp_seconds")
                    stale = max(stale, accounts - sum(samples(text, "xt_up")))
                    oldest = max(oldest, time.time() - min(success))
                spent = ours.cpu_seconds() - used
                seconds = time.monotonic() - watched
                after, failed, _ = ours.polls()
                resident = ours.resident_kib() / 1024
                series = sum(not line.startswith("#") for line in text.splitlines())
            most = most_calls_in_a_minute(folder / "calls.log")
    print(f"{accounts} accounts x {compare.CURRENCIES} currencies every {interval} s over {groups} addresses")
    print(f"  answers after {started:.1f} s, every account polled after {ready:.1f} s")
    print(f"  polls {after - before:.0f} in {seconds:.0f} s, failed since the start {failed:.0f}")
    print(f"  CPU {spent / seconds * 100:.1f} % of a core, scrapes included; {spent / (after - before) * 1000:.2f} ms per poll")
    print(f"  resident {first:.0f} MiB before the first scrape of this script, {resident:.0f} MiB at the end")
    print(f"  CPU of a gzipped scrape {cost:.1f} ms; it took {statistics.median(scraping):.1f} ms")
    print(f"  series {series}")
    for what, runs in (("gzip", gzip), ("plain", plain)):
        times = [took for took, _ in runs]
        print(f"  scrape {what}: {runs[-1][1] / 2**20:.2f} MiB, median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    print(f"  accounts that were not fresh at most {stale:.0f}, oldest balance {oldest:.1f} s")
    print(f"  calls of one address in any minute at most {max(most.values())}, addresses {len(most)}")
    if stale or failed or max(most.values()) > ADDRESS_LIMIT or len(most) != groups:
        sys.exit("not every account was fresh within the limits")


if __name__ == "__main__":
    main()
