"""What differential privacy needs of a model and a loss: one record's output and gradient are its own. Losses and probe."""
