"""What holds for every test."""

import logging
import sys

import pytest
from absl import logging as absl_logging

# absl (dp-accounting brings it) takes the standard error of the moment for its own, and closes it when Hydra sets up logging with
# another in its place. Of a test that would be pytest's, and every later test of the process would fail.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(autouse=True)
def loggers_are_left_as_they_were():
    """Whatever runs in somebody else's process leaves its loggers as they were: a test, a notebook, an application."""

    def found():
        return logging.getLogger("aegis").level, logging.root.manager.disable

    before = found()
    yield
    after = found()
    logging.getLogger("aegis").setLevel(before[0])
    logging.disable(before[1])
    assert after == before, "the level of AEGIS's logger, or what logging.disable() says, is another after this test"
