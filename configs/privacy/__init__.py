"""Hydra's group `privacy`: one YAML file per choice."""
