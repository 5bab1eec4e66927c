#!/bin/sh
# An engineer's day: from a file to a private model of one's own, through a crash, to predictions elsewhere.
# Run with `aegis` on the PATH and patients.csv and new.csv in the current folder.
set -eu
began=$(date +%s)

# 1. A project with a torch model, on the file. Nothing of a row is in it: kinds and names alone.
aegis init clinics --template torch --data patients.csv
cd clinics

# 2. Review the drafts: bounds and levels that everybody may know, from the literature.
sed -i '/^\[columns.age\]/,/^$/ s/^kind = .*/&\nlow = 0\nhigh = 120/
        /^\[columns.crp\]/,/^$/ s/^kind = .*/&\nlow = 0\nhigh = 500/
        /^\[columns.ward\]/,/^$/ s/^kind = .*/&\nlevels = ["cardio", "onco", "other"]/' schema.toml

# 3. The plan again, with what was declared. 4. The first run. 5. Its report.
aegis data features schema.toml > clinics/plan.yaml
aegis run strategy.rounds=3 hydra.run.dir=outputs/first
aegis report show outputs/first
echo "from a file to a report: $(($(date +%s) - began)) s"

# A model of one's own is one function in app.py, which server and nodes share.
sed -i 's/nn.Linear(spec.features, 32), nn.Tanh(), nn.Linear(32, spec.classes)/nn.Linear(spec.features, 6), nn.Tanh(), nn.Linear(6, spec.classes)/' clinics/app.py

# Noon: the machine dies in the middle of a run. What was spent stays spent; the rounds that are left are done.
aegis run strategy.rounds=8 hydra.run.dir=outputs/long &
run=$!
while [ ! -f outputs/long/checkpoint.npz ]; do kill -0 $run; sleep 0.1; done
kill -9 $run
wait $run || echo "killed: $?"
if [ -f outputs/long/report.json ]; then exit 1; fi
aegis run --resume outputs/long

# Afternoon: the model for somebody else. The export names no node and no path.
aegis model show outputs/long-resumed
aegis model export outputs/long-resumed --to safetensors --out ../ill-model
aegis model export outputs/long-resumed --to torch --out ../ill-model-torch
if aegis model export outputs/long-resumed --to npz --out ../ill-model; then exit 1; fi

# New patients, whose label nobody knows yet: by the run, and by the export.
aegis model predict outputs/long-resumed ../new.csv --schema schema.toml --out ../predictions.csv
aegis model predict ../ill-model ../new.csv --schema schema.toml --out ../predictions-elsewhere.csv
cmp ../predictions.csv ../predictions-elsewhere.csv

# Evening: the next run starts where this one ended.
aegis run strategy.rounds=1 model.init="$(realpath ../ill-model/model.safetensors)" hydra.run.dir=outputs/next
