"""Hydra's group `vault`: one YAML file per choice."""
