"""The native module, by subject. Errors are those of `aegis_engine.errors`; buffers are any C-contiguous buffer (bytes, numpy
array). All byte work runs with the GIL released.
"""

from aegis_engine._audit import audit_read as audit_read
from aegis_engine._audit import audit_verify as audit_verify
from aegis_engine._data import ColumnBuffer as ColumnBuffer
from aegis_engine._data import ObjectReader as ObjectReader
from aegis_engine._data import RecordReader as RecordReader
from aegis_engine._data import Records as Records
from aegis_engine._data import RecordStream as RecordStream
from aegis_engine._data import SecretBuffer as SecretBuffer
from aegis_engine._data import TableBatch as TableBatch
from aegis_engine._data import TableBatches as TableBatches
from aegis_engine._data import TableReader as TableReader
from aegis_engine._data import TableSchema as TableSchema
from aegis_engine._data import secret_buffer as secret_buffer
from aegis_engine._data import shuffle_order as shuffle_order
from aegis_engine._jail import jail_build_view as jail_build_view
from aegis_engine._jail import jail_confine as jail_confine
from aegis_engine._jail import jail_layers as jail_layers
from aegis_engine._jail import jail_leave_host as jail_leave_host
from aegis_engine._noise import Rng as Rng
from aegis_engine._noise import clip_l2 as clip_l2
from aegis_engine._permits import ComplianceEngine as ComplianceEngine
from aegis_engine._permits import DpSession as DpSession
from aegis_engine._permits import Limits as Limits
from aegis_engine._permits import Permit as Permit
from aegis_engine._permits import Proposal as Proposal
from aegis_engine._permits import Release as Release
from aegis_engine._permits import Request as Request
from aegis_engine._secagg import Identity as Identity
from aegis_engine._secagg import SecAggClient as SecAggClient
from aegis_engine._secagg import SecAggPlan as SecAggPlan
from aegis_engine._secagg import SecAggServer as SecAggServer
from aegis_engine._secagg import SecAggSum as SecAggSum
from aegis_engine._secagg import encode_update as encode_update
from aegis_engine._secagg import honest_inputs as honest_inputs
from aegis_engine._secagg import roster_open as roster_open
from aegis_engine._secagg import roster_sign as roster_sign
from aegis_engine._secagg import signature_holds as signature_holds
from aegis_engine._vault import KeyProvider as KeyProvider
from aegis_engine._vault import TableDraft as TableDraft
from aegis_engine._vault import Vault as Vault
from aegis_engine._vault import Writer as Writer
from aegis_engine._vault import bench_cipher as bench_cipher
from aegis_engine._vault import doctor as doctor
from aegis_engine._vault import harden_process as harden_process
from aegis_engine._vault import normal_name as normal_name

__version__: str

def debug_build() -> bool:
    """Whether the engine was compiled without optimisation."""
