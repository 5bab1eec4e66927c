"""Hydra's group `model`: one YAML file per choice."""
