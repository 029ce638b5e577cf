"""The real boto3 clients of the services that say what a buyer may use, asking once."""

import gzip
import json
import re
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import botocore
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from starlette_marketplace.local import Agreement
from tests.local.clients import signed_post

GET_ENTITLEMENTS = "AWSMPEntitlementService.GetEntitlements"
DESCRIBE_AGREEMENT = "AWSMPCommerceService_v20200301.DescribeAgreement"
SEARCH_AGREEMENTS = "AWSMPCommerceService_v20200301.SearchAgreements"

_VALUES = {"IntegerValue", "DoubleValue", "BooleanValue", "StringValue"}


class Reader(AbstractContextManager["Reader"]):
    def __init__(self, url: str, *, read_timeout: float = 60) -> None:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout)
        names = ("marketplace-entitlement", "marketplace-agreement")
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        self._clients: list[Any] = [
            boto3.client(name, endpoint_url=url, region_name="us-east-1", config=config, **keys)  # type: ignore[call-overload]
            for name in names
        ]
        self.entitlement, self.agreement = self._clients

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def page(self, product_code: str = "acmeanalytics", **parameters: Any) -> dict[str, Any]:
        """Get a page of entitlements, without what boto3 says about the response itself."""
        return without_metadata(self.entitlement.get_entitlements(ProductCode=product_code, **parameters))

    def rows(
        self, product_code: str = "acmeanalytics", *, size: int = 25, **filters: list[str]
    ) -> list[dict[str, Any]]:
        """Get all entitlements."""
        parameters: dict[str, Any] = {"MaxResults": size} | ({"Filter": filters} if filters else {})
        rows = []
        while True:
            page = self.page(product_code, **parameters)
            assert page.get("Entitlements") != []
            rows += page.get("Entitlements", [])
            if "NextToken" not in page:
                return rows
            parameters["NextToken"] = page["NextToken"]

    def entitled(self, agreement: Agreement) -> dict[str, object]:
        """What the holder of a license may use, by dimension."""
        rows = self.rows(agreement.product.code, LICENSE_ARN=[agreement.license_arn or ""])
        return {row["Dimension"]: quantity_of(row) for row in rows}

    def describe(self, agreement_id: str) -> dict[str, Any]:
        """Describe an agreement, without what boto3 says about the response itself."""
        return without_metadata(self.agreement.describe_agreement(agreementId=agreement_id))

    def search(self, *, size: int = 50, sort: dict[str, str] | None = None, **filters: str) -> list[dict[str, Any]]:
        """Search all agreements that the seller has proposed."""
        return self._search(filters, size=size, sort=sort)

    def _search(
        self, filters: dict[str, str], *, size: int = 50, sort: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        parameters: dict[str, Any] = {"catalog": "AWSMarketplace", "filters": filters_of(**filters), "maxResults": size}
        if sort:
            parameters["sort"] = sort
        found = []
        while True:
            page = self.agreement.search_agreements(**parameters)
            assert len(page["agreementViewSummaries"]) <= size
            found += page["agreementViewSummaries"]
            if "nextToken" not in page:
                return found
            parameters["nextToken"] = page["nextToken"]

    def found(self, **filters: str) -> list[str]:
        """The ids of the agreements that a search finds."""
        return [summary["agreementId"] for summary in self._search(filters)]


def filters_of(**filters: str) -> list[dict[str, Any]]:
    given = {"PartyType": "Proposer", "AgreementType": "PurchaseAgreement"} | filters
    return [{"name": name, "values": [value]} for name, value in given.items()]


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer.pop("ResponseMetadata")["RequestId"]
    return answer


def quantity_of(row: dict[str, Any]) -> object:
    [(name, quantity)] = row["Value"].items()
    assert name in _VALUES
    return quantity


def epoch(moment: datetime | None) -> float:
    assert moment is not None
    return moment.timestamp()


def in_utc(moment: datetime) -> datetime:
    """What boto3 gives, in which zone this machine may be."""
    return moment.astimezone(UTC)


def refusal(call: Any, **parameters: Any) -> tuple[str, int]:
    """Call in vain: the error's code, and the HTTP status."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    assert response["ResponseMetadata"]["RequestId"]
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def post(url: str, target: str, members: object) -> httpx2.Response:
    """Post what boto3 would not."""
    return signed_post(url, json.dumps(members).encode(), target=target)


def check_shape(target: str, members: dict[str, Any]) -> None:
    """Check an answer against what AWS says of it."""
    service, version = {
        "AWSMPEntitlementService": ("marketplace-entitlement", "2017-01-11"),
        "AWSMPCommerceService_v20200301": ("marketplace-agreement", "2020-03-01"),
    }[target.partition(".")[0]]
    file = Path(botocore.__file__).parent / "data" / service / version / "service-2.json.gz"
    model = ServiceModel(json.loads(gzip.decompress(file.read_bytes())), service)
    shape = model.operation_model(target.partition(".")[2]).output_shape
    assert shape
    assert ParamValidator().validate(members, shape).generate_report() == ""
    _check(shape, members)


def _check(shape: Shape, value: Any) -> None:
    # What the validator of botocore leaves to AWS.
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            _check(shape.members[name], member)
    elif shape.type_name == "list":
        for member in value:
            _check(shape.member, member)  # type: ignore[attr-defined]
    elif shape.type_name == "string":
        assert not shape.enum or value in shape.enum  # type: ignore[attr-defined]
        assert len(value) <= shape.metadata.get("max", len(value))
        assert re.fullmatch(shape.metadata.get("pattern", ".*"), value)
