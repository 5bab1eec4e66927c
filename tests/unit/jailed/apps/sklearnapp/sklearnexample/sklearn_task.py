"""sklearnexample: the model and its arrays, as in Flower's quickstart; the data are a file."""

import numpy as np
from sklearn.linear_model import LogisticRegression


def load_data(data_path: str):
    """The node's own rows."""
    data = np.load(data_path)
    return data["features"], data["malignant"]


def create_log_reg_and_instantiate_parameters(penalty):
    """A model with zeros in it."""
    model = LogisticRegression(penalty=penalty, max_iter=1, warm_start=True, solver="saga")
    model.classes_ = np.arange(2)
    model.coef_ = np.zeros((1, 30))
    model.intercept_ = np.zeros((1,))
    return model


def get_model_parameters(model):
    """Its arrays."""
    return [model.coef_, model.intercept_]


def set_model_params(model, params):
    """Puts arrays into it."""
    model.coef_ = np.array(params[0], dtype=np.float64)
    model.intercept_ = np.array(params[1], dtype=np.float64)
    return model
