"""Hydra's group `runtime`: one YAML file per choice."""
