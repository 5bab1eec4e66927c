"""Vaults, their keys, and objects being written."""

import builtins
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Self, final
from uuid import UUID

from aegis_engine._data import Buffer, ObjectReader, RecordReader, SecretBuffer, TableReader
from aegis_engine._permits import Permit
from aegis_engine.data import Block, Csv, Parquet, Record, VaultDataset
from aegis_engine.types import (
    Amended,
    AuditRecord,
    DatasetCard,
    EraseReceipt,
    FsckReport,
    MachineFact,
    ObjectInfo,
    ScrubReport,
    ShredReceipt,
)

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
    def governance_reads(self) -> int:
        """How often this handle decrypted governance rows: once per data set, as long as the data sets stay the same."""

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
            csv: how a CSV file is written (`aegis_engine.data.Csv`); its types are kept with the data set.

        Raises:
            TableError: the file does not read as such a table; nothing was stored.
            VaultError: subjects or terms do not fit the table; nothing was stored.
        """

    def create_table(self, name: str, *, attrs: Mapping[str, str] | None = None) -> TableDraft:
        """Starts a governed table whose Parquet bytes are written piece by piece: no file with its plaintext is needed.

        Raises:
            VaultError: there is an object of that name.
        """

    def table_rows(self, draft: TableDraft, subjects: Sequence[str], class_of: Sequence[int] | None = None) -> None:
        """Says whom the next rows of a draft are about, one a row, in the order of its rows; 18 bytes a row are kept.

        Args:
            draft: the table on its way.
            subjects: identifiers; kept as keyed pseudonyms.
            class_of: class of each row; None puts all in the first.

        Raises:
            PolicyError: AEG-P013 for what is no identifier.
        """

    def split_rows(
        self,
        sides: tuple[TableDraft, TableDraft | None],
        share: float,
        people: tuple[Buffer, Buffer],
        person_of: Buffer,
    ) -> bytes:
        """Says whom the next rows are about, and on which side of a holdout each is, as `held_out` draws; all of the first class.

        Args:
            sides: the tables on their way to learn from and to hold out; None where nobody is held out.
            share: of the people, held out.
            people: identifiers, each person once: UTF-8 back to back, and one more 32-bit offset than people, as Arrow's
                text columns have them.
            person_of: the person of each row, by place among `people`; 32 bits each.

        Returns:
            One byte a row: 1 where it is held out. Each draft knows the people of its rows, in their order.

        Raises:
            PolicyError: AEG-P013 for what is no identifier. No draft has taken a row.
            ValueError: offsets or places that do not fit. No draft has taken a row.
        """

    def store_tables(
        self,
        drafts: Sequence[tuple[TableDraft, Sequence[tuple[str, int | None, bool]], Mapping[str, Any], str | None]],
        *,
        grant: Mapping[str, Sequence[str] | None] | None = None,
    ) -> tuple[builtins.list[str], builtins.list[tuple[str, int, int]]]:
        """Makes drafts visible, all of them or none, with the consent that came with them. Each is read through first.

        Args:
            drafts: draft, classes and terms as for `store_table`, and what the columns mean (1 MiB of text at most).
            grant: by purpose, who consents, as far as they never withdrew it; None for everybody in the tables.

        Returns:
            Ids in the same order, and by purpose how many people have consent now and had none, and from how many it was
            withheld because they withdrew it.

        Raises:
            TableError: the bytes are no Parquet file; nothing was stored.
            PolicyError: AEG-P016 for rows of erased people; nothing was stored.
        """

    def extend_tables(
        self,
        drafts: Sequence[
            tuple[str, tuple[TableDraft, Sequence[tuple[str, int | None, bool]], Mapping[str, Any], str | None]]
        ],
        *,
        grant: Mapping[str, Sequence[str] | None] | None = None,
        reason: str = "",
    ) -> tuple[builtins.list[str], builtins.list[tuple[str, int, int]]]:
        """Puts the rows of each draft behind those of a data set, all of them or none. The data set is written anew under fresh
        keys and has a new id; name, terms, lineages stay. Rows of people who are erased go on the way.

        Args:
            drafts: the data set's id and a draft as for `store_tables`, whose terms count for nothing but its classes.
            grant: as for `store_tables`.
            reason: why; needed for rows under another lawful basis, rows that may be used for longer than those there are, and
                people who were promised a smaller budget. It is put on record in the audit log.

        Raises:
            VaultError: a data set is no table, is named twice or has other columns, or the reason is missing; nothing has
                happened.
        """

    def card(self, dataset: str | UUID) -> DatasetCard:
        """What a steward may see of a data set without reading it: terms, counts, states of consent. No value, no name."""

    def amend(
        self,
        dataset: str | UUID,
        *,
        facts: Mapping[str, Any] | None = None,
        last_day: int | None = None,
        reason: str = "",
    ) -> Amended:
        """Changes the terms of a data set: rows and terms are sealed anew, the old keys destroyed; permits of before end.

        Args:
            dataset: its id; it has another one afterwards.
            facts: the terms as they shall be; its columns, role and lineages count for nothing. None: they stay.
            last_day: last day of use of every row, days since 1970-01-01. None: it stays.
            reason: why; needed where anything becomes wider, and put on record in the audit log.

        Raises:
            VaultError: nothing would change, or something becomes wider without a reason; nothing has happened.
        """

    def amend_together(
        self,
        changes: Sequence[tuple[str | UUID, Mapping[str, Any] | None, int | None]],
        *,
        reason: str = "",
    ) -> builtins.list[Amended]:
        """As `amend`, of several data sets in one step: a data set and its holdout have the new terms, or neither.

        Args:
            changes: id, terms and last day of each, as for `amend`. A data set whose terms are these already stays as it is.
            reason: as for `amend`.

        Raises:
            VaultError: as `amend`, or a data set is named twice; nothing has happened.
        """

    def consent_of(self, subject: str) -> tuple[int, dict[str, dict[str, bool]]]:
        """Rows of a person in live data sets, and by purpose what the ledger says: consent, objected, restricted, erased.

        Raises:
            PolicyError: AEG-P014 when no row is theirs.
        """

    def held_out(self, subjects: Sequence[str], share: float) -> builtins.list[bool]:
        """Which people belong to a holdout of that share of all people: drawn by person under a key of the vault.

        One person is on the same side in every delivery. A larger share holds out the same people and more.

        Raises:
            PolicyError: AEG-P013 for what is no identifier.
        """

    def blocks(self, permit: Permit, blocks: int) -> bytes:
        """The block of each row that the permit opens, in the order of its rows, little-endian u32.

        It is a keyed hash of the row's person alone: all rows of a person are in one block, whoever else is there.

        Args:
            permit: over rows of a data set.
            blocks: how many there are, 1 to 65 536.

        Raises:
            PermitError: the permit has ended, or is not for rows.
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

    def list(self) -> builtins.list[ObjectInfo]:
        """Objects: id, name, media_type, subject, attrs, created, bytes, chunks, chunk_bytes."""

    def stat(self, object: str | UUID) -> ObjectInfo:
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
        """Records of objects as a stream; see `aegis_engine.data`.

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

    def shred(self, object: str | UUID, *, require: str | None = None) -> ShredReceipt:
        """Destroys the keys of an object (a data set's governance rows included) and ratchets the epoch.

        Args:
            require: level to reach or fail: logical, ratcheted-file, hardware, kms.

        Returns:
            The receipt: objects, level, epoch_before, epoch_after, when, audit_seq, copies, caveats.

        Raises:
            InsufficientAssurance, ObjectNotFound, ObjectShredded
        """

    def shred_many(self, objects: Sequence[str | UUID], *, require: str | None = None) -> ShredReceipt:
        """As `shred` for all of them: one ratchet, one receipt; all or none."""

    def shred_subject(self, subject: str, *, require: str | None = None) -> ShredReceipt:
        """Shreds every object about that subject, and the subject's key.

        Raises:
            ObjectNotFound: no object is about it.
        """

    def destroy(self, *, require: str | None = None) -> ShredReceipt:
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

    def scrub(self, sample: float = 1.0, *, progress: Callable[[int, int, int], object] | None = None) -> ScrubReport:
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
    ) -> FsckReport:
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

    def consent_grant_unless_withdrawn(
        self, subjects: Sequence[str], purpose: str, *, unknown_ok: bool = False
    ) -> tuple[int, int]:
        """Consent as a list that may be old gives it: to those who never withdrew it, as a withdrawal stands.

        Returns:
            How many people have consent now and had none, and from how many it was withheld.
        """

    def consent_known(self, subjects: Sequence[str]) -> builtins.list[bool]:
        """Which of these people have a row in a live data set."""

    def consent_erased(self, subjects: Sequence[str]) -> builtins.list[bool]:
        """Which of these people are erased."""

    def erase_person(self, subject: str, *, require: str | None = None) -> EraseReceipt:
        """Erases a person: consent ends, and every live data set with rows of theirs is written anew without them, under
        fresh keys; the old keys are destroyed as a shred does. Names, terms and spent budgets stay. Gives a receipt.

        A table is written anew as Parquet. After a crash, call it again.

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

    def audit_records(self, event: str) -> builtins.list[AuditRecord]:
        """Records of one kind, oldest first."""

    def audit_find_last(self, event: str, field: str, value: str) -> AuditRecord | None:
        """The newest record of a kind whose field has a value."""

    def mac(self, domain: str, data: bytes) -> bytes:
        """HMAC-SHA-256 under a key of the vault and the domain; 32 bytes."""

    def seal_blob(self, domain: str, aad: bytes, plain: bytes) -> bytes:
        """AES-256-GCM under a key of the vault and the domain."""

    def open_blob(self, domain: str, aad: bytes, blob: bytes) -> bytes:
        """Opens what `seal_blob` made."""

@final
class TableDraft:
    """A governed table whose Parquet bytes come piece by piece; a file object for ``pyarrow.parquet.ParquetWriter``.

    `Vault.table_rows` says whom its rows are about. Nothing is visible before `Vault.store_tables`; dropping it leaves nothing.
    """

    @property
    def id(self) -> str:
        """The id the data set will have."""

    @property
    def closed(self) -> bool:
        """Whether it was stored or aborted."""

    @property
    def rows(self) -> int:
        """Rows whose people are known."""

    @property
    def people(self) -> int:
        """Different people among them."""

    def write(self, data: Buffer) -> int:
        """Encrypts the next bytes of the file; gives their number."""

    def tell(self) -> int:
        """Bytes written so far."""

    def readable(self) -> bool:
        """False."""

    def writable(self) -> bool:
        """True."""

    def seekable(self) -> bool:
        """False: bytes come at the end only."""

    def flush(self) -> None:
        """Nothing is visible before the end."""

    def abort(self) -> None:
        """Leaves nothing behind."""

@final
class Writer:
    """An object being written, registered as `io.RawIOBase`: `DataFrame.to_csv` and `numpy.savez` take it. Leaving the `with`
    block makes it durable and visible; an exception leaves nothing.
    """

    @property
    def id(self) -> str:
        """The id it will have."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""

    def write(self, data: Buffer) -> int:
        """Encrypts the bytes; gives their number."""

    def tell(self) -> int:
        """Bytes written so far."""

    def writable(self) -> bool:
        """Whether it can be written to."""

    def readable(self) -> bool:
        """Whether it can be read from."""

    def seekable(self) -> bool:
        """Whether it has a place that can be moved."""

    def isatty(self) -> bool:
        """False: it is no terminal."""

    def writelines(self, lines: object, /) -> None:
        """Writes buffers one after the other."""

    def read(self, _size: int | None = None, /) -> None:
        """Unsupported (`io.UnsupportedOperation`), as are the ten below: an object is written at its end only."""

    def read1(self, _size: int | None = None, /) -> None:
        """Unsupported."""

    def readall(self) -> None:
        """Unsupported."""

    def readline(self, _size: int | None = None, /) -> None:
        """Unsupported."""

    def readlines(self, _hint: int | None = None, /) -> None:
        """Unsupported."""

    def readinto(self, _buffer: Buffer, /) -> None:
        """Unsupported."""

    def readinto1(self, _buffer: Buffer, /) -> None:
        """As `readinto`."""

    def seek(self, _offset: int, _whence: int = 0, /) -> None:
        """Unsupported."""

    def truncate(self, _size: int | None = None, /) -> None:
        """Unsupported."""

    def fileno(self) -> None:
        """Unsupported."""

    def detach(self) -> None:
        """Unsupported."""

    def flush(self) -> None:
        """Nothing is visible before the end."""

    def close(self) -> None:
        """Makes the object durable and visible."""

    def abort(self) -> None:
        """Leaves nothing behind."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        """Makes the object durable, or leaves nothing after an error."""

def doctor(path: str | PathLike[str]) -> list[MachineFact]:
    """What this machine, and the folder at `path`, do to the promises of a vault: topic, found, risk (None = good)."""

def harden_process() -> None:
    """No core dumps and no attaching by others, for the whole process (`PR_SET_DUMPABLE` 0, `RLIMIT_CORE` 0).

    Breaks debuggers and profilers such as py-spy, on purpose; the core limit cannot be raised again.
    """

def bench_cipher(chunk: int, rounds: int) -> tuple[float, float, float, float]:
    """Seconds of `rounds` chunks on one thread: our seal, aws-lc's alone, our open, aws-lc's alone."""

def normal_name(text: str) -> str:
    """A name of a person, a purpose or a data set in its one spelling: composed (NFC), without space around it.

    Raises:
        PolicyError: AEG-P013: it is empty, too long, or has characters that are not seen.
    """
