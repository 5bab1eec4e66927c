"""Health: `/health`, `/status` and `/metrics` on loopback, for a supervisor and a Prometheus on the same machine.

Metrics are in Prometheus' text format 0.0.4. Only GET is answered, and only under a name of loopback (a web page that
the operator's browser shows cannot read it under its own name).
"""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from aegis_flower.errors import NodeError
from aegis_flower.service.keys import HEALTH

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = 5.0


def metric(name: str, kind: str, says: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> str:
    """One metric of the text format: HELP, TYPE, and a line for each sample."""
    lines = [f"# HELP {name} {_help(says)}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


class Health:
    """The endpoint, served by a thread of its own until `close`.

    Args:
        where: host and port, of loopback.
        status: gives what `/status` shows.
        metrics: gives the text of `/metrics`.
        healthy: whether `/health` answers 200 or 503.

    Raises:
        NodeError: the port is taken.
    """

    def __init__(
        self,
        where: tuple[str, int],
        status: Callable[[], dict[str, Any]],
        metrics: Callable[[], str],
        healthy: Callable[[], bool],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _SECONDS
            server_version = sys_version = "aegis"

            def do_GET(self) -> None:
                if not _is_local(self.headers.get("Host", "")):
                    self._say(403, TEXT, "this is for the machine itself\n")
                elif self.path == "/health":
                    well = healthy()
                    self._say(200 if well else 503, TEXT, "well\n" if well else "not well\n")
                elif self.path == "/status":
                    self._say(200, "application/json", json.dumps(status()) + "\n")
                elif self.path == "/metrics":
                    self._say(200, TEXT, metrics())
                else:
                    self._say(404, TEXT, "there are /health, /status and /metrics\n")

            def _say(self, code: int, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: a probe every few seconds is no event."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = 10 if ":" in where[0] else 2  # AF_INET6, AF_INET

            def handle_error(self, *_: object) -> None:
                """Nothing: whoever hung up is no event."""

        try:
            self._server = Server(where, Handler)
        except OSError as error:
            raise NodeError(
                f"{HEALTH}: {where[0]}:{where[1]} cannot be served ({error.strerror}); choose another port"
            ) from None
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="node-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_SECONDS)


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
