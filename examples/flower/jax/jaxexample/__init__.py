"""jaxexample: Flower's quickstart with JAX, moved to AEGIS."""
