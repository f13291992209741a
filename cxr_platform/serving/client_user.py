"""The user whose program opened a connection from this machine, as the kernel of Linux knows it (sock_diag).

The kernel is asked for one socket by its two addresses, which takes microseconds. /proc/net/tcp has the same facts, but
reading it takes as long as the kernel's table is large: tens of milliseconds with the table of an idle server.

https://man7.org/linux/man-pages/man7/sock_diag.7.html
"""

import ipaddress
import socket
import struct

from starlette.types import Scope

Address = tuple[str, int]

SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST = 4, 20, 1
"""NETLINK_SOCK_DIAG, the type of request and answer, and NLM_F_REQUEST."""

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""

QUERY = struct.Struct("=BBBxI")
"""Beginning of inet_diag_req_v2: family, protocol, extensions, states."""

SOCKET_ID = struct.Struct("!HH16s16sI8s")
"""inet_diag_sockid: ports and addresses of the socket and its peer, interface, cookie."""

ANSWER = struct.Struct("=4x48x3I2I")
"""inet_diag_msg: family to retransmissions, the socket's id, expiry and two queues, then its user and inode."""

ANY_STATE, NO_COOKIE = 0xFFFFFFFF, b"\xff" * 8
MAX_ANSWER = 4096


def client_user(scope: Scope) -> int | None:
    """Return the user id of the program that sent an ASGI request from this machine.

    `None` if it cannot be determined: not on Linux, a connection that is closed or of another machine or network
    namespace, a kernel without sock_diag.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client or not server:
        return None
    try:
        return _owner((client[0], int(client[1])), (server[0], int(server[1])))
    except (AttributeError, OSError, TypeError, ValueError, struct.error):
        return None


def _owner(own: Address, peer: Address) -> int | None:
    """Return the user id of the TCP socket with the address `own`, which is connected to `peer`."""
    addresses = [_unmapped(address) for address, _ in (own, peer)]
    family = socket.AF_INET if addresses[0].version == 4 else socket.AF_INET6
    packed = [address.packed.ljust(16, b"\0") for address in addresses]
    query = QUERY.pack(family, socket.IPPROTO_TCP, 0, ANY_STATE)
    query += SOCKET_ID.pack(own[1], peer[1], *packed, 0, NO_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as kernel:
        kernel.send(HEADER.pack(HEADER.size + len(query), SOCK_DIAG_BY_FAMILY, REQUEST, 0, 0) + query)
        answer = kernel.recv(MAX_ANSWER, socket.MSG_DONTWAIT)  # it is there when `send` returns
    if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:  # an error: there is no such socket
        return None
    *_, user, inode = ANSWER.unpack_from(answer, HEADER.size)
    return int(user) if inode else None  # without one its program has closed it, and will read no answer


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address, as IPv4 if it is IPv4 within IPv6: the kernel finds sockets of both families by that."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
