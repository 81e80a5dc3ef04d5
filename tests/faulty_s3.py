"""A proxy in front of a real S3 server that breaks what passes through, on order."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 0.3
FAULTS = ("500", "503", "reset", "slow", "short")


class FaultyS3:
    """Forwards to `upstream` (host:port). `broken(method, path, number)` names a fault, or None."""

    def __init__(self, upstream, broken):
        self.broken = broken
        self.injected = Counter()
        lock = threading.Lock()
        numbers = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def forward(self):
                with lock:
                    number = numbers[self.command]
                    numbers[self.command] += 1
                    fault = proxy.broken(self.command, self.path, number)
                    if fault:
                        proxy.injected[fault] += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if fault in ("500", "503"):
                    self.refuse(int(fault))
                elif fault == "reset":
                    self.reset()
                else:
                    self.relay(body, fault)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

            def refuse(self, status):
                code = "SlowDown" if status == 503 else "InternalError"
                body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def reset(self):
                """End the connection by a RST, as a router that has forgotten it would."""
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()

            def relay(self, body, fault):
                upstream_connection = http.client.HTTPConnection(upstream, timeout=60)
                upstream_connection.request(self.command, self.path, body or None, dict(self.headers))
                answer = upstream_connection.getresponse()
                content = answer.read()
                upstream_connection.close()
                if fault == "slow":
                    time.sleep(SLOW_S)
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length or 0))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if fault == "short" and len(content) > 1:
                    self.wfile.write(content[: len(content) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.wfile.write(content)

            def finish(self):
                with contextlib.suppress(OSError, ValueError):  # it may have been reset on order
                    super().finish()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
