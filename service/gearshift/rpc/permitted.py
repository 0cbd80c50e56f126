"""The catalog as a client may see it."""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.core.catalog import Catalog, Model
from gearshift.core.rights import Rights
from gearshift.errors import ModelNotFound


def model_for(rights: Rights, catalog: Catalog, name: str) -> Model:
    """The model, if it is the client's: Forbidden if not, be it there or not. ModelNotFound tells
    the others that are there only to who may use all."""
    if rights.every_model:
        return catalog.model(name)
    rights.need_model(name)
    model = catalog.models.get(name)
    if model is None:
        raise ModelNotFound(f"no model {name!r} is served here")
    return model


def models_for(rights: Rights, catalog: Catalog) -> Sequence[Model]:
    """All that are the client's."""
    return [model for model in catalog.models.values() if rights.sees(model.name)]
