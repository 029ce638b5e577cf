import httpx2
import pytest
from botocore.exceptions import ClientError

from starlette_marketplace.local import LocalMarketplace, ResolveCall
from tests.local.clients import Aws, body_of, signed_headers, signed_post, signed_request
from tests.local.watched import Watched
from tests.support.servers import serve
from tests.support.sockets import connect


def answer_of(marketplace: LocalMarketplace, url: str, scenario: str) -> httpx2.Response:
    return signed_post(url, body_of(marketplace.issue_token(scenario)))


def test_an_error_may_be_named_with_its_namespace(marketplace: LocalMarketplace, url: str) -> None:
    answer = answer_of(marketplace, url, "namespaced-error")

    assert answer.json()["__type"] == "com.amazonaws.marketplace.metering#ExpiredTokenException"


def test_a_load_balancer_answers_in_html_and_boto3_knows_the_status_alone(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    answer = answer_of(marketplace, url, "html-503")
    with pytest.raises(ClientError) as caught:
        aws.call(marketplace.issue_token("html-503"))

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<html>")
    assert caught.value.response["Error"]["Code"] == "503"


def test_a_captive_portal_answers_in_html_which_boto3_takes_for_an_answer_without_members(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    answer = answer_of(marketplace, url, "not-json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<html>")
    assert aws.call(marketplace.issue_token("not-json")).keys() == {"ResponseMetadata"}


def test_an_empty_answer_is_a_success_to_boto3(marketplace: LocalMarketplace, url: str, aws: Aws) -> None:
    answer = answer_of(marketplace, url, "empty-answer")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert answer.content == b""
    assert aws.call(marketplace.issue_token("empty-answer")).keys() == {"ResponseMetadata"}


@pytest.mark.parametrize(
    ("scenario", "missing"), [("no-account-id", "CustomerAWSAccountId"), ("no-product-code", "ProductCode")]
)
def test_one_member_is_missing_and_all_others_are_there(
    marketplace: LocalMarketplace, aws: Aws, scenario: str, missing: str
) -> None:
    answer = aws.resolve(marketplace.issue_token(scenario))

    assert answer.keys() == {"CustomerAWSAccountId", "ProductCode", "LicenseArn", "Metadata"} - {missing}
    assert answer["Metadata"]["AgreementId"]


def test_members_that_are_null_are_missing_from_what_boto3_gives(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    assert answer_of(marketplace, url, "nulls").json() == {
        "CustomerIdentifier": None,
        "CustomerAWSAccountId": None,
        "ProductCode": None,
        "LicenseArn": None,
        "Metadata": None,
    }
    assert aws.resolve(marketplace.issue_token("nulls")) == {}


def test_members_that_are_empty_stay_empty(marketplace: LocalMarketplace, aws: Aws) -> None:
    assert aws.resolve(marketplace.issue_token("empty-strings")) == {
        "CustomerIdentifier": "",
        "CustomerAWSAccountId": "",
        "ProductCode": "",
        "LicenseArn": "",
        "Metadata": {"AgreementId": ""},
    }


@pytest.mark.parametrize(("scenario", "status"), [("hanging-headers", None), ("hanging-body", 200)])
def test_an_answer_that_never_ends_is_over_when_the_client_hangs_up(
    marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture, scenario: str, status: int | None
) -> None:
    watched = Watched(marketplace)

    with serve(watched) as url:
        with connect(url) as connection:
            connection.sendall(signed_request(url, body_of(marketplace.issue_token(scenario))))
            assert watched.read.wait(timeout=60)
        assert watched.ended.wait(timeout=60)
        with Aws(url) as patient:
            assert patient.resolve(marketplace.issue_token("new-product"))

    assert marketplace.resolve_calls == [ResolveCall(scenario, status), ResolveCall("new-product", 200)]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_half_an_answer_is_less_than_its_headers_promise(marketplace: LocalMarketplace, url: str) -> None:
    body = body_of(marketplace.issue_token("hanging-body"))

    with httpx2.stream("POST", f"{url}/", content=body, headers=signed_headers(url, body)) as answer:
        came = next(answer.iter_raw())

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        assert came.startswith(b'{"CustomerAWSAccountId":')
        assert len(came) < int(answer.headers["content-length"])
