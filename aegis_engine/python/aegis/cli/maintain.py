"""``aegis vault``: names, keys, backups, checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aegis.cli.keys import KEY_FORMS, Place, on_vault, provider
from aegis.cli.output import AsJson, Yes, bar, log_head, say, show, size, sure
from aegis.cli.vault import Object, object_id
from aegis_engine import Vault


@on_vault
def vault_rename(
    vault: Place,
    target: Object,
    name: Annotated[str, typer.Argument(help="the new name")],
) -> None:
    """Gives an object another name. Its file stays as it is."""
    within = vault.open()
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


@on_vault
def vault_rotate(
    vault: Place,
    new_key_file: Annotated[Path | None, typer.Option(help="file with the new key")] = None,
    new_key: Annotated[str | None, typer.Option(metavar="WHERE", help=f"the new key: {KEY_FORMS}")] = None,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="make a new random key in the new key file first")
    ] = False,
) -> None:
    """Puts the vault under another key, or under a fresh root of the same key. No data is written."""
    if make_key and (new_key_file is None or new_key is not None):
        raise typer.BadParameter("--make-key writes a key file; name it with --new-key-file", param_hint="--make-key")
    within = vault.open()
    if make_key and new_key_file is not None:
        _make_key(new_key_file)
    if new_key is None and new_key_file is None:
        epoch = within.rotate()
        say(f"epoch {epoch}, under the same key")
        return
    epoch = within.rotate(provider(new_key_file, new_key, option="--new-key"))
    say(f"epoch {epoch}, under the new key; the old one opens nothing any more")


@on_vault
def vault_reencrypt(
    vault: Place,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECTS...", help="ids or names")],
    as_json: AsJson = False,
) -> None:
    """Encrypts objects anew under fresh keys; the old keys are destroyed, the ids change."""
    within = vault.open()
    done = []
    for old in [object_id(within, given) for given in objects]:
        entry = within.stat(old)
        with bar(entry["bytes"], entry["name"], quiet=as_json) as progress:
            done.append({"old": old, "new": str(within.reencrypt(old, progress=progress)), "name": entry["name"]})
    show(done, [f"{d['old']} -> {d['new']}  {d['name']}" for d in done], as_json)


@on_vault
def vault_backup(
    vault: Place,
    target: Annotated[Path, typer.Argument(help="new file for the keystore backup; not on the vault's disk")],
    recovery: Annotated[str, typer.Option(metavar="WHERE", help=f"recovery key: {KEY_FORMS}")],
) -> None:
    """Backs the keystore up under a recovery key. The copy is on record: no later shred reaches it."""
    vault.open().backup_keystore(str(target), provider(None, recovery, option="--recovery"))
    say(f"keystore backed up to {target}; every later shred receipt lists this copy")


@on_vault
def vault_restore(
    vault: Place,
    backup: Annotated[Path, typer.Argument(help="the keystore backup")],
    recovery: Annotated[str, typer.Option(metavar="WHERE", help=f"recovery key: {KEY_FORMS}")],
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
    sure(f"replace the keystore of {vault.folder} by the backup?", yes=yes)
    restored = Vault.restore_keystore(
        str(vault.folder),
        str(backup),
        provider(None, recovery, option="--recovery"),
        vault.provider(),
        expect=head,
        accept_lost_log=accept_lost_log,
    )
    say(f"vault {restored.id} is at epoch {restored.epoch} with {len(restored.list())} objects")


@on_vault
def vault_scrub(
    vault: Place,
    sample: Annotated[float, typer.Option(help="share of the chunks to read, above 0 and up to 1")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Reads and authenticates the vault from end to end, or a random sample of it, and puts the result on record."""
    within = vault.open()
    with bar(len(within.object_ids()), "objects", quiet=as_json, least=20) as progress:
        report = within.scrub(sample, progress=(lambda done, *_: progress(done)) if progress else None)
    damaged = [f"{d['object']}  DAMAGED: {d['error']} [{d['code']}]" for d in report["damaged"]]
    read = f"{report['chunks']} of {report['chunks_in_all']} chunks ({size(report['bytes'])}) of {report['objects']} objects"
    show(report, [*damaged, f"read {read}; {len(damaged)} objects are damaged"], as_json)
    raise SystemExit(5 if damaged else 0)


@on_vault
def vault_fsck(
    vault: Place,
    repair: Annotated[bool, typer.Option("--repair", help="mend what can be mended without losing anything")] = False,
    accept_older_keystore: Annotated[
        bool, typer.Option(help="go on from an older keystore.akv: what was stored since is lost")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Checks the folder of a vault: keystore, journal, every header and size, files nobody knows. Exit code 5 if anything
    is left that is wrong.
    """
    report = Vault.fsck(str(vault.folder), vault.provider(), repair=repair, accept_older_keystore=accept_older_keystore)
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
