from __future__ import annotations

import pytest

from access_file import AccessPlace
from certified import Certified, Issuer


@pytest.fixture
def certified(tmp_path):
    return Certified(tmp_path / "tls")


@pytest.fixture
def issuer(tmp_path):
    made = Issuer(tmp_path)
    made.publish()
    return made


@pytest.fixture
def place(tmp_path, issuer):
    return AccessPlace(tmp_path / "access", jwks=issuer.jwks)
