"""Who is let in by what they show."""

from __future__ import annotations

import base64
import time

import pytest

from access_file import AccessPlace
from certified import AUDIENCE, ISSUER, Issuer
from gearshift.access import Guard, digest_of, new_token
from gearshift.access import guard as guard_module
from gearshift.core.rights import Group
from gearshift.errors import ConfigurationInvalid, Unauthenticated


@pytest.fixture
def guard(place):
    made = Guard(place.path)
    yield made
    made.close()


def bearer(token: str) -> str:
    return f"Bearer {token}"


def basic(name: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


def test_a_token_is_its_clients(guard: Guard, place: AccessPlace) -> None:
    assert guard.admit(bearer(place.ops), ()).client == "ops"
    assert guard.admit(f"bearer  {place.desk}", ()).client == "desk"
    assert guard.admit(basic("ops", place.ops), ()).client == "ops"
    rights = guard.admit(bearer(place.desk), ())
    assert rights.may(Group.INFER)
    assert not rights.may(Group.CONTROL)
    assert rights.sees("m")
    assert not rights.sees("other")


def test_a_certificate_is_its_clients_and_a_header_goes_before_it(guard, place) -> None:
    assert guard.admit("", ("nobody", "robot.example")).client == "robot"
    assert guard.admit(bearer(place.desk), ("robot.example",)).client == "desk"
    with pytest.raises(Unauthenticated, match="not known"):
        guard.admit(bearer(new_token()), ("robot.example",))
    with pytest.raises(Unauthenticated, match="certificate is of nobody"):
        guard.admit("", ("ops", "robot"))


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic !",
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Digest abc",
        bearer("x" * 21),
        bearer("."),
        bearer("a.b.c" * 10),
        bearer("é.é.é" * 10),
        bearer("." * 30_000),
    ],
)
def test_nonsense_is_nobodys(guard: Guard, shown: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        guard.admit(shown, ())
    assert shown == "" or shown.partition(" ")[2] in ("", ".") or shown not in str(caught.value)


def test_whose_name_and_token_do_not_fit_is_nobody(guard: Guard, place: AccessPlace) -> None:
    for shown in (basic("desk", place.ops), basic("", place.ops), basic("ops", new_token())):
        with pytest.raises(Unauthenticated):
            guard.admit(shown, ())
    # Two headers, or what a proxy made of them.
    with pytest.raises(Unauthenticated):
        guard.admit(f"{bearer(place.ops)}, {bearer(place.ops)}", ())


def test_a_short_token_does_not_count_though_its_hash_be_known(tmp_path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(
        f'[[clients]]\nname = "weak"\ntokens_sha256 = ["{digest_of("secret")}"]\n'
        'may = ["infer"]\nmodels = ["*"]\n'
    )
    with pytest.raises(Unauthenticated):
        Guard(path).admit(bearer("secret"), ())


def test_a_sound_json_web_token_is_let_in_until_it_expires(place, issuer) -> None:
    now = time.time()
    guard = Guard(place.path, clock=lambda: now)
    token = issuer.sign(exp=time.time() + 60)
    assert guard.admit(bearer(token), ()).client == "batch"
    now += 60
    assert guard.admit(bearer(token), ()).client == "batch"  # by the leeway of 5 s, remembered
    state = guard._state
    assert len(state.known) == 1
    now += 6
    # Asked anew: by the real clock it holds, so that this shows that it was not remembered.
    state.known = {shown: (None, until) for shown, (_, until) in state.known.items()}
    assert guard.admit(bearer(token), ()).client == "batch"


def test_no_json_web_token_that_does_not_hold_is_believed(guard, issuer, tmp_path) -> None:
    other = Issuer(tmp_path, "second")
    assert guard.admit(bearer(issuer.sign()), ()).client == "batch"
    for what, token in issuer.wrong(other).items():
        with pytest.raises(Unauthenticated) as caught:
            guard.admit(bearer(token), ())
        assert token not in str(caught.value), what
    with pytest.raises(Unauthenticated, match="has expired"):
        guard.admit(bearer(issuer.sign(exp=time.time() - 60)), ())


def test_what_is_remembered_is_bounded_and_holds_no_secret(guard, place, monkeypatch) -> None:
    monkeypatch.setattr(guard_module, "MOST_REMEMBERED", 8)
    for spaces in range(1, 50):
        guard.admit(f"Bearer{' ' * spaces}{place.ops}", ())
    assert len(guard._state.known) <= 8
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            guard.admit(bearer(new_token()), ())
    assert len(guard._state.known) <= 8
    shown = repr(guard._state.known) + repr(guard._state.book) + repr(guard)
    assert place.ops not in shown
    assert digest_of(place.ops) not in repr(guard._state.book)


def test_a_file_is_read_anew_and_a_bad_one_changes_nothing(guard, place) -> None:
    text = place.path.read_text()
    place.path.write_text("[[clients]]\nname = 1")
    with pytest.raises(ConfigurationInvalid):
        guard.reload()
    assert guard.admit(bearer(place.ops), ()).client == "ops"
    token = new_token()
    place.path.write_text(text.replace(digest_of(place.ops), digest_of(token)))
    guard.reload()
    assert guard.admit(bearer(token), ()).client == "ops"
    with pytest.raises(Unauthenticated):
        guard.admit(bearer(place.ops), ())


def test_keys_are_exchanged_with_their_file(guard, issuer, tmp_path) -> None:
    other = Issuer(tmp_path, "second")
    with pytest.raises(Unauthenticated):
        guard.admit(bearer(other.sign()), ())
    issuer.publish(other)
    guard.reload()
    assert guard.admit(bearer(other.sign()), ()).client == "batch"
    assert {ISSUER, AUDIENCE} == {guard._state.book.jwt.issuer, guard._state.book.jwt.audience}
