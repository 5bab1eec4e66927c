"""Hydra's group `tracking`: one YAML file per choice."""
