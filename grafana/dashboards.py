#!/usr/bin/env python3
"""Generates the JSON of the Grafana dashboards from balances.py, exporter.py and fleet.py.

    grafana/dashboards.py            writes xt-balances.json, xt-exporter.json and xt-fleet.json
    grafana/dashboards.py --check    fails if the files differ from their source

Needs grafana-foundation-sdk (tests/dashboards/requirements.txt). Sends no request.
"""

import json
import pathlib
import sys

# Python must not write its cache beside the dashboards.
sys.dont_write_bytecode = True

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from balances import balances
from exporter import exporter
from fleet import fleet

FOLDER = pathlib.Path(__file__).resolve().parent


def main():
    different = []
    for dashboard in (balances(), exporter(), fleet()):
        path = FOLDER / f"{dashboard.uid}.json"
        text = json.dumps(dashboard, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            different.append(path.name)
    if different:
        sys.exit(f"{', '.join(different)}: differs from its source; run grafana/dashboards.py without --check, or undo the edit")


if __name__ == "__main__":
    main()
