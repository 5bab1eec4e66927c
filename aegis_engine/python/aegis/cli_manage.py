"""``aegis vault``: names, keys, erasure, care."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from aegis.cli_base import KEY_FORMS, AsJson, Folder, Key, KeyFile, Yes, bar, log_head, plain, provider, say, show, size
from aegis.cli_vault import Object, object_id, opened, vault_app
from aegis_engine import Vault
from aegis_engine import doctor as examine


class Level(enum.StrEnum):
    """How thoroughly an object can be destroyed, weakest first."""

    LOGICAL = "logical"
    RATCHETED_FILE = "ratcheted-file"
    HARDWARE = "hardware"
    KMS = "kms"


Require = Annotated[Level | None, typer.Option(help="fail unless this level is reached")]


@vault_app.command("rename", rich_help_panel="Make, fill, look")
def vault_rename(
    vault: Folder,
    target: Object,
    name: Annotated[str, typer.Argument(help="the new name")],
    key_file: KeyFile = None,
    key: Key = None,
) -> None:
    """Gives an object another name. Its file stays as it is."""
    within = opened(vault, key_file, key)
    found = object_id(within, target)
    within.rename(found, name)
    say(f"{found}  {name}")


def _make_key(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise typer.BadParameter(f"{file} exists; choose a new file", param_hint="--new-key-file") from None
    with os.fdopen(descriptor, "wb") as out:
        out.write(os.urandom(32))
        out.flush()
        os.fsync(descriptor)


@vault_app.command("rotate", rich_help_panel="Keys")
def vault_rotate(
    vault: Folder,
    key_file: KeyFile = None,
    key: Key = None,
    new_key_file: Annotated[Path | None, typer.Option(help="file with the new key")] = None,
    new_key: Annotated[str | None, typer.Option(metavar="WHERE", help=f"the new key: {KEY_FORMS}")] = None,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="make a new random key in the new key file first")
    ] = False,
) -> None:
    """Puts the vault under another key, or under a fresh root of the same key. No data is written."""
    if make_key and (new_key_file is None or new_key is not None):
        raise typer.BadParameter("--make-key writes a key file; name it with --new-key-file", param_hint="--make-key")
    within = opened(vault, key_file, key)
    if make_key and new_key_file is not None:
        _make_key(new_key_file)
    if new_key is None and new_key_file is None:
        epoch = within.rotate()
        say(f"epoch {epoch}, under the same key")
        return
    epoch = within.rotate(provider(new_key_file, new_key, option="--new-key"))
    say(f"epoch {epoch}, under the new key; the old one opens nothing any more")


@vault_app.command("reencrypt", rich_help_panel="Keys")
def vault_reencrypt(
    vault: Folder,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECTS...", help="ids or names")],
    key_file: KeyFile = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Encrypts objects anew under fresh keys; the old keys are destroyed, the ids change."""
    within = opened(vault, key_file, key)
    done = []
    for old in [object_id(within, given) for given in objects]:
        entry = within.stat(old)
        with bar(entry["bytes"], entry["name"], quiet=as_json) as progress:
            done.append({"old": old, "new": str(within.reencrypt(old, progress=progress)), "name": entry["name"]})
    show(done, [f"{d['old']} -> {d['new']}  {d['name']}" for d in done], as_json)


def _receipt(receipt: dict[str, Any], what: str, as_json: bool) -> None:
    lines = [
        what,
        f"level: {receipt['level']} (epoch {receipt['epoch_before']} -> {receipt['epoch_after']})",
        *(f"not reached: keystore backup {c['label']} of epoch {c['epoch']}" for c in receipt["copies"]),
        *(f"note: {c}" for c in receipt["caveats"]),
    ]
    show(receipt, lines, as_json)


@vault_app.command("shred", rich_help_panel="Erase")
def vault_shred(
    vault: Folder,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECTS...", help="ids or names; all of them or none")],
    key_file: KeyFile = None,
    key: Key = None,
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys the keys of objects, for good, and prints the receipt."""
    within = opened(vault, key_file, key)
    found = [object_id(within, given) for given in objects]
    names = ", ".join(f"{one} ({within.stat(one)['name']})" for one in found)
    if not yes:
        typer.confirm(plain(f"destroy the keys of {names} for ever?"), abort=True)
    receipt = within.shred_many(found, require=require)
    _receipt(receipt, f"shredded {', '.join(receipt['objects'])}", as_json)


@vault_app.command("shred-subject", rich_help_panel="Erase")
def vault_shred_subject(
    vault: Folder,
    subject: Annotated[str, typer.Argument(help="the person, as given when the objects were added")],
    key_file: KeyFile = None,
    key: Key = None,
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys the keys of every object about one person alone. Rows of theirs in data sets: erase-person."""
    within = opened(vault, key_file, key)
    about = [entry for entry in within.list() if entry["subject"] == subject]
    if about and not yes:
        names = ", ".join(entry["name"] for entry in about)
        typer.confirm(plain(f"destroy the keys of {len(about)} objects ({names}) for ever?"), abort=True)
    receipt = within.shred_subject(subject, require=require)
    _receipt(receipt, f"shredded {', '.join(receipt['objects'])}", as_json)


@vault_app.command("erase-person", rich_help_panel="Erase")
def vault_erase_person(
    vault: Folder,
    subject: Annotated[str, typer.Argument(help="the person, as given when the data were taken in")],
    key_file: KeyFile = None,
    key: Key = None,
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erases a person: ends consent and writes every data set with rows of theirs anew without them. Prints the receipt."""
    within = opened(vault, key_file, key)
    if not yes:
        typer.confirm("erase this person for ever?", abort=True)
    receipt = within.erase_person(subject, require=require)
    rows = sum(entry["rows"] for entry in receipt["datasets"] if not entry["unreachable"])
    told = f"erased: {rows} rows removed from {len(receipt['datasets'])} data sets, {len(receipt['objects'])} objects shredded"
    _receipt(receipt, told, as_json)


@vault_app.command("destroy", rich_help_panel="Erase")
def vault_destroy(
    vault: Folder,
    key_file: KeyFile = None,
    key: Key = None,
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys a whole vault: its root, its keystore, its files. The audit log stays, as evidence."""
    within = opened(vault, key_file, key)
    count = len(within.list())
    if not yes:
        typed = typer.prompt(f"this destroys {count} objects for ever; type the vault's id ({within.id}) to go on")
        if typed.strip() != within.id:
            typer.echo("not destroyed: that is another id", err=True)
            raise SystemExit(1)
    receipt = within.destroy(require=require)
    _receipt(receipt, f"destroyed vault {within.id} with {len(receipt['objects'])} objects", as_json)


@vault_app.command("backup", rich_help_panel="Keys")
def vault_backup(
    vault: Folder,
    target: Annotated[Path, typer.Argument(help="new file for the keystore backup; not on the vault's disk")],
    recovery: Annotated[str, typer.Option(metavar="WHERE", help=f"recovery key: {KEY_FORMS}")],
    key_file: KeyFile = None,
    key: Key = None,
) -> None:
    """Backs the keystore up under a recovery key. The copy is on record: no later shred reaches it."""
    opened(vault, key_file, key).backup_keystore(str(target), provider(None, recovery, option="--recovery"))
    say(f"keystore backed up to {target}; every later shred receipt lists this copy")


@vault_app.command("restore", rich_help_panel="Keys")
def vault_restore(
    vault: Folder,
    backup: Annotated[Path, typer.Argument(help="the keystore backup")],
    recovery: Annotated[str, typer.Option(metavar="WHERE", help=f"recovery key: {KEY_FORMS}")],
    key_file: KeyFile = None,
    key: Key = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="RECORDS:HASH",
            help="a head of the audit log kept elsewhere, later than the backup; the log must contain it",
        ),
    ] = None,
    accept_lost_log: Annotated[
        bool,
        typer.Option(
            "--accept-lost-log",
            help="go on without audit records that are lost; what they say was shredded may be back",
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Puts a keystore backup into a vault whose keystore or epoch.key was lost. Objects stored since have no key.

    What was shredded since stays shredded: the audit log proves it, so it must be there up to where the backup knows it.
    """
    head = log_head(expect)
    if not yes:
        typer.confirm(plain(f"replace the keystore of {vault} by the backup?"), abort=True)
    restored = Vault.restore_keystore(
        str(vault),
        str(backup),
        provider(None, recovery, option="--recovery"),
        provider(key_file, key),
        expect=head,
        accept_lost_log=accept_lost_log,
    )
    say(f"vault {restored.id} is at epoch {restored.epoch} with {len(restored.list())} objects")


@vault_app.command("scrub", rich_help_panel="Check")
def vault_scrub(
    vault: Folder,
    key_file: KeyFile = None,
    key: Key = None,
    sample: Annotated[float, typer.Option(help="share of the chunks to read, above 0 and up to 1")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Reads and authenticates the vault from end to end, or a random sample of it, and puts the result on record."""
    within = opened(vault, key_file, key)
    with bar(len(within.object_ids()), "objects", quiet=as_json, least=20) as progress:
        report = within.scrub(sample, progress=(lambda done, *_: progress(done)) if progress else None)
    damaged = [f"{d['object']}  DAMAGED: {d['error']} [{d['code']}]" for d in report["damaged"]]
    read = f"{report['chunks']} of {report['chunks_in_all']} chunks ({size(report['bytes'])}) of {report['objects']} objects"
    show(report, [*damaged, f"read {read}; {len(damaged)} objects are damaged"], as_json)
    raise SystemExit(5 if damaged else 0)


@vault_app.command("fsck", rich_help_panel="Check")
def vault_fsck(
    vault: Folder,
    key_file: KeyFile = None,
    key: Key = None,
    repair: Annotated[bool, typer.Option("--repair", help="mend what can be mended without losing anything")] = False,
    accept_older_keystore: Annotated[
        bool, typer.Option(help="go on from an older keystore.akv: what was stored since is lost")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Checks the folder of a vault: keystore, journal, every header and size, files nobody knows. Exit code 5 if anything
    is left that is wrong.
    """
    report = Vault.fsck(str(vault), provider(key_file, key), repair=repair, accept_older_keystore=accept_older_keystore)
    lines = []
    for f in report["findings"]:
        lines.append(f"{f['severity']}: {f['place']}: {f['damage']}")
        lines.append(f"  {'done' if f['repaired'] else 'to do'}: {f['action']}")
    if not report["opened"]:
        end = "the vault could not be opened; its objects were not looked at"
    elif report["clean"]:
        end = f"{report['objects']} objects, clean" + (" after repair" if report["findings"] else "")
    else:
        end = f"{report['objects']} objects; not clean" + ("" if repair else ", try --repair")
    show(report, [*lines, end], as_json)
    raise SystemExit(0 if report["clean"] else 5)


@vault_app.command("doctor", rich_help_panel="Check")
def vault_doctor(
    vault: Annotated[Path, typer.Argument(metavar="VAULT", help="a vault, or the folder it shall lie in")],
    as_json: AsJson = False,
) -> None:
    """Says what the machine does to the promises of a vault: file system, disk, swap, core dumps, attainable shred level.
    Needs no key.
    """
    if not vault.exists():
        raise typer.BadParameter(f"{vault} does not exist; give a vault, or the folder it shall lie in")
    facts = examine(str(vault))
    lines = [f"{f['topic'] + ':':<16} {f['found']}" for f in facts]
    notes = [f"note: {f['topic']}: {f['risk']}" for f in facts if f["risk"]]
    show(facts, [*lines, *(notes or ["nothing to complain about"])], as_json)


@vault_app.command("bench", rich_help_panel="Check")
def vault_bench(
    size_text: Annotated[str, typer.Option("--size", help="size of the object, such as 1GiB or 256MiB")] = "1GiB",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="where to work; a tmpfs with room, or here, by default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measures a vault beside age, cp, plain reads, the raw cipher and pyarrow: ratios in one run. Needs room for five
    times the size.
    """
    from aegis_engine import bench

    units = {"GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}
    number, unit = next(((size_text[: -len(u)], u) for u in units if size_text.endswith(u)), ("", ""))
    try:
        wanted = int(float(number) * units[unit])
    except (KeyError, ValueError):
        raise typer.BadParameter(
            f"{size_text!r} is no size; give a number and GiB or MiB, such as 1GiB", param_hint="--size"
        ) from None
    rows = bench.run(wanted, directory, progress=lambda step: say(f"... {step}", err=True))
    show([row.as_dict() for row in rows], bench.table(rows), as_json)
