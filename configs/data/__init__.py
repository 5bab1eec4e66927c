"""Hydra's group `data`: one YAML file per choice."""
