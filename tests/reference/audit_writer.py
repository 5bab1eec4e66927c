"""Writes 000001.log from the format page alone: a second implementation, so that the page and the engine agree.

python3 tests/reference/audit_writer.py: prints the head, writes tests/vectors/audit/000001.log.
"""

import hashlib
import json
import pathlib
import struct
import sys


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", crc32c(data))


BODIES = [
    {"time": "2026-01-02T03:04:05.678Z", "event": "authorize", "rows_denied": {"core.retention": 2, "core.consent": 1}},
    {
        "time": "2026-01-02T03:04:05.679Z",
        "text": 'ä\n"\\\u001f\u007f\U00010000',
        "n": [-(2**63), 2**64 - 1, True, None],
    },
    {"time": "2026-01-02T03:04:05.680Z", "\uffff": [], "\U00010000": {}},
]


def main() -> None:
    out = sealed(struct.pack("<8sI32s16x", b"AEGISLG1", 1, hashlib.sha256(b"vault 6f1d").digest()))
    head = hashlib.sha256(b"\0" + out).digest()
    for seq, body in enumerate(BODIES):
        payload = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        out += sealed(struct.pack("<IQ32sII", len(payload), seq, head, 0, crc32c(payload))) + payload
        head = hashlib.sha256(b"\1" + struct.pack("<Q", seq) + head + payload).digest()
    (pathlib.Path(__file__).parents[1] / "vectors/audit/000001.log").write_bytes(out)
    sys.stdout.write(f"{len(BODIES)}:{head.hex()}\n")


if __name__ == "__main__":
    main()
