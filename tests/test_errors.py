import errno
import inspect
import socket

import grpc
import pytest

from gearshift import errors
from gearshift.errors import (
    ENDINGS,
    UNEXPECTED,
    CannotListen,
    ConfigurationInvalid,
    RequestError,
    ending_of,
    http_status_of,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, RequestError) and kind is not RequestError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_error_has_a_status_that_grpc_knows(kind):
    assert ENDINGS[kind].status in grpc.StatusCode.__members__


def test_what_is_not_in_the_tree_is_internal_and_failed():
    assert ending_of(ZeroDivisionError()) is UNEXPECTED
    assert UNEXPECTED.status == "INTERNAL"


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_over_http_only_what_is_the_servers_fault_is_500(code):
    ours = {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.ABORTED,  # never said here
    }
    assert (http_status_of(code.name) == 500) == (code in ours)


def test_a_more_special_error_ends_like_its_parent():
    class Misspelt(errors.InvalidInput):
        pass

    assert ending_of(Misspelt("x")) is ENDINGS[errors.InvalidInput]


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "another program uses it; .* --grpc-port"),
        (OSError(errno.EACCES, "denied"), "ports below 1024 need privileges; .* --grpc-port"),
        (OSError(errno.EADDRNOTAVAIL, "no"), "'here' is not an address of this machine; .* --host"),
        (socket.gaierror(-2, "not known"), "'here' is not an address of this machine; .* --host"),
        (OSError(errno.ENOBUFS, "no buffers"), "no buffers; choose another port with --grpc-port"),
        (OSError("odd"), "odd; choose another"),
    ],
)
def test_a_port_that_cannot_be_had_says_why_and_what_to_do(error, part):
    with pytest.raises(ConfigurationInvalid, match=f"^cannot listen on here:80 for gRPC: {part}"):
        raise CannotListen("here", 80, "gRPC", error)
