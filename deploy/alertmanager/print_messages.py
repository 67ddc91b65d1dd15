"""Prints what Alertmanager sends with alertmanager.yml: a line for each alert. To try the rules without a pager.

python3 deploy/alertmanager/print_messages.py

Must not be reachable from other machines.
"""

import http.server
import json


class Receiver(http.server.BaseHTTPRequestHandler):
    """The path of a request is the name of the receiver: page, ticket or note."""

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in message["alerts"]:
            receiver, name = self.path.strip("/"), alert["labels"]["alertname"]
            print(f"{receiver}, {alert['status']}: {name}. {alert['annotations']['summary']}", flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Prints nothing else."""


http.server.HTTPServer(("127.0.0.1", 9099), Receiver).serve_forever()
