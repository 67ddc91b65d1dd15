#!/usr/bin/env python3
"""Measures the latency of scrapes while other clients request the status page or the JSON API, on this machine.

    benches/page_askers.py PROGRAM [PROGRAM…]

Each PROGRAM is a release build of the exporter. To compare two versions, give the build before a change and the build
after it. Each polls 450 accounts with 1 000 currencies every 30 s, from the nginx of compare.py. One client scrapes
(gzip, on a kept connection, 100 ms between two scrapes) for 10 s: alone, and beside 2, 8 and 32 clients that request
the page or /api/v1/balances (gzip) and repeat the request as soon as they have the answer. Programs take turns at
every step. Prints the lines of a Markdown table. All traffic stays on loopback.
"""

import contextlib
import http.client
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import compare

ACCOUNTS = 450
SECONDS = 10
PAUSE = 0.1
ASKERS = (2, 8, 32)
GZIP = {"Accept-Encoding": "gzip"}

# In processes of their own, so that they wait for no lock of Python's beside the scraper; one process asks on several
# connections, as reading costs it little.
ASKER = """
import http.client, sys, threading, time
host, path, clients, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
end = time.monotonic() + seconds
answers, refused = [], []
def ask():
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection(host, timeout=max(0.1, end - time.monotonic()))
            while time.monotonic() < end:
                connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
                answer = connection.getresponse()
                answer.read()
                (answers if answer.status == 200 else refused).append(1)
                if answer.status != 200:
                    time.sleep(1)
        except OSError:
            time.sleep(0.1)
threads = [threading.Thread(target=ask) for _ in range(clients)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(answers), len(refused))
"""


def scrape(host, seconds):
    """Milliseconds of each scrape."""
    times, end = [], time.monotonic() + seconds
    connection = http.client.HTTPConnection(host, timeout=120)
    while time.monotonic() < end:
        began = time.monotonic()
        connection.request("GET", "/metrics", headers=GZIP)
        answer = connection.getresponse()
        answer.read()
        times.append((time.monotonic() - began) * 1000)
        if answer.status != 200:
            sys.exit(f"a scrape was answered with {answer.status}")
        time.sleep(PAUSE)
    return times


def beside(host, path, clients):
    """Milliseconds of each scrape beside so many clients, and the answers that those got."""
    if not clients:
        return scrape(host, SECONDS), "–"
    words = [sys.executable, "-c", ASKER, host, path, str(clients), str(SECONDS + 2)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asker:
        time.sleep(1)
        times = scrape(host, SECONDS)
        answered, refused = asker.communicate()[0].split()
        return times, f"{answered}" + (f" ({refused} refused)" if int(refused) else "")


def main():
    programs = sys.argv[1:] or sys.exit(__doc__)
    with tempfile.TemporaryDirectory(dir="/tmp") as name, contextlib.ExitStack() as stack:
        root = pathlib.Path(name)
        (root / "exchange").mkdir()
        source = stack.enter_context(compare.exchange(root / "exchange"))
        hosts = []
        for place, program in enumerate(programs):
            folder = root / str(place)
            folder.mkdir()
            compare.SERVER_CORE = "0,1"
            server = stack.enter_context(compare.exporter(folder, program, ACCOUNTS, source.url.rsplit("/trade", 1)[0]))
            compare.ready(server)
            hosts.append(urllib.parse.urlsplit(server.url).netloc)
        print("| other clients | " + " | ".join(f"{pathlib.Path(program).name}: median, p95 | answers to the others" for program in programs) + " |")
        print("|---" * (2 * len(programs) + 1) + "|", flush=True)
        steps = [("none", "/", 0)]
        steps += [(f"{count} × `{path}`", path, count) for path in ("/", "/api/v1/balances") for count in ASKERS]
        for label, path, count in steps:
            cells = []
            for host in hosts:
                times, answers = beside(host, path, count)
                p95 = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
                cells.append(f"{statistics.median(times):,.1f} ms, {p95:,.1f} ms | {answers}")
            print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
