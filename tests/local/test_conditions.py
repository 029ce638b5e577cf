"""What can be set while the marketplace runs: latency, error rate, life of tokens."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlette_marketplace.local import CONDITIONS, Condition, LocalMarketplace, ResolveCall
from tests.local.clients import Aws, ask_patiently
from tests.local.pages import open_page
from tests.local.timers import Draws, Timer
from tests.support.servers import serve

THROTTLED = ("ThrottlingException", 400, "Rate exceeded")
INTERNAL_ERROR = ("InternalServiceErrorException", 500, "An internal error has occurred")
EXPIRED = ("ExpiredTokenException", 400, "The submitted registration token has expired")

AT_FIRST = {"latency": "0", "error-rate": "0", "token-life": ""}


def set_by_form(url: str, **typed: str) -> tuple[int, str]:
    (form,) = open_page(f"{url}/activity").forms_to("conditions")
    response = form.submit(f"{url}/activity", **{name.replace("_", "-"): text for name, text in typed.items()})
    return response.status_code, response.text


def test_the_error_rate_is_the_share_of_calls_that_fail_half_of_them_throttled_and_half_internal() -> None:
    draws = Draws(0.0, 0.0999, 0.1, 0.1999, 0.2, 0.9999)
    marketplace = LocalMarketplace(error_rate=0.2, random=draws)
    token = marketplace.issue_token("new-product")

    with serve(marketplace) as url, Aws(url) as aws:
        refusals = [aws.refusal(token) for _ in range(4)]
        assert aws.resolve(token) == aws.resolve(token)

    assert refusals == [THROTTLED, THROTTLED, INTERNAL_ERROR, INTERNAL_ERROR]
    assert [(call.scenario, call.status, call.error) for call in marketplace.resolve_calls] == [
        ("new-product", 400, "ThrottlingException"),
        ("new-product", 400, "ThrottlingException"),
        ("new-product", 500, "InternalServiceErrorException"),
        ("new-product", 500, "InternalServiceErrorException"),
        ("new-product", 200, None),
        ("new-product", 200, None),
    ]
    assert [call.remark for call in marketplace.resolve_calls] == [
        *["It failed by chance: the error rate is not zero."] * 4,
        "",
        "",
    ]


def test_without_an_error_rate_no_call_fails_and_with_all_of_it_every_call_does() -> None:
    marketplace = LocalMarketplace(random=Draws(0.0, 0.9999, 0.0))
    token = marketplace.issue_token("new-product")

    with serve(marketplace) as url, Aws(url) as aws:
        assert aws.resolve(token)
        marketplace.error_rate = 1
        assert aws.refusal(token) == INTERNAL_ERROR
        assert aws.refusal("never issued") == THROTTLED

    assert marketplace.resolve_calls[-1] == ResolveCall(None, 400)


def test_a_call_that_fails_by_chance_is_no_first_answer() -> None:
    marketplace = LocalMarketplace(error_rate=0.5, random=Draws(0.1, 0.9, 0.9))
    token = marketplace.issue_token("no-license-yet")

    with serve(marketplace) as url, Aws(url) as aws:
        aws.refusal(token)
        assert "LicenseArn" not in aws.resolve(token)
        assert "LicenseArn" in aws.resolve(token)


def test_a_token_expires_when_its_life_is_over_and_not_before() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(token_life=60, timer=timer)
    token = marketplace.issue_token("new-product")

    with serve(marketplace) as url, Aws(url) as aws:
        timer.seconds += 59.9
        assert aws.resolve(token)
        timer.seconds += 0.1
        assert aws.refusal(token) == EXPIRED
        assert aws.resolve(marketplace.issue_token("new-product"))
        marketplace.token_life = None
        assert aws.resolve(token)

    assert [call.remark for call in marketplace.resolve_calls] == [
        "",
        "The token was 60 seconds old, and tokens live for 60.",
        "",
        "",
    ]


def test_latency_is_added_to_every_answer() -> None:
    marketplace = LocalMarketplace(delay=0.25)

    answer, seconds = ask_patiently(marketplace, marketplace.issue_token("slow"))

    assert answer is not None
    assert answer.status_code == 200
    assert seconds == pytest.approx(3.25)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("delay", -0.1, r"delay is a number of seconds from 0, not -0\.1"),
        ("delay", math.inf, "delay is a number of seconds from 0, not inf"),
        ("delay", math.nan, "delay is a number of seconds from 0, not nan"),
        ("error_rate", -0.1, r"error_rate is a share from 0 to 1, not -0\.1"),
        ("error_rate", 5, "error_rate is a share from 0 to 1, not 5"),
        ("error_rate", math.nan, "error_rate is a share from 0 to 1, not nan"),
        ("token_life", 0, "token_life is a number of seconds above 0 or None, not 0"),
        ("token_life", -1, "token_life is a number of seconds above 0 or None, not -1"),
        ("token_life", math.nan, "token_life is a number of seconds above 0 or None, not nan"),
    ],
)
def test_a_value_that_cannot_be_is_refused_at_construction_and_later(name: str, value: float, message: str) -> None:
    marketplace = LocalMarketplace()
    before = getattr(marketplace, name)

    with pytest.raises(ValueError, match=message):
        setattr(marketplace, name, value)
    with pytest.raises(ValueError, match=message):
        LocalMarketplace(**{name: value})  # type: ignore[arg-type]
    assert getattr(marketplace, name) == before


def test_the_form_sets_all_of_it_in_the_units_of_people_and_shows_what_is_set(
    marketplace: LocalMarketplace, url: str
) -> None:
    (form,) = open_page(f"{url}/activity").forms_to("conditions")
    assert form.fields == AT_FIRST

    status, _ = set_by_form(url, latency=" 1500 ", error_rate="12.5", token_life="90")

    assert status == 200
    assert (marketplace.delay, marketplace.error_rate, marketplace.token_life) == (1.5, 0.125, 90)
    (form,) = open_page(f"{url}/activity").forms_to("conditions")
    assert form.fields == {"latency": "1500", "error-rate": "12.5", "token-life": "90"}


def test_what_was_set_can_be_taken_back(marketplace: LocalMarketplace, url: str) -> None:
    set_by_form(url, latency="1", error_rate="1", token_life="1")

    set_by_form(url, latency="0", error_rate="0", token_life="")

    assert (marketplace.delay, marketplace.error_rate, marketplace.token_life) == (0, 0, None)


# From what people can type, and from all that code can set.
typeable = st.tuples(st.floats(0, 60), st.floats(0, 1), st.none() | st.floats(1, 86_400))
settable = st.tuples(st.floats(0, 1e9), st.floats(0, 1), st.none() | st.floats(0, 1e9, exclude_min=True))


def state(marketplace: LocalMarketplace) -> tuple[float | None, ...]:
    return marketplace.delay, marketplace.error_rate, marketplace.token_life


def set_to(marketplace: LocalMarketplace, values: tuple[float | None, ...]) -> None:
    for condition, value in zip(CONDITIONS, values, strict=True):
        setattr(marketplace, condition.attribute, value)


def test_what_nobody_has_changed_in_the_form_stays_as_it_is(marketplace: LocalMarketplace, url: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(settable)
    def check(values: tuple[float | None, ...]) -> None:
        set_to(marketplace, values)
        assert set_by_form(url)[0] == 200
        assert state(marketplace) == values

    check()


def test_whatever_the_form_shows_can_be_typed(marketplace: LocalMarketplace, url: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(typeable, typeable)
    def check(before: tuple[float | None, ...], values: tuple[float | None, ...]) -> None:
        set_to(marketplace, values)
        (form,) = open_page(f"{url}/activity").forms_to("conditions")
        set_to(marketplace, before)
        assert form.submit(f"{url}/activity").status_code == 200
        for condition, now, value in zip(CONDITIONS, state(marketplace), values, strict=True):
            near = pytest.approx(value, rel=1e-9, abs=1e-6 * condition.per_unit) if value is not None else None
            assert now == near

    check()


@pytest.mark.parametrize(
    ("value", "shown"), [(1 / 3, "33.333333"), (1e-8, "0.000001"), (0.07, "7"), (1.0, "100"), (0.0, "0")]
)
def test_a_number_is_shown_as_people_write_it(
    marketplace: LocalMarketplace, url: str, value: float, shown: str
) -> None:
    marketplace.error_rate = value

    (form,) = open_page(f"{url}/activity").forms_to("conditions")

    assert form.fields["error-rate"] == shown


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        *[
            ({"latency": text}, "Latency is a number of milliseconds from 0 to 60000.")
            for text in ("", "-1", "60000.001", "1e3", "nan", "inf", "x", "1,5", "٣", "9" * 400)
        ],
        *[({"error_rate": text}, "Error rate is a number of percent from 0 to 100.") for text in ("", "100.1", "-0")],
        *[
            ({"token_life": text}, "Token life is a number of seconds from 1 to 86400.")
            for text in ("0", "86401", "<b>")
        ],
    ],
)
def test_a_value_that_cannot_be_is_said_beside_its_field_and_nothing_is_set(
    marketplace: LocalMarketplace, url: str, typed: dict[str, str], message: str
) -> None:
    status, page = set_by_form(url, **{"latency": "7", "error_rate": "7", "token_life": "7", **typed})

    (name,) = typed
    field = name.replace("_", "-")
    assert status == 400
    assert f'<p class="error" id="{field}-error">{message}</p>' in page
    assert f'aria-describedby="{field}-help {field}-error" aria-invalid="true"' in page
    assert page.count('class="error"') == 1
    assert "<b>" not in page
    assert 'value="7"' in page, "what was typed stays"
    assert (marketplace.delay, marketplace.error_rate, marketplace.token_life) == (0, 0, None)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_the_bounds_can_be_set(url: str, condition: Condition) -> None:
    for bound in (condition.lowest, condition.highest):
        typed = {**AT_FIRST, condition.name: str(bound)}
        assert set_by_form(url, **{name.replace("-", "_"): text for name, text in typed.items()})[0] == 200


def test_every_field_has_a_label_and_says_what_it_does(url: str) -> None:
    page = open_page(f"{url}/activity")

    for condition in CONDITIONS:
        assert f"{condition.title} in {condition.unit}" in page.text
        assert condition.help in page.text


def test_what_is_set_survives_a_reset(marketplace: LocalMarketplace) -> None:
    marketplace.delay, marketplace.error_rate, marketplace.token_life = 1, 0.5, 60

    marketplace.reset()

    assert (marketplace.delay, marketplace.error_rate, marketplace.token_life) == (1, 0.5, 60)
