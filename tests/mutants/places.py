"""Files that mutants change, and files of tests that must turn red."""

from __future__ import annotations

UNIT, E2E = "tests/unit", "tests/e2e"
STRATEGY = "strategies/secure_aggregation.py"
EXCHANGE, REPLY = "strategies/masked/exchange.py", "strategies/clear_reply.py"
ADMIT, HANDLERS, GATE = "aegis_flower/client/admission.py", "aegis_flower/client/handlers.py", "aegis_flower/gate.py"
CLIENT, LEDGER, ACCOUNT = "aegis_flower/client/vault_client.py", "aegis_flower/ledger.py", "aegis_flower/accountant.py"
BOOKS = "aegis_flower/report/books.py"
POLICY = "aegis_engine/crates/policy/src"
NODE, LEDGERS = f"{UNIT}/client/test_client_handlers.py", f"{UNIT}/test_ledger.py"
HOSTILE, INNER = f"{UNIT}/strategies/test_hostile_replies.py", f"{UNIT}/strategies/test_inner.py"
