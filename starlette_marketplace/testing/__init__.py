"""What hosts test with: a resolver without AWS, made-up buyers, and the local marketplace on a socket.

With pytest, the fixtures of `pytest_starlette_marketplace` are there by themselves.
"""

from .readers import AgreementFields, FakeReader, make_agreement
from .running import RunningMarketplace, run_local_marketplace
from .scenarios import ScenarioName
from .stand_ins import (
    Client,
    CustomerFields,
    FakeResolver,
    add_registration,
    make_customer,
    registration_form,
)

__all__ = [
    "AgreementFields",
    "Client",
    "CustomerFields",
    "FakeReader",
    "FakeResolver",
    "RunningMarketplace",
    "ScenarioName",
    "add_registration",
    "make_agreement",
    "make_customer",
    "registration_form",
    "run_local_marketplace",
]
