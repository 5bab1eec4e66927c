"""Hydra's group `secagg`: one YAML file per choice."""
