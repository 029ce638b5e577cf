from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace import Agreement, AwsUnavailableError, IncompleteAnswerError, MarketplaceError
from starlette_marketplace.subscriptions.agreements import agreement_of
from tests.support.aws import ACCOUNT, END, START, FakeAws, answer, described, reader_of
from tests.support.servers import serve

pytestmark = pytest.mark.usefixtures("environment")


def read(**members: Any) -> Agreement:
    with serve(FakeAws(answer(described(**members))), lifespan="off") as url:
        return reader_of(url).get_agreement("agmt-1")


def test_an_agreement_is_all_that_aws_says_of_it() -> None:
    aws = FakeAws(answer(described()))
    with serve(aws, lifespan="off") as url:
        agreement = reader_of(url).get_agreement("agmt-1")
    assert agreement == Agreement(
        id="agmt-1",
        status="ACTIVE",
        aws_account_id=ACCOUNT,
        product_id="prod-abc",
        starts_at=START,
        ends_at=END,
        accepted_at=datetime.fromtimestamp(START.timestamp() - 60, UTC),
        free_trial_ends_at=None,
        initial_id="agmt-0",
        auto_renews=True,
    )
    [call] = aws.calls
    assert call.headers["x-amz-target"] == "AWSMPCommerceService_v20200301.DescribeAgreement"
    assert call.headers["content-type"] == "application/x-amz-json-1.0"


def test_what_aws_leaves_out_is_none() -> None:
    agreement = read(endTime=None, initialAgreementId=None, endTimeBehavior=None)
    assert (agreement.ends_at, agreement.initial_id, agreement.auto_renews) == (None, None, None)


def test_pay_as_you_go_has_no_end_whichever_way_aws_says_so() -> None:
    assert read(endTime=datetime(9999, 1, 1, tzinfo=UTC).timestamp()).ends_at is None


@pytest.mark.parametrize(("ending", "renews"), [("RENEW", True), ("EXPIRE", False), ("REPLACE", False), ("NEW", False)])
def test_only_what_renews_renews(ending: str, renews: bool) -> None:
    assert read(endTimeBehavior={"type": ending}).auto_renews is renews


def test_a_free_trial_has_an_end() -> None:
    assert read(freeTrialSummary={"trialEndTime": END.timestamp()}).free_trial_ends_at == END


@pytest.mark.parametrize(
    ("status", "is_over"),
    [
        ("ACTIVE", False),
        ("CANCELLED", True),
        ("EXPIRED", True),
        ("TERMINATED", True),
        ("RENEWED", False),
        ("REPLACED", False),
        ("ARCHIVED", False),
        ("ROLLED_BACK", False),
        ("SUPERSEDED", False),
        ("BRAND_NEW", False),
    ],
)
def test_a_status_is_the_word_of_aws_and_three_of_them_are_an_end(
    status: str, is_over: bool, caplog: pytest.LogCaptureFixture
) -> None:
    agreement = read(status=status)
    assert (agreement.status, agreement.is_over) == (status, is_over)
    assert ("the status BRAND_NEW, which this version does not know" in caplog.text) == (status == "BRAND_NEW")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("agreementId", None),
        ("agreementId", "agmt-2"),
        ("acceptor", None),
        ("acceptor", {}),
        ("startTime", None),
        ("acceptanceTime", None),
        ("status", None),
        ("status", ""),
        ("status", "ACTIVE\n"),
        ("proposalSummary", None),
        ("proposalSummary", {"resources": []}),
        ("proposalSummary", {"resources": [{"type": "SaaSProduct"}]}),
    ],
)
def test_an_answer_without_what_it_has_to_have_is_an_error(member: str, value: object) -> None:
    with pytest.raises(IncompleteAnswerError, match="its answer cannot be used") as caught:
        read(**{member: value})
    assert not caught.value.__context__


@pytest.mark.parametrize(
    ("content", "expected"), [({}, IncompleteAnswerError), ({"message": "maintenance"}, AwsUnavailableError)]
)
def test_an_answer_without_members_is_an_error(content: dict[str, str], expected: type[MarketplaceError]) -> None:
    with serve(FakeAws(answer(content)), lifespan="off") as url, pytest.raises(MarketplaceError) as caught:
        reader_of(url).get_agreement("agmt-1")
    assert type(caught.value) is expected


anything = st.none() | st.text(max_size=3) | st.integers() | st.datetimes() | st.datetimes(timezones=st.just(UTC))
part = anything | st.dictionaries(st.sampled_from(["accountId", "type", "trialEndTime", "resources"]), anything)


@given(st.dictionaries(st.sampled_from([*described(), "freeTrialSummary"]), part))
def test_any_answer_is_read_or_refused(changes: dict[str, Any]) -> None:
    times = dict.fromkeys(("startTime", "endTime", "acceptanceTime"), START)
    members = described(**(times | changes))
    try:
        agreement = agreement_of(members, "agmt-1")
    except ValueError:
        return
    assert members["agreementId"] == agreement.id == "agmt-1"
    assert members["status"] == agreement.status
    assert agreement.starts_at.tzinfo is agreement.accepted_at.tzinfo is UTC
