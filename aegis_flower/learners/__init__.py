"""Learners: models of any framework behind one protocol, and what differential privacy each can have.

What is put here adapts a framework to `Learner` and imports it only when one is made. Models of torch go their own way
(`aegis_flower.train`).
"""

from aegis_flower.learners.functions import Jax as Jax
from aegis_flower.learners.keras_models import Keras as Keras
from aegis_flower.learners.made import is_torch as is_torch
from aegis_flower.learners.made import learner_of as learner_of
from aegis_flower.learners.protocol import Learner as Learner
from aegis_flower.learners.protocol import PerRecord as PerRecord
from aegis_flower.learners.protocol import Settings as Settings
from aegis_flower.learners.scikit import Scikit as Scikit
