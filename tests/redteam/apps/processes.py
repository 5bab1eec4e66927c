"""Apps that reach for another process, for the kernel, or for a right they were not given."""

import ctypes
import os
import signal
import struct
import subprocess
import sys

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)


def got(what, result):
    if result >= 0:
        print("GOT", what)


def out(parameters, secret=b""):
    given = [np.array(a) for a in parameters.values()]
    if secret:
        given[0].reshape(-1)[: len(secret[:64])] = np.frombuffer(secret[:64], np.uint8)
    return given


def fork(parameters, rows, settings):
    if os.fork() == 0:
        os._exit(0)
    print("GOT a process")
    return out(parameters)


def execute(parameters, rows, settings):
    os.execv("/bin/echo", ["echo", "GOT another program"])


def shell(parameters, rows, settings):
    print("GOT" if subprocess.run(["/bin/sh", "-c", "exit 0"], check=False).returncode == 0 else "")
    return out(parameters)


def loaded_before(parameters, rows, settings):
    """LD_PRELOAD needs a program to be started."""
    os.environ["LD_PRELOAD"] = "/scratch/evil.so"
    subprocess.run([sys.executable, "-c", ""], check=True)
    print("GOT a program")
    return out(parameters)


def in_memory_program(parameters, rows, settings):
    fd = os.memfd_create("evil")
    os.write(fd, b"#!/bin/sh\nexit 0\n")
    print("GOT memory with a name")
    return out(parameters)


def attach_to_the_victim(parameters, rows, settings):
    got("the victim", LIBC.ptrace(16, settings["victim"], 0, 0))  # PTRACE_ATTACH
    LIBC.ptrace(17, settings["victim"], 0, 0)
    return out(parameters)


def attach_to_the_parent(parameters, rows, settings):
    got("the parent", LIBC.ptrace(0x4206, os.getppid(), 0, 0))  # PTRACE_SEIZE
    return out(parameters)


def be_traced(parameters, rows, settings):
    got("a tracer", LIBC.ptrace(0, 0, 0, 0))
    return out(parameters)


def read_the_victims_memory(parameters, rows, settings):
    buffer = ctypes.create_string_buffer(32)
    local = struct.pack("<QQ", ctypes.addressof(buffer), 32)
    remote = struct.pack("<QQ", settings["address"], 32)
    done = LIBC.process_vm_readv(settings["victim"], local, 1, remote, 1, 0)
    return out(parameters, buffer.raw if done == 32 else b"")


def read_the_victims_memory_as_a_file(parameters, rows, settings):
    with open(f"/proc/{settings['victim']}/mem", "rb", 0) as memory:
        memory.seek(settings["address"])
        return out(parameters, memory.read(32))


def write_the_parents_memory(parameters, rows, settings):
    with open(f"/proc/{os.getppid()}/mem", "r+b", 0):
        print("GOT the parent's memory")
    return out(parameters)


def signal_the_victim(parameters, rows, settings):
    os.kill(settings["victim"], signal.SIGUSR1)
    return out(parameters)


def signal_the_victim_by_descriptor(parameters, rows, settings):
    signal.pidfd_send_signal(os.pidfd_open(settings["victim"]), signal.SIGUSR1)
    return out(parameters)


def signal_the_victims_thread(parameters, rows, settings):
    got("a signal out", LIBC.syscall(234, settings["victim"], settings["victim"], int(signal.SIGUSR1)))
    return out(parameters)


def signal_the_parent(parameters, rows, settings):
    os.kill(os.getppid(), 0)
    print("GOT the right to signal the parent")
    return out(parameters)


def steal_a_descriptor(parameters, rows, settings):
    mine = os.pidfd_open(settings["victim"])
    got("a descriptor of the victim", LIBC.syscall(438, mine, 1, 0))
    return out(parameters)


def change_the_victims_priority(parameters, rows, settings):
    os.setpriority(os.PRIO_PROCESS, settings["victim"], 11)
    print("GOT the victim's priority")
    return out(parameters)


def move_the_parent_to_another_core(parameters, rows, settings):
    os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))
    print("GOT the parent's cores")
    return out(parameters)


def limit_the_parent(parameters, rows, settings):
    got("the parent's limits", LIBC.syscall(302, os.getppid(), 7, ctypes.c_void_p(), ctypes.create_string_buffer(16)))
    return out(parameters)


def new_user_namespace(parameters, rows, settings):
    got("a user namespace", LIBC.unshare(0x10000000))
    return out(parameters)


def new_mount_namespace(parameters, rows, settings):
    got("a mount namespace", LIBC.unshare(0x00020000))
    return out(parameters)


def join_the_victims_namespace(parameters, rows, settings):
    got("a namespace of the host", LIBC.setns(os.pidfd_open(settings["victim"]), 0x40000000))
    return out(parameters)


def clone_with_a_namespace(parameters, rows, settings):
    child = LIBC.syscall(56, 0x10000000 | int(signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    got("a process in a namespace", child)
    return out(parameters)


def clone3(parameters, rows, settings):
    arguments = struct.pack("<11Q", 0, 0, 0, 0, int(signal.SIGCHLD), 0, 0, 0, 0, 0, 0)
    child = LIBC.syscall(435, arguments, len(arguments))
    if child == 0:
        os._exit(0)
    got("a process", child)
    return out(parameters)


def vfork(parameters, rows, settings):
    child = LIBC.syscall(57)  # fork by number; vfork would run on this stack
    if child == 0:
        os._exit(0)
    got("a process", child)
    return out(parameters)


def become_root(parameters, rows, settings):
    os.setuid(0)
    print("GOT root")
    return out(parameters)


def get_a_capability_back(parameters, rows, settings):
    head = struct.pack("<II", 0x20080522, 0)
    full = struct.pack("<6I", *[0xFFFFFFFF] * 6)
    got("capabilities", LIBC.capset(head, full))
    return out(parameters)


def add_a_key(parameters, rows, settings):
    got("a key ring", LIBC.syscall(248, b"user", b"loot", rows["x"].tobytes(), 32, -5))
    return out(parameters)


def read_the_key_ring(parameters, rows, settings):
    got("the key ring", LIBC.syscall(250, 0, -4, 1))
    return out(parameters)


def bpf(parameters, rows, settings):
    attributes = struct.pack("<5I", 2, 4, 4, 1, 0).ljust(128, b"\0")
    got("bpf", LIBC.syscall(321, 0, attributes, 128))
    return out(parameters)


def perf(parameters, rows, settings):
    attributes = struct.pack("<IIQ", 1, 128, 1).ljust(128, b"\0")
    got("perf", LIBC.syscall(298, attributes, 0, -1, -1, 0))
    return out(parameters)


def userfaultfd(parameters, rows, settings):
    got("userfaultfd", LIBC.syscall(323, 1))
    return out(parameters)


def system_v_shared_memory(parameters, rows, settings):
    got("System V memory", LIBC.shmget(settings["number"], 4096, 0o1666))
    return out(parameters)


def system_v_messages(parameters, rows, settings):
    got("System V messages", LIBC.msgget(settings["number"], 0o1666))
    return out(parameters)


def system_v_semaphores(parameters, rows, settings):
    got("System V semaphores", LIBC.semget(settings["number"], 1, 0o1666))
    return out(parameters)


def posix_messages(parameters, rows, settings):
    got("a queue", LIBC.syscall(240, b"aegis-redteam", os.O_CREAT | os.O_RDWR, 0o600, None))
    LIBC.syscall(241, b"aegis-redteam")
    return out(parameters)


def kernel_log(parameters, rows, settings):
    got("the kernel's log", LIBC.klogctl(3, ctypes.create_string_buffer(64), 64))
    return out(parameters)


def personality(parameters, rows, settings):
    got("another personality", LIBC.syscall(135, 0x0400000))
    return out(parameters)


def be_dumpable_again(parameters, rows, settings):
    got("dumps of memory", LIBC.prctl(4, 1, 0, 0, 0))
    return out(parameters)


def take_the_filter_off(parameters, rows, settings):
    """A filter of one's own that allows all: the older one still holds."""
    allow = struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(allow)
    program = struct.pack("<HxxxxxxQ", 1, ctypes.addressof(buffer))
    LIBC.prctl(38, 1, 0, 0, 0)
    LIBC.prctl(22, 2, program, 0, 0)
    return fork(parameters, rows, settings)


def older_door_of_the_kernel(parameters, rows, settings):
    """int 0x80: system calls of 32 bits, by other numbers. Here: fork, which is 2 there."""
    code = bytes.fromhex("b802000000cd80c3")  # mov eax, 2; int 0x80; ret
    memory = LIBC.mmap
    memory.restype = ctypes.c_void_p
    page = memory(None, 4096, 7, 0x22, -1, 0)
    ctypes.memmove(page, code, len(code))
    child = ctypes.CFUNCTYPE(ctypes.c_int)(page)()
    if child == 0:
        os._exit(0)
    got("a process", child)
    return out(parameters)


def long_mode_of_32_bits(parameters, rows, settings):
    """x32: bit 30 of a system call's number. Here: fork."""
    child = LIBC.syscall(0x40000000 | 57)
    if child == 0:
        os._exit(0)
    got("a process", child)
    return out(parameters)
