"""Hydra's group `experiment`: one YAML file per choice."""
