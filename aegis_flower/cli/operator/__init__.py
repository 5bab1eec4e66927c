"""Commands of those who run a node may be put here: which apps may run, what waits, certificates, what the machine gives."""
