"""Who may do what: a client's name, the groups of calls that it may make, and for which models."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from copy import copy
from enum import StrEnum
from fnmatch import translate
from typing import NoReturn

from gearshift.errors import Forbidden

ANONYMOUS = "anonymous"
"""Whoever has not proved to be anybody."""


class Group(StrEnum):
    """What a call is about. `OPEN` needs no proof of who calls."""

    OPEN = "open"
    INFER = "infer"
    FEEDBACK = "feedback"
    OBSERVE = "observe"
    CONTROL = "control"


GRANTED = tuple(group for group in Group if group is not Group.OPEN)
"""The groups that can be given to a client."""


class Rights:
    """What one client may do. `models` are patterns as file names have them (`fraud`, `tumour-*`).

    Pure and immutable; made once for each client, asked for every call.
    """

    __slots__ = ("_denied", "_groups", "_matches", "client", "every_model", "models")

    def __init__(self, client: str, groups: Collection[Group], models: Sequence[str]) -> None:
        self.client = client
        self.models = tuple(models)
        self.every_model = "*" in self.models
        """No question about a model is needed then."""
        self._groups = frozenset(groups) | {Group.OPEN}
        self._matches = re.compile("|".join(map(translate, self.models)) or r"(?!)").match
        self._denied: Callable[[Forbidden], None] | None = None

    def telling(self, denied: Callable[[Forbidden], None]) -> Rights:
        """The same rights, for one call: `denied` hears of each model that it may not use."""
        told = copy(self)
        told._denied = denied
        return told

    def may(self, group: Group) -> bool:
        """Calls of that group, for some models at least."""
        return group in self._groups

    def sees(self, model: str) -> bool:
        """Whether the model is one of the client's, be it there or not."""
        return self.every_model or self._matches(model) is not None

    def need(self, group: Group) -> None:
        """Forbidden if the client may not make calls of that group."""
        if group not in self._groups:
            raise Forbidden(
                f"client {self.client!r} may not make this call; it needs the right {group.value!r}"
            )

    def need_model(self, model: str) -> None:
        """Forbidden if the model is not the client's. It hears the same of one that does not
        exist: the message tells what was granted, never what is there."""
        if not self.sees(model):
            granted = ", ".join(self.models) or "none"
            self._deny(f"may not use model {model!r}; its models are: {granted}")

    def need_every_model(self) -> None:
        """Forbidden if not all are the client's: for what is about the whole server."""
        if not self.every_model:
            self._deny("may use some models only, and this is about all of them")

    def need_named(self, model: str) -> None:
        """As `need_model`, where what no model is named for may be about any."""
        if model:
            self.need_model(model)
        elif not self.every_model:
            self._deny("may report on some models only: each report must name its model")

    def _deny(self, why: str) -> NoReturn:
        error = Forbidden(f"client {self.client!r} {why}")
        if self._denied is not None:
            self._denied(error)
        raise error

    def __repr__(self) -> str:
        return f"Rights({self.client!r}, {sorted(self._groups)}, {self.models})"


EVERYTHING = Rights(ANONYMOUS, GRANTED, ("*",))
"""What everybody may where there is no access control."""

NOTHING = Rights(ANONYMOUS, (), ())
"""What is left without a proof where there is."""
