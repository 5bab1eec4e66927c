"""Hydra's group `policy`: one YAML file per choice."""
