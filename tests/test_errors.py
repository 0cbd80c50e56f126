import inspect

import grpc
import pytest

from gearshift import errors
from gearshift.errors import ENDINGS, UNEXPECTED, RequestError, ending_of

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


def test_a_more_special_error_ends_like_its_parent():
    class Misspelt(errors.InvalidInput):
        pass

    assert ending_of(Misspelt("x")) is ENDINGS[errors.InvalidInput]
