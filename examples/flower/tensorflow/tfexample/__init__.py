"""tfexample: Flower's quickstart with TensorFlow, moved to AEGIS: the same Keras model."""
