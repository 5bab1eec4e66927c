"""sklearnexample: the model."""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression


def create_model():
    """What both sides start from: a round goes on from the weights that the server sends."""
    # Ignore convergence failure due to low local epochs
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    return LogisticRegression(
        max_iter=1,  # local epoch
        warm_start=True,  # prevent refreshing weights when fitting
        solver="saga",
    )
