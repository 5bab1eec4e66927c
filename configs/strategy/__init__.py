"""Hydra's group `strategy`: one YAML file per choice."""
