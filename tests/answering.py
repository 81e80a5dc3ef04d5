"""Servers of tests, in a thread of this process."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    """Answers a request, and logs nothing."""

    def send(self, status, content):
        """Answer with bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


@contextmanager
def serving(handler):
    """The URL of a server, while it runs, whose requests an `Answer` handles."""
    served = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()


def getting(body, status=200):
    """What answers GET; `body` gives the bytes for a path."""

    class Get(Answer):
        def do_GET(self):
            self.send(status, body(self.path))

    return Get


def answering(body):
    """A server that answers GET; `body` gives the bytes for a path."""
    return serving(getting(body))
