"""What a script does: prometheus_client's gauges and its own server. Reads the two families from a file in the
text format and serves them: python.py FILE PORT."""

import re
import sys
import threading

from prometheus_client import CollectorRegistry, Gauge, start_http_server

path, port = sys.argv[1:]
registry = CollectorRegistry()
names = ["xt_balance_free", "xt_balance_frozen"]
gauges = {name: Gauge(name, "An amount.", ["account", "currency", "wallet"], registry=registry) for name in names}
sample = re.compile(r'(\w+)\{account="(.*)",currency="(.*)",wallet="(.*)"\} (.*)')
with open(path) as lines:
    for line in lines:
        if found := sample.match(line):
            gauges[found[1]].labels(*found.group(2, 3, 4)).set(float(found[5]))
start_http_server(int(port), "127.0.0.1", registry)
threading.Event().wait()
