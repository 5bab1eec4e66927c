#!/bin/sh
# A data steward's day, without Python: fill a vault, look, withdrawals, a new delivery, terms, an erasure, audit, backup.
# Run with `aegis` on the PATH and patients.csv, december.csv and consents.csv in the current folder.
set -eu
export AEGIS_KEY_FILE=clinic.key

# Morning: a vault under a policy bundle, its key in a file of its own.
aegis vault init clinic --make-key --govern core

# What is in the file? A draft names kinds, missing values and columns that look like names. A person reviews it.
aegis data schema patients.csv > schema.toml
aegis data terms --draft > terms.toml

# Two lines of the file are wrong: the import says which, and stores nothing.
if aegis data add clinic patients.csv --name patients --schema schema.toml --terms terms.toml; then exit 1; fi
aegis data add clinic patients.csv --name patients --schema schema.toml --terms terms.toml --on-bad skip --dry-run
aegis data add clinic patients.csv --name patients --schema schema.toml --terms terms.toml --on-bad skip

# Nobody has consented so far. The list of the consent office comes, with withdrawals in it.
aegis consent import clinic consents.csv
aegis consent show clinic

# For the steward, and for whoever wants to use the data.
aegis data ls clinic
aegis data show clinic patients
aegis data card clinic patients > card.md
aegis data mock schema.toml mock.csv --rows 50

# One person calls.
aegis consent withdraw clinic P00004 --purpose research
aegis consent show clinic P00004

# Afternoon: the next delivery. Old consent lists undo no withdrawal.
aegis data extend clinic december.csv --name patients --schema schema.toml
aegis consent import clinic consents.csv --unknown skip
aegis consent show clinic P00004

# The board renews the retention, and wants more rows per update. Wider terms need a reason, which is put on record.
aegis data terms clinic patients | sed 's/^retention_days = .*/retention_days = 700/; s/^min_rows = .*/min_rows = 20/' > amended.toml
if aegis data terms clinic patients --amend amended.toml --yes; then exit 1; fi
aegis data terms clinic patients --amend amended.toml --yes --reason "board, 2026-11-28"

# One person wants to be erased.
aegis vault erase-person clinic P00007 --yes

# Evening: who did what, and is the log whole?
aegis audit verify clinic
aegis audit tail clinic -n 30
aegis privacy show clinic
aegis vault scrub clinic
aegis vault fsck clinic

# A backup of the keystore, and what happens when the vault's own key is lost.
head -c 32 /dev/urandom > recovery.key && chmod 600 recovery.key
aegis vault backup clinic keystore.backup --recovery file:recovery.key
head -c 32 /dev/urandom > new.key && chmod 600 new.key
aegis vault restore clinic keystore.backup --recovery file:recovery.key --key-file new.key --yes
AEGIS_KEY_FILE=new.key aegis data show clinic patients

# The data set goes. What was spent stays spent.
AEGIS_KEY_FILE=new.key aegis data drop clinic patients --yes
AEGIS_KEY_FILE=new.key aegis data ls clinic
