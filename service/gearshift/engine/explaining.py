"""A question about a request, checked as the request itself would be."""

from __future__ import annotations

from gearshift.core.catalog import Catalog
from gearshift.core.explain import Explanation, explain
from gearshift.core.request import Request, ticket_for
from gearshift.core.scheduler import Scheduler
from gearshift.errors import InvalidInput

UNUSED = 2**62
"""An id that no ticket will have."""


def explained(scheduler: Scheduler, catalog: Catalog, request: Request, now: float) -> Explanation:
    """What would become of such a request at `now`. Raises ModelNotFound, VariantNotFound or
    InvalidInput for what is wrong with it."""
    model = catalog.model(request.model)
    if not 1 <= request.rows <= model.max_batch_size:
        raise InvalidInput(
            f"{request.rows} rows; model {model.name!r} takes 1 to {model.max_batch_size} in one"
            " request"
        )
    return explain(scheduler, ticket_for(request, model, UNUSED, now), now)
