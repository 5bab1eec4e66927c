"""A small key management service, to show what a vault asks of one and to test against. Loopback only, keys in memory.

    python examples/kms/server.py            # prints its address, serves until its input ends

``POST /keys/<vault>/<epoch>/wrap``, ``/unwrap`` (the body is the message) and ``DELETE /keys/<vault>/<epoch>``. Each epoch
has a random AES-256 key of its own that never leaves the process; deleting it is the whole of cryptographic erasure. A real
service adds authentication, an audit trail, durable keys, and usually a waiting period before it destroys.
"""

from __future__ import annotations

import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Handler(BaseHTTPRequestHandler):
    """One request."""

    keys: dict[str, bytes]

    def do_POST(self) -> None:
        _, _, vault, epoch, verb = self.path.split("/")
        name = f"{vault}/{epoch}"
        message = self.rfile.read(int(self.headers["Content-Length"]))
        if verb == "wrap":
            self.keys[name] = AESGCM.generate_key(256)
            nonce = secrets.token_bytes(12)
            return self._answer(200, nonce + AESGCM(self.keys[name]).encrypt(nonce, message, name.encode()))
        key = self.keys.get(name)
        if key is None:
            return self._answer(410, f"the key of {name} is destroyed".encode())
        try:
            return self._answer(200, AESGCM(key).decrypt(message[:12], message[12:], name.encode()))
        except InvalidTag:
            return self._answer(422, b"that was not wrapped here")

    def do_DELETE(self) -> None:
        _, _, vault, epoch = self.path.split("/")
        self.keys.pop(f"{vault}/{epoch}", None)  # gone is gone: a second delete succeeds
        self._answer(200, f"key of epoch {epoch} destroyed by the example service".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: requests hold secrets."""


def start() -> ThreadingHTTPServer:
    """A service of its own on a free port; stop it with ``shutdown()`` and ``server_close()``."""
    handler = type("OwnKeys", (Handler,), {"keys": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    service = start()
    print(f"http://127.0.0.1:{service.server_address[1]}", flush=True)
    sys.stdin.read()
    service.shutdown()
