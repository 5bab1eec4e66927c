"""Hostile apps in a jail get nothing; the same apps without one get what they are after, so this can fail."""

import pytest
from world import AFTER_TIME, LIMITS, PATIENT, World, apps

from aegis_flower.jail import Ended
from aegis_flower.jail.jail import LAYERS

# What is a property of the frames, not of a layer: these apps are after a wrong end or a wrong array, and get none anywhere.
NO_LOOT_ANYWHERE = {
    "files.make_a_device_in_scratch",  # there is no such folder outside
    "files.read_the_key_through_the_first_process",  # its root is another one in a container
    "limits.processor",
    "limits.stack",
    "limits.time_asleep",
    "limits.time_with_signals_blocked",
    "limits.words",
    "network.kernel_crypto",  # few kernels have it
    "network.tcp6",
    "network.vsock",
    "processes.get_a_capability_back",
    "processes.kernel_log",
    "processes.long_mode_of_32_bits",
    "processes.older_door_of_the_kernel",
    "processes.perf",
    "tricks.leave_an_exit_handler",  # nothing runs at exit, with or without a jail
    "tricks.leave_in_the_interpreter",  # each task is a fork of a parent that no task writes to
    "tricks.leave_in_modules",  # nor does a task meet the modules of another one
    *(
        f"tricks.{name}"
        for name in (
            *("a_gate_that_lets_all_through", "an_early_end", "an_end_by_a_signal", "an_error_with_rows_in_it"),
            *("an_object", "another_end", "descriptors_closed", "descriptors_read", "every_descriptor", "for_ever"),
            *("its_own_result", "more_than_was_asked_for", "nothing", "texts", "the_sealed_inputs_changed"),
            "the_trusted_parent_called",
        )
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def jail(world):
    with world.jail() as jail:
        yield jail


@pytest.fixture(scope="module")
def nothing_around(world):
    with world.jail(without=LAYERS) as jail:
        yield jail


def tried(world, jail, app):
    """What an app got, or the task after it from what it left."""
    try:
        got, result = world.run(jail, app)
        if ".leave_" in app and not got:
            got, _ = world.run(jail, app.replace("leave_", "find_"))
    finally:
        world.forget()
    return got, result


@pytest.mark.parametrize("app", apps())
def test_a_hostile_app_gets_nothing_out(world, jail, app):
    got, result = tried(world, jail, app)
    assert not got, f"{app} got {got.channels}; it ended as {result.ended.name}, and said: {result.log[-500:]}"
    assert app in AFTER_TIME or result.ended is not Ended.LATE, f"{app} was ended before it had tried all"


@pytest.mark.parametrize("app", [app for app in apps() if app not in NO_LOOT_ANYWHERE])
def test_the_same_app_without_a_jail_gets_what_it_is_after(world, nothing_around, app):
    got, result = tried(world, nothing_around, app)
    assert got, f"{app} got nothing even without a jail, so its test cannot fail; it said: {result.log[-500:]}"


def test_there_are_more_than_a_hundred_of_them():
    assert len(apps()) > 100
    assert set(apps()) >= NO_LOOT_ANYWHERE, "the list names apps that are not there"


@pytest.mark.parametrize(
    ("app", "ended"),
    [
        ("tricks.more_than_was_asked_for", Ended.FAILED),
        ("tricks.an_object", Ended.FAILED),
        ("tricks.texts", Ended.FAILED),
        ("tricks.nothing", Ended.FAILED),
        ("tricks.for_ever", Ended.FAILED),
        ("tricks.another_end", Ended.FAILED),
        ("tricks.an_error_with_rows_in_it", Ended.FAILED),
        ("tricks.an_end_by_a_signal", Ended.KILLED),
        ("limits.memory", Ended.FAILED),
        ("limits.threads", Ended.FAILED),
        ("limits.disk", Ended.FAILED),
        ("limits.many_files", Ended.FAILED),
        ("limits.descriptors", Ended.FAILED),
    ],
)
def test_what_an_app_does_wrong_is_its_own_failure(world, jail, app, ended):
    result = jail.run(world.work(app), PATIENT)
    world.forget()
    assert (result.ended, result.update) == (ended, None)


@pytest.mark.parametrize("app", sorted(AFTER_TIME))
def test_an_app_that_does_not_end_is_ended(world, jail, app):
    assert jail.run(world.work(app), LIMITS).ended in (Ended.LATE, Ended.KILLED)
