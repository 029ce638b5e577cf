"""What each failure of AWS becomes for the buyer and for the seller."""

import logging
import re
from dataclasses import dataclass

import httpx2
import pytest


@dataclass(frozen=True, slots=True)
class Expected:
    status: int
    code: str
    advice: str
    level: int = logging.WARNING
    title: str = "AWS Marketplace did not answer in time"

    def check(self, page: httpx2.Response, as_json: httpx2.Response, log: pytest.LogCaptureFixture, token: str) -> None:
        """Check both answers to the same token, and what was logged."""
        assert page.status_code == as_json.status_code == self.status
        assert as_json.json()["error"]["code"] == self.code
        assert f"<h1>{self.title}</h1>" in page.text
        assert ("retry-after" in page.headers) == ("retry-after" in as_json.headers) == (self.status == 503)
        assert ("Try again" in page.text) == (self.status == 503)
        assert "set-cookie" not in page.headers | as_json.headers
        records = [record for record in log.records if str(record.msg).startswith("AWS Marketplace registration")]
        assert [record.levelno for record in records] == [self.level] * 2
        assert all(self.advice in record.getMessage() for record in records)
        assert all(token not in record.getMessage() for record in records)
        reference = re.search(r"Reference <code>([0-9A-F]{8})</code>", page.text)
        assert reference
        assert f"({self.code}, reference {reference[1]})" in records[0].getMessage()


UNAVAILABLE = Expected(503, "AWS_UNAVAILABLE", "if the problem persists, see the AWS Health Dashboard")
EMPTY = Expected(503, "AWS_UNAVAILABLE", "if the problem persists, check endpoint_url and the proxies on the way")
UNREACHED = Expected(503, "AWS_UNAVAILABLE", "if the problem persists, check the network, the proxies on the way")


# To old versions of botocore the connection was closed, to new ones the answer was empty.
CUT = Expected(503, "AWS_UNAVAILABLE", "if the problem persists, check ")
INVALID = Expected(400, "INVALID_TOKEN", "The buyer needs a fresh link", title="This link cannot be used")
EXPIRED = Expected(400, "EXPIRED_TOKEN", "The buyer needs a fresh link", title="This link has expired")
INCOMPLETE = Expected(
    503,
    "INCOMPLETE_ANSWER",
    "or give AWS Support the request id",
    title="Your subscription is still being prepared",
)


def for_the_seller(code: str, advice: str) -> Expected:
    return Expected(503, code, advice, logging.ERROR, "Setting up accounts is not possible right now")


FAILURES = {
    "wrong-product": Expected(
        403, "PRODUCT_MISMATCH", "which product_codes does not list", title="This subscription is for another product"
    ),
    "invalid": INVALID,
    "expired": EXPIRED,
    "namespaced-error": EXPIRED,
    "throttled": Expected(503, "THROTTLED", "ask AWS Support to raise the limit"),
    "internal-error": UNAVAILABLE,
    "html-503": UNAVAILABLE,
    "hanging-headers": UNREACHED,
    "hanging-body": UNREACHED,
    "disabled-api": for_the_seller("DISABLED_API", "Change region_name"),
    "access-denied": for_the_seller("ACCESS_DENIED", "Allow the action aws-marketplace:ResolveCustomer"),
    "expired-credentials": for_the_seller("CREDENTIALS", "Renew them, and check this machine's clock"),
    "invalid-signature": for_the_seller("CREDENTIALS", "Renew them, and check this machine's clock"),
    "unrecognized-client": for_the_seller("CREDENTIALS", "Renew them, and check this machine's clock"),
    "empty-answer": EMPTY,
    "not-json": EMPTY,
    "no-account-id": INCOMPLETE,
    "no-product-code": INCOMPLETE,
    "nulls": EMPTY,
    "empty-strings": INCOMPLETE,
}
