"""sklearnexample: Flower's quickstart with scikit-learn, moved to AEGIS."""
