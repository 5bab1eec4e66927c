"""The native module. Errors are those of `aegis_engine.errors`; buffers are any C-contiguous buffer (bytes, numpy array).

All byte work runs with the GIL released.
"""

import builtins
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Self, TypeAlias, final
from uuid import UUID

import numpy as np
from typing_extensions import CapsuleType

from aegis_engine.dataset import Block, Record, VaultDataset
from aegis_engine.tables import Csv, Parquet

# Anything with the buffer protocol. numpy arrays have it, but their stubs say so from Python 3.12 on only.
Buffer: TypeAlias = Any

__version__: str

def debug_build() -> bool:
    """Whether the engine was compiled without optimisation."""

def harden_process() -> None:
    """No core dumps and no attaching by others, for the whole process (`PR_SET_DUMPABLE` 0, `RLIMIT_CORE` 0).

    Breaks debuggers and profilers such as py-spy, on purpose; the core limit cannot be raised again.
    """

def bench_cipher(chunk: int, rounds: int) -> tuple[float, float, float, float]:
    """Seconds of `rounds` chunks on one thread: our seal, aws-lc's alone, our open, aws-lc's alone."""

def secret_buffer(size: int) -> SecretBuffer:
    """`size` zeroed bytes outside core dumps."""

def doctor(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """What this machine, and the folder at `path`, do to the promises of a vault: topic, found, risk (None = good)."""

@final
class KeyProvider:
    """Where a vault's key comes from. `aegis_engine.keys` has a function for each and says when to take which."""

    @staticmethod
    def raw(key: Buffer) -> KeyProvider:
        """Exactly 32 bytes, copied. Does not pickle.

        Raises:
            WrongKeyLength
        """

    @staticmethod
    def file(path: str | PathLike[str]) -> KeyProvider:
        """A file of mode 0600 (or stricter) with 32 raw bytes, or 64 hex digits and an optional newline."""

    @staticmethod
    def passphrase(passphrase: str | Buffer) -> KeyProvider:
        """Stretched by Argon2id (RFC 9106: 64 MiB, 3 passes, 4 lanes; stored in the keystore). Does not pickle."""

    @staticmethod
    def descriptor(fd: int) -> KeyProvider:
        """An open file descriptor with the key as a key file has it. Does not pickle."""

    @staticmethod
    def environment(name: str) -> KeyProvider:
        """An environment variable with 64 hex digits."""

    @staticmethod
    def command(argv: Sequence[str], timeout: float = 60.0) -> KeyProvider:
        """A program that prints the key; see `aegis_engine.keys.command`."""

    @staticmethod
    def callback(function: Callable[[], Buffer]) -> KeyProvider:
        """A function that gives the 32 bytes, called once an open."""

    @staticmethod
    def kms(service: Any) -> KeyProvider:
        """An object with `wrap`, `unwrap` and `destroy`; see `aegis_engine.keys.KeyService`."""

    @staticmethod
    def pkcs11(module: str | PathLike[str], token: str, pin: str) -> KeyProvider:
        """The token labelled `token` of the PKCS#11 library at `module`. Does not pickle."""

    @property
    def kind(self) -> str:
        """key, passphrase, pkcs11 or kms: providers of one kind `key` are exchangeable."""

    @property
    def level(self) -> str:
        """The strongest shred it makes possible."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Where the key is, never the key.

        Raises:
            TypeError: the provider holds a secret.
        """

@final
class Vault:
    """Encrypted storage in a folder: AES-256-GCM chunks, keys that can be shredded, every read under a permit.

    `key` is 32 bytes or a `KeyProvider`, `key_file` the path of a key file; one of the two. A vault pickles as its path
    and where its key is, when the key is somewhere another process can find it.
    """

    @staticmethod
    def new(
        path: str | PathLike[str],
        key: KeyProvider | Buffer | None = None,
        *,
        key_file: str | PathLike[str] | None = None,
    ) -> Vault:
        """Creates a vault, or opens the one that is there.

        Raises:
            WrongKeyLength, WrongKey, NotAVault: each says what to do.
        """

    @staticmethod
    def create(
        path: str | PathLike[str],
        key: KeyProvider | Buffer | None = None,
        *,
        key_file: str | PathLike[str] | None = None,
        make_key: bool = False,
    ) -> Vault:
        """Creates a vault; `make_key` first writes a new random key to `key_file`.

        Raises:
            VaultExists: there is one already.
        """

    @staticmethod
    def open(
        path: str | PathLike[str],
        key: KeyProvider | Buffer | None = None,
        *,
        key_file: str | PathLike[str] | None = None,
    ) -> Vault:
        """Opens a vault that is there.

        Raises:
            WrongKey, NotAVault, VaultTampered
        """

    @property
    def id(self) -> str:
        """The vault's UUID."""

    @property
    def path(self) -> str:
        """Its folder."""

    @property
    def epoch(self) -> int:
        """Number of its epoch key; a shred raises it."""

    @property
    def governed(self) -> bool:
        """Whether a policy bundle decides over reads."""

    def govern(self, name: str, *, replace: Permit | None = None) -> None:
        """Puts the vault under a policy bundle (``core``, or a folder of Cedar files). It cannot be taken off again.

        Another bundle takes its place only with `replace`, a permit to export that the old bundle granted; else AEG-V082.
        """

    def store_file(
        self,
        path: str | PathLike[str],
        *,
        name: str | None = None,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
        threads: int | None = None,
        verify: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> UUID:
        """Encrypts a file into the vault; memory does not depend on its size.

        A file that grows meanwhile is stored as long as it was at the start; pipes and devices are read to their end.

        Args:
            name: name in the vault; the file's own by default.
            threads: that seal; None = one a core, four at most.
            verify: read back and authenticate every byte before the object counts.
            progress: gets the bytes done so far; an exception it raises stops the store, and nothing is stored.

        Raises:
            NoSpace, OSError's kinds as VaultError: nothing is visible, and nothing that was there is lost.
        """

    def store_stream(
        self,
        source: Any,
        name: str,
        *,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
        threads: int | None = None,
        verify: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> UUID:
        """Encrypts a stream of unknown length.

        Args:
            source: a binary file object, a socket, an open file descriptor, or an iterable of bytes-like pieces.
        """

    def store_bytes(
        self,
        data: Buffer,
        name: str,
        *,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
    ) -> UUID:
        """Encrypts bytes from memory."""

    def store_files(
        self,
        paths: Sequence[str | PathLike[str]],
        *,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
        threads: int | None = None,
        verify: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> list[UUID]:
        """Encrypts many regular files in one commit: all of them, or none. Ids in the same order, names the files' own.

        Small files cost little more than a copy that is synced. Pipes and devices are refused (AEG-V023): store them one by one.
        """

    def store_many(
        self,
        items: Sequence[tuple[str, Buffer]],
        *,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
        threads: int | None = None,
        verify: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> list[UUID]:
        """As `store_files`, for names and bytes from memory."""

    def create_object(
        self,
        name: str,
        *,
        media_type: str = "",
        subject: str | None = None,
        attrs: Mapping[str, str] | None = None,
    ) -> Writer:
        """Starts an object that is written piece by piece; a context manager."""

    def read_into(
        self, object: str | UUID, buffer: Buffer, permit: Permit | None = None, *, threads: int | None = None
    ) -> int:
        """Decrypts a whole object into `buffer`, which must be large enough; gives the number of bytes."""

    def load(
        self,
        object: str | UUID,
        permit: Permit | None = None,
        *,
        threads: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> SecretBuffer:
        """Decrypts a whole object into memory that is kept out of core dumps and cleared when it is closed.

        `progress` gets the bytes done, every 32 MiB; what it raises ends the load.
        """

    def store_records(
        self,
        name: str,
        schema: Sequence[tuple[str, str, int]],
        data: Buffer,
        subjects: Sequence[str],
        classes: Sequence[tuple[str, int | None, bool]],
        facts: Mapping[str, Any],
        class_of: Sequence[int] | None = None,
    ) -> str:
        """Stores a data set of fixed-size records with the steward's terms; see `aegis_flower.ingest.ingest`.

        Args:
            schema: (column, dtype f32|f64|i64|i32|u8, values a record), back to back, little-endian.
            data: the records.
            subjects: whom each record is about; kept as keyed pseudonyms.
            classes: (lawful basis, last day of use since 1970-01-01, special category).
            facts: the terms.
            class_of: class of each record; None puts all in the first.
        """

    def store_table(
        self,
        path: str | PathLike[str],
        *,
        subjects: Sequence[str],
        classes: Sequence[tuple[str, int | None, bool]],
        facts: Mapping[str, Any],
        class_of: Sequence[int] | None = None,
        format: str | None = None,
        name: str | None = None,
        media_type: str = "",
        attrs: Mapping[str, str] | None = None,
        csv: Csv | None = None,
    ) -> UUID:
        """Stores a Parquet or CSV file as a governed data set, streaming; a permit then opens rows and columns of it. The
        file is read through first, by the reader of permits: what does not read (a type, a line, a page) is not stored.

        Args:
            path: the file.
            subjects: whom each row is about, one a row; kept as keyed pseudonyms.
            classes: (lawful basis, last day of use since 1970-01-01, special category).
            facts: the steward's terms; their ``columns`` are the table's, in order.
            class_of: class of each row; None puts all in the first.
            format: ``parquet`` or ``csv``; found by media type, first and last bytes, `name` and the file's name when None.
            name: the file's name when None.
            csv: how a CSV file is written (`aegis_engine.tables.Csv`); its types are kept with the data set.

        Raises:
            TableError: the file does not read as such a table; nothing was stored.
            VaultError: subjects or terms do not fit the table; nothing was stored.
        """

    def table(
        self,
        object: str | UUID,
        *,
        format: str | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int | None = None,
        permit: Permit | None = None,
        threads: int | None = None,
        csv: Csv | None = None,
    ) -> TableReader:
        """Opens a Parquet or CSV object as columns. Other columns are not decoded, other rows leave no trace in an array.

        Args:
            object: its id.
            format: ``parquet`` or ``csv``; found by media type, first bytes and name when None.
            columns: columns to read, in this order; all that are permitted when None.
            batch_rows: rows of a batch, at most; None: 65 536, more for consumers of the whole stream. A batch has no more
                than 64 MiB of arrays either (384 MiB for consumers of the whole stream), unless a single row has more; a
                scan holds up to four batches.
            permit: None on a vault without policies: the owner's.
            threads: threads that share the columns of a Parquet object; None: the cores, at most 4.
            csv: how a CSV object is written. A governed table knows that itself: other words about it are an error.

        What pyarrow reads is read equally or refused by name. INT96 comes as microseconds, which reach from year 1 to 9999 and
        further (digits below are cut off), or, of a file that was written from Arrow's nanoseconds, as these; a date that they
        cannot hold is an error. Bytes of Arrow's metadata that are no UTF-8 become ``?``.

        Raises:
            TableError: it does not read as such a table, or has no such column.
            PermitError: the permit has ended, or does not cover a column.
            VaultTampered: authentication failed; the text names object and chunk.
        """

    def store_records_granting(
        self,
        name: str,
        schema: Sequence[tuple[str, str, int]],
        data: Buffer,
        subjects: Sequence[str],
        classes: Sequence[tuple[str, int | None, bool]],
        facts: Mapping[str, Any],
        class_of: Sequence[int] | None = None,
        *,
        grant: Sequence[str],
    ) -> tuple[str, list[tuple[str, int, int]]]:
        """As `store_records`, with consent to the purposes `grant` of everybody who never withdrew it: both appear, or neither.

        Returns:
            The id, and by purpose how many people have consent now and had none, and from how many it was withheld because they
            withdrew it.
        """

    def list(self) -> builtins.list[dict[str, Any]]:
        """Objects: id, name, media_type, subject, attrs, created, bytes, chunks, chunk_bytes."""

    def stat(self, object: str | UUID) -> dict[str, Any]:
        """One object, as in `list`."""

    def object_ids(self) -> builtins.list[str]:
        """Ids of everything stored, governance rows of data sets included."""

    def datasets(self) -> dict[str, str]:
        """Data sets of records: name to id."""

    def lineage(self, dataset: str) -> str:
        """The lineage of a data set, by name or id: whose privacy budget it spends. 32 hex digits; the oldest of several.

        It stays when the data set is renamed, re-encrypted or stored anew with any of its people in the same role.
        """

    def lineages(self, dataset: str) -> builtins.list[str]:
        """All lineages whose budget a data set spends, the oldest first: a release is charged to each."""

    def lineage_names(self, lineage: str) -> builtins.list[str]:
        """Names under which earlier versions kept the ledger of a lineage (``privacy/NAME.record.jsonl``); mostly empty."""

    def open_object(self, object: str | UUID, permit: Permit | None = None) -> ObjectReader:
        """A seekable reader.

        Without a permit it takes the owner's, which a governed vault refuses (`PermitRequired`).
        """

    def owner_permit(self, object: str | UUID, action_name: str = "read") -> Permit:
        """The owner's permit, on a vault without a policy bundle; recorded in the audit log."""

    def admit(self, permit: Permit) -> None:
        """Redeems a permit without reading, which takes microseconds: before each part that is given out of a larger piece.

        Raises:
            PermitError: it has ended.
        """

    def records(self, permit: Permit) -> RecordReader:
        """A reader of the rows and columns that the permit opens."""

    def dataset(
        self,
        ids: str | UUID | Sequence[str | UUID],
        record: Record | Parquet | Csv | None = None,
        *,
        shuffle: Block | None = None,
        read_ahead: int | None = None,
        shard: tuple[int, int] | None = None,
        permit: Permit | Mapping[str, Permit] | None = None,
    ) -> VaultDataset:
        """Records of objects as a stream; see `aegis_engine.dataset`, and `aegis_engine.table_dataset` for tables.

        Args:
            ids: objects of one layout, one after the other.
            record: how records lie in an object: Fixed, Offsets, NpyRows, Idx, Rows (a data set of records, the default), or
                Parquet and Csv, whose batches are dictionaries of columns.
            shuffle: `Block(window, seed)`; None = in order.
            read_ahead: blocks decrypted ahead: 8, of tables 1 (a row group).
            shard: (number, how many).
            permit: for all objects, or one for each by id; None = the owner's, on a vault without a bundle.
        """

    def record_reader(self, object: str | UUID, permit: Permit | None = None) -> RecordReader:
        """A reader of a data set's records, under a permit or (on a vault without a bundle) the owner's."""

    def verify(
        self, object: str | UUID, *, threads: int | None = None, progress: Callable[[int], object] | None = None
    ) -> int:
        """Authenticates the header and every chunk of an object, without a permit and without handing out plaintext.

        Returns:
            Number of chunks.

        Raises:
            VaultTampered: names the object and the first chunk that is damaged.
        """

    def rename(self, object: str | UUID, name: str) -> None:
        """Gives an object another name (1 to 1024 bytes of UTF-8); its file stays as it is."""

    def rotate(self, key: KeyProvider | Buffer | None = None, *, key_file: str | PathLike[str] | None = None) -> int:
        """Puts the keystore under another key, or under a fresh root of the same one; no data is written.

        Returns:
            The new epoch.
        """

    def reencrypt(self, object: str | UUID, *, progress: Callable[[int], object] | None = None) -> UUID:
        """Encrypts an object anew under fresh keys and destroys the old ones.

        Args:
            progress: gets the bytes done so far.

        Returns:
            The id of the new object; name, subject and attributes stay.
        """

    def shred(self, object: str | UUID, *, require: str | None = None) -> dict[str, Any]:
        """Destroys the keys of an object (a data set's governance rows included) and ratchets the epoch.

        Args:
            require: level to reach or fail: logical, ratcheted-file, hardware, kms.

        Returns:
            The receipt: objects, level, epoch_before, epoch_after, when, file_removed, audit_seq, copies, caveats.

        Raises:
            InsufficientAssurance, ObjectNotFound, ObjectShredded
        """

    def shred_many(self, objects: Sequence[str | UUID], *, require: str | None = None) -> dict[str, Any]:
        """As `shred` for all of them: one ratchet, one receipt; all or none."""

    def shred_subject(self, subject: str, *, require: str | None = None) -> dict[str, Any]:
        """Shreds every object about that subject, and the subject's key.

        Raises:
            ObjectNotFound: no object is about it.
        """

    def destroy(self, *, require: str | None = None) -> dict[str, Any]:
        """Destroys the whole vault: root, keystore, files. The audit log stays.

        Returns:
            The receipt, as `shred` gives it.
        """

    @property
    def shred_level(self) -> str:
        """The strongest shred this vault reaches."""

    def backup_keystore(self, path: str | PathLike[str], recovery: KeyProvider) -> None:
        """Writes the keystore to the new file `path` under `recovery` (a key or a passphrase), and puts the copy on record:
        every later receipt lists it as not reached.
        """

    @staticmethod
    def restore_keystore(
        path: str | PathLike[str],
        backup: str | PathLike[str],
        recovery: KeyProvider,
        key: KeyProvider | Buffer | None = None,
        *,
        key_file: str | PathLike[str] | None = None,
        expect: tuple[int, bytes] | None = None,
        accept_lost_log: bool = False,
    ) -> Vault:
        """Puts a keystore backup into the vault folder `path` under `key`.

        What the audit log proves was shredded or re-encrypted since the backup stays so, therefore the log must go on from
        where it was at the backup.

        Args:
            path: folder of the vault.
            backup: the backup.
            recovery: what the backup was made under.
            key: key of the vault from now on.
            key_file: a file with it.
            expect: a head of the log (records, hash) kept elsewhere, later than the backup: the log must contain it.
            accept_lost_log: go on where records are missing; what they say was shredded is back, where its file is.

        Raises:
            VaultTampered: records are missing that the backup or `expect` remembers.
        """

    def scrub(
        self, sample: float = 1.0, *, progress: Callable[[int, int, int], object] | None = None
    ) -> dict[str, Any]:
        """Authenticates every header and a random share of the chunks of every object; goes on past damage.

        Args:
            sample: share of the chunks, in (0, 1].
            progress: gets objects done, objects in all, bytes done.

        Returns:
            objects, chunks, chunks_in_all, bytes, damaged (a list of object, error, code).
        """

    @staticmethod
    def fsck(
        path: str | PathLike[str],
        key: KeyProvider | Buffer | None = None,
        *,
        key_file: str | PathLike[str] | None = None,
        repair: bool = False,
        accept_older_keystore: bool = False,
    ) -> dict[str, Any]:
        """Checks a whole vault folder and, with `repair`, mends what can be mended without losing anything.

        Returns:
            findings (place, object, severity, damage, action, repaired), objects, opened, clean.

        Raises:
            WrongKey, NotAVault, VaultDestroyed
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """The path and where the key is.

        Raises:
            TypeError: the key does not travel; open the vault with a key file.
        """

    def consent_grant(self, subjects: str | Sequence[str], purpose: str, *, unknown_ok: bool = False) -> int:
        """Records consent of people for a purpose; it ends an earlier withdrawal.

        As all ``consent_`` methods, it takes one person or several (one record in the log), gives the number of rows of live data
        sets that it governs (0: nothing of theirs rests on consent), and refuses people without a row and purposes of no live
        data set (AEG-P014) unless `unknown_ok`. Identifiers and purposes are taken in one spelling: NFC, no space around them.
        """

    def consent_withdraw(self, subject: str | Sequence[str], purpose: str, *, unknown_ok: bool = False) -> int:
        """Withdraws it; permits in force end at the next batch. Rows count that rest on consent: others are not touched by it."""

    def consent_object(
        self, subject: str | Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """Records an objection, to one purpose or to all."""

    def consent_restrict(
        self, subject: str | Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """Restricts processing."""

    def consent_lift(
        self, subject: str | Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """Lifts an objection or a restriction."""

    def consent_erase(self, subject: str | Sequence[str], *, unknown_ok: bool = False) -> int:
        """Marks a subject as erased, finally: no permit covers their rows any more. `erase_person` removes the rows, too."""

    def consent_grant_many(self, subjects: Sequence[str], purpose: str, *, unknown_ok: bool = False) -> int:
        """`consent_grant` for several people."""

    def consent_withdraw_many(self, subjects: Sequence[str], purpose: str, *, unknown_ok: bool = False) -> int:
        """`consent_withdraw` for several people."""

    def consent_object_many(
        self, subjects: Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """`consent_object` for several people."""

    def consent_restrict_many(
        self, subjects: Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """`consent_restrict` for several people."""

    def consent_lift_many(
        self, subjects: Sequence[str], purpose: str | None = None, *, unknown_ok: bool = False
    ) -> int:
        """`consent_lift` for several people."""

    def consent_erase_many(self, subjects: Sequence[str], *, unknown_ok: bool = False) -> int:
        """`consent_erase` for several people."""

    def consent_erased(self, subjects: Sequence[str]) -> builtins.list[bool]:
        """Which of these people are erased."""

    def erase_person(self, subject: str, *, require: str | None = None) -> dict[str, Any]:
        """Erases a person: consent ends, and every live data set with rows of theirs is written anew without them, under
        fresh keys; the old keys are destroyed as a shred does. Names, terms and spent budgets stay. Gives a receipt.

        Rows in tables (`store_table`) are closed to every permit and not rewritten; the receipt says so. After a crash, call it
        again.

        Raises:
            PolicyError: AEG-P014, nothing in the vault is theirs.
            InsufficientAssurance: `require` cannot be reached; nothing has happened.
        """

    def record(self, event: str, facts: Mapping[str, Any]) -> int:
        """Appends a record to the audit log, durably; gives its number. Values are text, whole numbers, or lists of them.

        Events of the engine and the plugin (``store``, ``keystore.…``, ``privacy.…``) and the fields ``event``, ``time``,
        ``seq``, ``hash`` and ``prev`` are refused (AEG-V023).
        """

    def record_plugin(self, event: str, facts: Mapping[str, Any]) -> int:
        """As `record`, for the plugin's own events (``privacy.…``, ``ingest.…``) and no others."""

    def commit_head(self, name: str, count: int, mac: bytes) -> None:
        """Commits durably in the keystore that what is called `name` has `count` records, whose hash or MAC is `mac` (32 bytes).

        A lower count than the one known changes nothing; the same count with another MAC is AEG-V081.
        """

    def head(self, name: str) -> tuple[int, bytes] | None:
        """Count and MAC committed last under `name`."""

    def proof(self, domain: str, data: bytes) -> bytes:
        """A MAC over `data` in a domain that only this vault can make; 32 bytes. For records that a decision rests on."""

    def check_proof(self, domain: str, data: bytes, proof: bytes) -> bool:
        """Whether `proof` is the one of `data`; in constant time."""

    def audit_head(self) -> tuple[int, bytes]:
        """Number of records in the audit log, and the hash of the last."""

    def audit_records(self, event: str) -> builtins.list[dict[str, Any]]:
        """Records of one kind, oldest first."""

    def audit_find_last(self, event: str, field: str, value: str) -> dict[str, Any] | None:
        """The newest record of a kind whose field has a value."""

    def mac(self, domain: str, data: bytes) -> bytes:
        """HMAC-SHA-256 under a key of the vault and the domain; 32 bytes."""

    def seal_blob(self, domain: str, aad: bytes, plain: bytes) -> bytes:
        """AES-256-GCM under a key of the vault and the domain."""

    def open_blob(self, domain: str, aad: bytes, blob: bytes) -> bytes:
        """Opens what `seal_blob` made."""

@final
class Writer:
    """An object being written, registered as `io.RawIOBase`: `DataFrame.to_csv` and `numpy.savez` take it. Leaving the `with`
    block makes it durable and visible; an exception leaves nothing.
    """

    @property
    def id(self) -> str:
        """The id it will have."""

    @property
    def closed(self) -> bool: ...
    def write(self, data: Buffer) -> int:
        """Encrypts the bytes; gives their number."""

    def tell(self) -> int:
        """Bytes written so far."""

    def writable(self) -> bool: ...
    def readable(self) -> bool: ...
    def seekable(self) -> bool: ...
    def isatty(self) -> bool: ...
    def writelines(self, lines: object, /) -> None: ...
    def read(self, _size: int | None = None, /) -> None:
        """Unsupported (`io.UnsupportedOperation`), as are the ten below: an object is written at its end only."""

    def read1(self, _size: int | None = None, /) -> None: ...
    def readall(self) -> None: ...
    def readline(self, _size: int | None = None, /) -> None: ...
    def readlines(self, _hint: int | None = None, /) -> None: ...
    def readinto(self, _buffer: Buffer, /) -> None: ...
    def readinto1(self, _buffer: Buffer, /) -> None: ...
    def seek(self, _offset: int, _whence: int = 0, /) -> None: ...
    def truncate(self, _size: int | None = None, /) -> None: ...
    def fileno(self) -> None: ...
    def detach(self) -> None: ...
    def flush(self) -> None:
        """Nothing is visible before the end."""

    def close(self) -> None:
        """Makes the object durable and visible."""

    def abort(self) -> None:
        """Leaves nothing behind."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, _error: object, _trace: object) -> None: ...

@final
class SecretBuffer:
    """Plaintext in pages of its own: kept out of core dumps, page-aligned, cleared when closed.

    Has the buffer protocol (writable): `memoryview(b)`, `numpy.frombuffer(b, dtype)`, `torch.frombuffer(b, dtype=...)` work
    without a copy; copies that numpy or torch make are ordinary memory.
    """

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None:
        """Clears and frees the memory.

        Raises:
            BufferError: a view, array or tensor still uses it.
        """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

@final
class ObjectReader:
    """A seekable reader over one object's plaintext, registered as `io.RawIOBase`; every call redeems the permit again.

    It has the methods of `io.RawIOBase` and `io.BufferedIOBase`: `pickle.load`, `numpy.load`, `joblib.load` and
    `pandas.read_pickle` take it as it is. Wrap it in `io.BufferedReader` for many small reads, in `io.TextIOWrapper` for text.
    """

    def __len__(self) -> int: ...
    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from the current place; all that is left with a negative size or None."""

    def readall(self) -> bytes:
        """All that is left."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end. Does not move the place."""

    def read_into(self, buffer: Buffer, offset: int = 0, *, threads: int | None = None) -> int:
        """Fills `buffer` from `offset`, without a copy; gives the number of bytes. Does not move the place."""

    def readinto(self, buffer: Buffer) -> int:
        """Fills `buffer` from the current place, without a copy; 0 at the end."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place, counted from the start, the place or the end (0, 1, 2)."""

    def tell(self) -> int: ...
    def readable(self) -> bool: ...
    def seekable(self) -> bool: ...
    def writable(self) -> bool: ...
    def isatty(self) -> bool: ...
    def flush(self) -> None: ...
    def readline(self, size: int | None = ..., /) -> bytes:
        """Up to and with the next line end, `size` bytes at most; nothing at the end."""

    def readlines(self, hint: int | None = ..., /) -> builtins.list[bytes]:
        """The lines that are left; no more once they have `hint` bytes."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def read1(self, size: int | None = ..., /) -> bytes:
        """As `read`; a part of at most 1 MiB without a size."""

    def readinto1(self, buffer: Buffer, /) -> int: ...
    def fileno(self) -> int:
        """Unsupported (`io.UnsupportedOperation`), as are the four below: there is no file of the plaintext."""

    def truncate(self, _size: int | None = None, /) -> int: ...
    def write(self, _data: Buffer, /) -> int: ...
    def writelines(self, _lines: object, /) -> None: ...
    def detach(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None:
        """Drops the key and the buffers."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

def shuffle_order(seed: int, epoch: int, stream: int, count: int) -> bytes:
    """The permutation of the numbers below `count` by docs/ENCRYPTION.md, "Order of records": u32, little-endian."""

@final
class Records:
    """Records of one or several objects. `aegis_engine.dataset.VaultDataset` is the face of it."""

    def __new__(cls, sources: builtins.list[Any]) -> Self:
        """`sources`: `(reader, start, stride, count)`, `(reader, offsets)` with offsets as uint64, or a `RecordReader`."""

    def __len__(self) -> int: ...
    @property
    def stride(self) -> int | None:
        """Bytes of a record; None when they differ."""

    def take(self, wanted: Buffer, out: Buffer) -> None:
        """Copies the records of those numbers (uint64, in the order of storage) into `out`."""

    def get(self, record: int) -> SecretBuffer:
        """One record."""

    def shard_len(self, epoch: int, window: int | None, seed: int, shard: tuple[int, int]) -> int:
        """Records that a shard gives out in an epoch."""

    def stream(
        self, epoch: int, position: int, window: int | None, seed: int, shard: tuple[int, int], read_ahead: int
    ) -> RecordStream:
        """Starts an epoch of a shard at `position`; `window` None = in order."""

@final
class RecordStream:
    """The records of one epoch of one shard, decrypted ahead by threads of the engine."""

    def fill(self, stride: int, out: Buffer) -> int:
        """Fills `out` with records of `stride` bytes; gives how many, fewer only at the end."""

    def redeem(self) -> None:
        """Redeems the permits of what `fill` gave last once more: it is handed on record by record."""

    def next_record(self) -> SecretBuffer | None:
        """The next record of any size; None at the end."""

    @property
    def position(self) -> int:
        """Records given out or skipped so far."""

    def close(self) -> None:
        """Stops the threads and clears what they decrypted."""

@final
class RecordReader:
    """Reads the rows and columns a permit opens; every call checks the permit again."""

    def columns(self) -> list[tuple[str, str, int]]:
        """Permitted columns: name, dtype, values a record."""

    @property
    def record_len(self) -> int:
        """Bytes of one record as read."""

    def rows(self) -> bytes:
        """Permitted row numbers, little-endian u32."""

    def read_rows(self, rows: Buffer, out: Buffer) -> None:
        """Fills `out` with the permitted columns of `rows` (little-endian u32).

        Raises:
            PermitScope, PermitExpired, PermitRevoked: `out` is cleared.
        """

@final
class Permit:
    """A decision on record that opens some rows of one object for one purpose. No constructor, not picklable."""

    @property
    def id(self) -> str:
        """Random id, as in the audit record."""

    @property
    def object(self) -> str:
        """The object it opens."""

    @property
    def action(self) -> str:
        """read, train, evaluate or export."""

    @property
    def purpose(self) -> str:
        """What for."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def subjects(self) -> int:
        """Number of people among them."""

    @property
    def rows_per_subject_max(self) -> int:
        """Most rows of one person that it opens."""

    @property
    def round(self) -> int:
        """The round it was asked for."""

    @property
    def uses(self) -> int:
        """How often it was checked."""

@final
class ComplianceEngine:
    """Decides over one vault, by the bundle the vault was put under."""

    def __new__(cls, vault: Vault) -> Self: ...
    @property
    def bundle_hash(self) -> bytes:
        """SHA-256 of the bundle."""

    def authorize(
        self,
        dataset: str,
        *,
        action: str,
        purpose: str,
        columns: Sequence[str] | None = None,
        run: str = "",
        round: int = 0,
        node: str = "",
        app_hash: str = "",
        minutes: float = 10.0,
    ) -> Permit:
        """Decides, records the decision durably, and gives a permit for the rows that are allowed.

        Raises:
            PolicyDenied: names the policies and what each asks for; the refusal is on record.
        """

    def explain(
        self,
        dataset: str,
        *,
        action: str,
        purpose: str,
        columns: Sequence[str] | None = None,
        run: str = "",
        round: int = 0,
        node: str = "",
        app_hash: str = "",
        minutes: float = 10.0,
        today: int | None = None,
    ) -> dict[str, Any]:
        """The decision `authorize` would make; nothing is recorded, nothing is opened."""

    def layout(self, dataset: str) -> list[tuple[str, str, int]]:
        """Columns of a data set of records: name, dtype, values per record. Its rows stay closed, so no permit is needed."""

    def terms(self, dataset: str) -> dict[str, Any]:
        """All that the steward laid down for a data set, by id, with defaults filled in for data sets of earlier versions.

        ``purposes``, ``columns``, ``approved_columns``, ``min_rows``, ``min_subjects``, ``require_dp``,
        ``require_secure_aggregation``, ``budget_epsilon``, ``budget_micro_epsilon``, ``controller``, ``role`` (``train`` or
        ``holdout``), ``delta``, ``max_evaluations``, ``lineage``, ``lineages``.
        """

    def budget_epsilon(self, dataset: str) -> float:
        """ε that all runs together may spend on a data set, as its steward laid down."""

    def gate(
        self,
        permits: Sequence[Permit],
        update: Buffer,
        *,
        tensors: Sequence[tuple[str, Sequence[int]]],
        contract: Sequence[tuple[str, Sequence[int]]],
        metrics: Mapping[str, int],
        metrics_allowed: Sequence[str],
        secure_aggregation: bool,
        weight: int,
        weight_max: int,
        max_norm: float,
        session: DpSession | None = None,
        epsilon: float = 0.0,
        counts: tuple[float, int, bool] | None = None,
        counts_seed: int | None = None,
        counts_reservation: str | None = None,
        counts_epsilon: float = 0.0,
        min_rows: int = 0,
    ) -> Release:
        """Runs all release gates, asks the policies of each part, records the answer, and releases.

        Args:
            permits: all that were used: the one to train first, then the one to evaluate.
            update: float32 values; none for counts alone.
            tensors: names and shapes of the update.
            contract: those the round expects.
            metrics: exact counts; they need a permit to evaluate.
            metrics_allowed: names that may leave.
            secure_aggregation: whether it leaves masked.
            weight: weight in the mean; 1 where the data demand privacy.
            weight_max: largest weight.
            max_norm: largest L2 norm.
            session: what drew and noised, whatever comes of it used up; without it the update counts as unprotected.
            epsilon: ε of the training data's ledger with this round.
            counts: noise multiplier, largest loss of a record in thousandths, whether histograms are told.
            counts_seed: makes the noise of counts repeatable, and worthless.
            counts_reservation: id of the holdout's reservation.
            counts_epsilon: ε of the holdout's ledger with this evaluation.
            min_rows: fewest rows by the operator.

        Raises:
            GateFailed: with every gate's result.
            PolicyDenied: the gates passed, the policies object.
        """

    def release_nothing(self, metrics: Sequence[str], *, secure_aggregation: bool) -> Release:
        """Zero for each metric, of a node that has no rows to count; on record like any release."""

@final
class Release:
    """An update that passed every gate; made only by `ComplianceEngine.gate`."""

    @property
    def id(self) -> str:
        """Random id, as in the audit record."""

    @property
    def weight(self) -> int:
        """Weight in the mean."""

    @property
    def gates(self) -> list[tuple[str, bool, str, str]]:
        """(name, passed, observed, limit) of every gate."""

    def metrics(self) -> dict[str, int]:
        """The counts in clear; refused when they were released for secure aggregation."""

    def update(self) -> bytes:
        """The update in clear, float32; refused when it was released for secure aggregation."""

@final
class SecAggClient:
    """A client's side of secure aggregation in one run."""

    def __new__(
        cls,
        run_id: int,
        node_id: int,
        *,
        min_cohort: int,
        min_threshold: int,
        metrics: Sequence[str],
        metric_max: int,
        weight_max: int,
        identity: Identity | None = None,
        roster: Sequence[bytes] | None = None,
        colluding_percent: int = 10,
        min_honest: int = 2,
        require_commit: bool = False,
        policy: bytes | None = None,
        same_policy: bool = False,
    ) -> Self:
        """Without an identity a fresh one; without a roster the server's word for the others' keys is taken.

        Args:
            run_id: the run.
            node_id: this client.
            min_cohort: smallest cohort it joins.
            min_threshold: smallest threshold it accepts.
            metrics: names of what it counts, in order; a plan with others is refused at the share step (AEG-S023).
            metric_max: largest absolute value of a metric, beyond which it counts as this; a plan with another is refused.
            weight_max: largest weight that a plan may ask for.
            identity: its lasting key.
            roster: keys of those who may take part.
            colluding_percent: share of the clients that may work with the server against it.
            min_honest: fewest honest inputs any sum may be forced down to (`honest_inputs`).
            require_commit: takes part only in rounds with a commit step.
            policy: hash of the policy bundle over its data, for the advert.
            same_policy: takes part only with clients that advertise this same policy.
        """

    @staticmethod
    def from_bytes(state: bytes) -> SecAggClient:
        """Restores a state."""

    def to_bytes(self) -> bytes:
        """The state, secrets included: seal it."""

    @property
    def answers(self) -> int:
        """How often an answer changed the state. It only grows: a state with fewer than seen before was put back."""

    def advertise(self) -> bytes:
        """Identity, channel key, policy and smallest cohort, signed."""

    def share(self, request: bytes) -> bytes:
        """Round keys and sealed shares."""

    def check_masked(self, request: bytes, *, dim: int) -> None:
        """Dry run of `masked_input`: refuses whatever that would refuse, and changes nothing. For before anything is read.

        Args:
            request: the server's message.
            dim: values of the model.

        Raises:
            SecAggError, NotEnoughClients: the request would be refused.
        """

    def masked_input(self, request: bytes, release: Release, *, binding: bytes, dim: int | None = None) -> bytes:
        """The released update, quantised, weighted, masked, packed; a release of metrics alone adds zeros.

        Args:
            request: the server's message.
            release: what the gates let out.
            binding: `wire.binding` of what this client was sent; only the inputs of clients with the same one can be summed.
            dim: values of the model, for a release of metrics alone: the server's plan must name as many.
        """

    def commit(self, request: bytes) -> bytes:
        """The signed set of survivors; one a round."""

    def unmask(self, request: bytes) -> bytes:
        """One kind of share a peer, and the shares of the next round where the request brings it."""

def normal_name(text: str) -> str:
    """A name of a person, a purpose or a data set in its one spelling: composed (NFC), without space around it.

    Raises:
        PolicyError: AEG-P013: it is empty, too long, or has characters that are not seen.
    """

def honest_inputs(clients: int, colluders: int, *, commit: bool = False) -> int:
    """The fewest honest inputs that a server with so many of the clients can bring into a sum, in a complete graph."""

@final
class Identity:
    """The private key of a node or of an operator (Ed25519); the secret never becomes a Python object."""

    @staticmethod
    def create(path: str | PathLike[str]) -> Identity:
        """A fresh one, in a new file with mode 0600.

        Raises:
            FileExistsError: there is a file; an identity is never overwritten.
        """

    @staticmethod
    def load(path: str | PathLike[str]) -> Identity:
        """Reads the file.

        Raises:
            ValueError: it is no identity, or others may read it.
        """

    @property
    def public(self) -> bytes:
        """The verification key, 32 bytes."""

def roster_sign(identity: Identity, *, serial: int, issued: int, expires: int, members: Mapping[bytes, str]) -> str:
    """The text of a roster: names by identity, times in seconds since 1970.

    Raises:
        RosterError: a name cannot be written.
    """

def roster_open(
    text: str, signer: bytes, *, now: int | None = None, last: tuple[int, bytes] | None = None
) -> dict[str, Any]:
    """Reads a roster that `signer` must have signed: serial, issued, expires, hash, members (names by identity).

    Args:
        text: the file.
        signer: the operator's verification key.
        now: refuse what has expired, or is from the future by more than a day.
        last: serial and hash of the roster taken before, with `now`: refuse an older one, or another of that serial.

    Raises:
        RosterError: as its code says.
    """

@final
class SecAggServer:
    """The server's side of one run."""

    def __new__(
        cls,
        run_id: int,
        *,
        dim: int,
        metrics: Sequence[str],
        clip: float,
        value_bits: int,
        weight_max: int,
        metric_max: int,
        max_clients: int,
        min_clients: int,
        sparse: tuple[int, int] | None = None,
        commit: bool = False,
        roster: Sequence[bytes] | None = None,
    ) -> Self:
        """Profile S, a complete graph; or profile D with `sparse`: percent colluding, percent lost.

        Args:
            run_id: the run.
            dim: model values.
            metrics: names of the metrics.
            clip: largest absolute value.
            value_bits: bits of one value.
            weight_max: largest weight of a client.
            metric_max: largest absolute metric of a client.
            max_clients: largest cohort.
            min_clients: smallest number of contributions.
            sparse: what the sparse graph must bear.
            commit: a commit step in the complete graph, too.
            roster: keys of those who may take part; adverts of others are refused.
        """

    @property
    def threshold(self) -> int:
        """Shares that unmask one client, in the round in progress; 0 without one."""

    @property
    def degree(self) -> int:
        """Neighbours of each client; 0 without a round."""

    @property
    def has_commit_step(self) -> bool:
        """Whether the survivors sign before they unmask."""

    @property
    def need(self) -> int:
        """Fewest clients with which the round can go on."""

    @property
    def cohort(self) -> list[int]:
        """Clients of the round: those asked for that take part in a cohort so small."""

    @property
    def missing(self) -> list[int]:
        """Those of the cohort whose shares have not come."""

    def fork(self) -> SecAggServer:
        """Another server of this run with the same adverts: for another group of the round, or for the round that follows."""

    @property
    def ring_bits(self) -> int:
        """Bits of one masked value."""

    def add_advert(self, node: int, message: bytes) -> int | None:
        """Takes a client's advert. Gives the node that had its identity before, whose seat it takes; mostly None."""

    def bind(self, binding: bytes) -> None:
        """Says what the clients of the round are sent (`wire.binding`); before their requests. A fork has its own."""

    def begin_round(self, round: int, cohort: Sequence[int]) -> bytes:
        """Starts a round; gives the share request, the same for everyone in `cohort` (the property).

        Raises:
            SecAggError: too few of them take part in a cohort of that size, or the plan is for fewer.
            NotEnoughClients: fewer than `min_clients` advertised.
        """

    def add_share(self, node: int, message: bytes) -> None:
        """Takes a client's round keys and sealed shares."""

    def end_shares(self) -> list[int]:
        """Ends the share step: who goes on."""

    def masked_request(self, node: int) -> bytes:
        """What to send to one of them for the masked input."""

    def add_masked(self, node: int, message: bytes) -> None:
        """Adds a masked vector to the sum; it is not kept."""

    def end_masked(self) -> list[int]:
        """Ends the mask step: the survivors."""

    def commit_request(self) -> bytes:
        """The sets the survivors sign, the same for all."""

    def add_commit(self, node: int, message: bytes) -> None:
        """Takes a survivor's signature."""

    def unmask_request(self, node: int, next: bytes | None = None) -> bytes:
        """What to send to one survivor for its shares; `next`, the share request of a round that follows, rides along."""

    def add_unmask(self, node: int, message: bytes) -> bytes | None:
        """Takes a client's shares; gives its answer to the share request that rode along, for that round's `add_share`."""

    def finish(self) -> SecAggSum:
        """Unmasks the sum.

        Raises:
            NotEnoughClients: too few shares or contributors; the model is unchanged.
        """

@final
class SecAggSum:
    """The sum over the clients that took part."""

    @property
    def contributors(self) -> list[int]:
        """Whose vectors are in it."""

    @property
    def weight(self) -> int:
        """Sum of the weights."""

    @property
    def metrics(self) -> dict[str, int]:
        """Sums of the metrics."""

    @property
    def false_shares(self) -> list[tuple[int, int]]:
        """Shares that did not fit the others, and did not cost the round: who sent it, whose secret it is of."""

    def mean(self) -> bytes:
        """Weighted mean of the updates, float64."""

    def integers(self) -> list[int]:
        """The exact sum of the encoded vectors: values, weight, metrics."""

@final
class Rng:
    """A generator keyed by the operating system; rekeys itself after a fork."""

    def __new__(cls) -> Self: ...
    @staticmethod
    def insecure_test(seed: int) -> Rng:
        """A seeded generator for tests; protects nobody."""

    def add_gaussian(self, values: Buffer, sigma: float) -> None:
        """Adds noise of standard deviation `sigma` to float32 values in place; results lie on a grid of 2^-20 sigma."""

    def poisson_rows(self, rows: int, rate: float) -> bytes:
        """Row numbers below `rows`, each independently with probability `rate`; little-endian u32."""

@final
class DpSession:
    """One round of DP-SGD under one permit: it draws the batches, adds the noise and counts both. A gate uses it up."""

    def __new__(
        cls,
        permit: Permit,
        *,
        noise_multiplier: float,
        clip: float,
        sample_rate: float,
        steps: int,
        expected_batch: float,
        dim: int,
        reservation: str,
        insecure_seed: int | None = None,
    ) -> Self:
        """A session over the permit's rows, charged as `reservation`.

        Args:
            permit: one to train.
            noise_multiplier: σ in units of the clip, 0.05 to 10 000.
            clip: L2 bound of one record's gradient.
            sample_rate: Poisson rate.
            steps: steps that were reserved.
            expected_batch: public divisor of each sum, for the record.
            dim: trained coordinates.
            reservation: id in the ledger.
            insecure_seed: noise anybody can repeat; the release then says so.
        """

    def draw(self) -> bytes:
        """Places among the permit's rows of the next step's batch, little-endian u32; refused past the reserved steps."""

    def noise(self, sums: Buffer) -> bytes:
        """The sum of the drawn batch (float64) with noise on every coordinate, float32; once a step."""

    @property
    def spent(self) -> tuple[int, int, int, bool]:
        """Steps drawn, steps noised, coordinates noised, and whether every drawn step was noised whole."""

def clip_l2(values: Buffer, maximum: float) -> float:
    """Scales float32 values in place to an L2 norm of at most `maximum`; gives the norm before."""

def encode_update(
    update: Buffer,
    weight: int,
    metrics: Sequence[int],
    *,
    names: Sequence[str],
    clip: float,
    value_bits: int,
    weight_max: int,
    metric_max: int,
    max_clients: int,
) -> list[int]:
    """The plain integers of one contribution, for comparison with an unmasked sum."""

def audit_verify(folder: str | PathLike[str], *, expect: tuple[int, bytes] | None = None) -> dict[str, Any]:
    """Recomputes the chain of an audit log; gives records, head and bytes. Needs no key.

    Args:
        expect: (records, hash) kept elsewhere; finds truncation and rewriting.

    Raises:
        AuditTampered: names the file and the record.
    """

def audit_read(folder: str | PathLike[str]) -> list[dict[str, Any]]:
    """All records of an audit log, with ``seq`` and ``hash``."""

@final
class TableSchema:
    """Names and types of the columns that are read."""

    @property
    def names(self) -> list[str]:
        """Names, in order."""
    @property
    def types(self) -> list[str]:
        """Arrow's names of the types."""
    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""

@final
class TableReader:
    """A table under a permit, which is redeemed again at each read of the object and at each batch.

    Consumers of the Arrow PyCapsule interface take it as it is: ``pyarrow.table(reader)``, ``polars.DataFrame(reader)``,
    ``pandas.DataFrame.from_arrow(reader)``. Arrow carries errors as text: in a consumer, an ended permit is the consumer's own
    error with a text that starts with the code, such as ``[AEG-P007]``. Iterating over the reader raises this package's.
    """

    @property
    def format(self) -> str:
        """``parquet`` or ``csv``."""
    @property
    def schema(self) -> TableSchema:
        """The columns that are read."""
    @property
    def columns(self) -> list[str]:
        """Their names."""
    @property
    def num_rows(self) -> int | None:
        """Rows that are read; None for a CSV object whose lines were not counted yet (`blocks` does)."""
    def blocks(self) -> list[int]:
        """Rows that are read of each block: a row group of Parquet, a run of up to 65 536 lines of CSV."""
    def block(self, at: int) -> TableBatches:
        """Batches of one block."""
    def block_to_numpy(self, at: int) -> dict[str, np.ndarray[Any, Any]]:
        """As `to_numpy`, of one block."""
    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of numbers (dates, times and fixed-size lists of numbers among them) as writable arrays; columns of other
        types are left out. Missing values become NaN or NaT; the arrays lie outside core dumps and are cleared when freed.

        A name that is there twice gets a number: the second ``a`` is ``a_2``.

        Raises:
            TableError: a column of whole numbers or booleans has missing values.
        """
    def __iter__(self) -> TableBatches: ...
    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Arrow PyCapsule interface; each call starts a new pass."""

@final
class TableBatches:
    """Iterates over the batches of a table. Ends at the first error."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> TableBatch: ...

@final
class TableBatch:
    """Some rows of a table."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
    @property
    def num_rows(self) -> int:
        """Number of rows."""
    def __len__(self) -> int: ...
    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """As `TableReader.to_numpy`, of these rows."""
    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[CapsuleType, CapsuleType]:
        """Arrow PyCapsule interface: schema and a struct array."""

@final
class ColumnBuffer:
    """Memory of one column of numbers, behind the arrays of `TableReader.to_numpy`."""

    def __len__(self) -> int: ...
