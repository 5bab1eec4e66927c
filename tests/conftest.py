"""What holds for every test."""

import logging

import pytest


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
