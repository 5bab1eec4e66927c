"""AEGIS quickstart: a Flower App."""
