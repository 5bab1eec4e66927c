"""pytorchexample: Flower's quickstart with PyTorch, moved to AEGIS."""
