"""Reproductions of why a registration fails: the reasons in the log, and the pages that buyers see."""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread
import httpx2
from botocore.client import BaseClient
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_marketplace import (
    AgreementNotFoundError,
    Marketplace,
    MarketplaceError,
    MarketplaceMiddleware,
    RequestError,
    TokenError,
)
from starlette_marketplace.hooks import RegistrationResolved
from starlette_marketplace.registration.resolution import Resolutions
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.testing import FakeResolver
from tests.docs.troubleshooting_scene import Failure, Reproduction, Scene, texts_in
from tests.support.fakes import FakeTimer
from tests.support.hosts import LANDING, beside, browser, crowd, form, read_form, starlette_middleware
from tests.support.network import Fault, Network, refusing
from tests.support.servers import over_tls, serve

Failing = Callable[[Scene], Failure]

ROLE = "arn:aws:iam::123456789012:role/"


def scenario(name: str, **changes: Any) -> Failing:
    return lambda scene: scene.register(name, **changes)


def sending(headers: dict[str, str] | None = None, **content: Any) -> Failing:
    return lambda scene: scene.register(sends={"headers": headers, **content})


def sending_json(text: str) -> Failing:
    return sending({"content-type": "application/json"}, content=text)


def reading_the_form_outside(scene: Scene) -> Failure:
    def host(**options: Any) -> ASGIApp:
        return beside(starlette_middleware(**options), outside=[Middleware(BaseHTTPMiddleware, dispatch=read_form)])

    return scene.register(host=host)


class KeepsTheBody:
    """A middleware that reads the body and does not pass it on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
        await self._app(scope, receive, send)


def keeping_the_body(scene: Scene) -> Failure:
    app = starlette_middleware(settings=replace(scene.settings, deadline=0.1))
    with serve(KeepsTheBody(app)) as url:
        return scene.failure(httpx2.post(url + LANDING, data=form("a")))


def answered_by(answer: Response) -> Failing:
    """Something else than the local marketplace answers for AWS."""

    def fail(scene: Scene) -> Failure:
        with serve(answer, lifespan="off") as url:
            return scene.register(endpoint_url=url)

    return fail


def without_a_connection(scene: Scene) -> Failure:
    with refusing() as url:
        return scene.register(endpoint_url=url)


def with_a_role(name: str, *, access_key_id: str = "test", sts: Response | None = None) -> Failing:
    def fail(scene: Scene) -> Failure:
        scene.environment.setenv("AWS_ACCESS_KEY_ID", access_key_id)
        with ExitStack() as stack:
            url = scene.settings.endpoint_url if sts is None else stack.enter_context(serve(sts, lifespan="off"))
            scene.environment.setenv("AWS_ENDPOINT_URL_STS", str(url))
            return scene.register(role_arn=ROLE + name)

    return fail


def without_credentials(scene: Scene) -> Failure:
    scene.environment.delenv("AWS_ACCESS_KEY_ID")
    scene.environment.delenv("AWS_SECRET_ACCESS_KEY")
    return scene.register()


def with_half_the_credentials(scene: Scene) -> Failure:
    scene.environment.delenv("AWS_SECRET_ACCESS_KEY")
    return scene.register()


def with_a_variable(name: str, value: str) -> Failing:
    def fail(scene: Scene) -> Failure:
        scene.environment.setenv("AWS_SESSION_TOKEN", "session")
        scene.environment.setenv(name, value)
        return scene.register()

    return fail


def with_a_profile(text: str, **changes: Any) -> Failing:
    def fail(scene: Scene) -> Failure:
        if "endpoint_url" not in text:
            scene.environment.delenv("AWS_ACCESS_KEY_ID")
            scene.environment.delenv("AWS_SECRET_ACCESS_KEY")
        scene.environment.setenv("HOME", str(scene.folder))
        own = "[profile own]\naws_access_key_id = own\naws_secret_access_key = secret\n"
        (scene.folder / "config").write_text(f"[default]\n{text}\n{own}")
        return scene.register(**changes)

    return fail


def with_a_process(command: str) -> Failing:
    return with_a_profile(f"credential_process = {command}")


def with_a_process_that_hangs(scene: Scene) -> Failure:
    pipe = scene.folder / "pipe"
    os.mkfifo(pipe)
    try:
        return with_a_profile(f"credential_process = cat {pipe}", deadline=0.2)(scene)
    finally:
        # The process ends once somebody has opened the pipe and closed it.
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def with_tracing_that_fails(scene: Scene) -> Failure:
    def fail(*_: object) -> None:
        raise KeyError("a span without a parent")

    scene.environment.setattr(BaseClient, "_make_api_call", fail)
    return scene.register()


def with_a_certificate_of_nobody(scene: Scene) -> Failure:
    with over_tls(PlainTextResponse(), scene.folder) as url:
        scene.environment.delenv("AWS_CA_BUNDLE", raising=False)
        return scene.register(endpoint_url=url)


def with_a_configuration_that_cannot_be_read(scene: Scene) -> Failure:
    (scene.folder / "config").write_text("[default\nregion = us-east-1\n")
    return scene.register()


def with_a_region_that_is_none(scene: Scene) -> Failure:
    return scene.register(starts=False, region_name="us_east_1")


def with_a_profile_that_is_not_there(scene: Scene) -> Failure:
    return scene.register(starts=False, profile_name="seller")


@contextmanager
def silence(scene: Scene) -> Iterator[Network]:
    """AWS takes calls and answers none."""
    network = scene.network()
    network.suffer(Fault.SILENCE)
    try:
        yield network
    finally:
        network.mend()


def failure_in_silence(scene: Scene, come: Callable[[Network], Awaitable[httpx2.Response]]) -> Failure:
    """The one failure of several buyers who come while AWS answers none."""
    with silence(scene) as network:
        answer = anyio.run(come, network)
    scene.log.records[:] = [record for record in scene.log.records if record.levelname == "WARNING"]
    return scene.failure(answer)


def past_the_deadline(scene: Scene) -> Failure:
    with silence(scene) as network:
        return scene.register(endpoint_url=network.url, read_timeout=60, deadline=4.0)


def too_many(scene: Scene) -> Failure:
    async def come(network: Network) -> httpx2.Response:
        few = replace(scene.settings, endpoint_url=network.url, read_timeout=60, max_concurrency=1, max_waiting=1)
        tokens = [scene.marketplace.issue_token("new-product") for _ in range(3)]
        async with browser(starlette_middleware(settings=few)) as buyer, crowd(buyer, tokens) as (_, answers):
            network.mend()
            return answers[0]

    return failure_in_silence(scene, come)


def shutting_down(scene: Scene) -> Failure:
    async def come(network: Network) -> httpx2.Response:
        marketplace = Marketplace(
            replace(scene.settings, endpoint_url=network.url, read_timeout=60, deadline=60, max_concurrency=1)
        )
        tokens = [scene.marketplace.issue_token("new-product") for _ in range(2)]
        app = MarketplaceMiddleware(PlainTextResponse(), marketplace)
        async with browser(app) as buyer:
            async with crowd(buyer, tokens) as (_, answers):
                await anyio.to_thread.run_sync(network.held.acquire)
                marketplace.shutdown()
                network.mend()
            [answer] = [answer for answer in answers if answer.status_code == 503]
            return answer

    return failure_in_silence(scene, come)


def without_a_thread(scene: Scene) -> Failure:
    async def come() -> httpx2.Response:
        async with browser(starlette_middleware(settings=scene.settings)) as buyer:
            # A thread with this much of a stack is more than a machine can address.
            usual = threading.stack_size(1 << 47)
            try:
                return await buyer.post(LANDING, data=form("a"))
            finally:
                threading.stack_size(usual)

    return scene.failure(anyio.run(come))


def nobody_is_left(scene: Scene) -> str:
    """The first call holds the one thread until the time of the second is over."""
    timer = FakeTimer()
    errors: list[str] = []

    async def come(network: Network) -> None:
        settings = replace(scene.settings, endpoint_url=network.url, read_timeout=60, deadline=60, max_concurrency=1)
        resolutions = Resolutions(settings, AwsResolver(settings), timer=timer)

        async def resolve(token: str) -> None:
            try:
                await resolutions.resolve(token)
            except MarketplaceError as error:
                errors.append(f"{error.code}: {error}")

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(resolve, scene.marketplace.issue_token("new-product"))
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(network.held.acquire)
            timer.now += 61
            network.mend()
        resolutions.pool.close()

    with silence(scene) as network:
        anyio.run(come, network)
    [error] = errors
    code, _, text = error.partition(": ")
    assert code == "OVERLOADED"
    return text


def raised_by_a_hook(error: MarketplaceError) -> Failing:
    def refuse(_: RegistrationResolved) -> None:
        raise error

    return lambda scene: scene.register(hooks={"on_resolved": refuse})


def raised_by_a_resolver(error: MarketplaceError) -> Failing:
    def fail(scene: Scene) -> Failure:
        return scene.register(sends={"data": form("a")}, hooks={"resolver": FakeResolver({"a": error})})

    return fail


FAILING: dict[str, Failing] = {
    "empty-body": sending({"content-type": "application/x-www-form-urlencoded"}, content=""),
    "body-too-slow": keeping_the_body,
    "no-token": sending(data={"x-amzn-marketplace-offer-type": "free-trial"}),
    "two-tokens": sending(data={"x-amzn-marketplace-token": ["a", "b"]}),
    "odd-token": sending(data=form("ä")),
    "bad-form": sending({"content-type": "application/x-www-form-urlencoded"}, content="a=%FF"),
    "bad-boundary": sending({"content-type": f"multipart/form-data; boundary={'a' * 71}"}, content="--b\r\n"),
    "bad-multipart": sending({"content-type": "multipart/form-data; boundary=a"}, content="--b\r\n"),
    "bad-json": sending_json('{"RegistrationToken": '),
    "json-no-object": sending_json("[]"),
    "json-token-no-string": sending_json('{"RegistrationToken": null}'),
    "body-too-large": sending(data=form("a" * 20_000)),
    "no-form": sending({"content-type": "text/plain"}, content="a"),
    "compressed": sending({"content-encoding": "gzip"}, data=form("a")),
    "invalid-token": scenario("invalid"),
    "expired-token": scenario("expired"),
    "other-product": scenario("wrong-product"),
    "fake-resolver": lambda scene: scene.register(hooks={"resolver": FakeResolver({})}),
    "throttled": scenario("throttled"),
    "deadline": past_the_deadline,
    "not-reached": without_a_connection,
    "aws-failed": scenario("internal-error"),
    "nothing-in-it": scenario("not-json"),
    "unreadable": answered_by(PlainTextResponse("[]")),
    "something-else": answered_by(HTMLResponse("<h1>Not Found</h1>", 404)),
    "no-credentials-given": with_a_role("resolver", sts=PlainTextResponse("", 500)),
    "incomplete": scenario("no-account-id"),
    "overloaded": too_many,
    "no-thread": without_a_thread,
    "shutting-down": shutting_down,
    "no-credentials": without_credentials,
    "credentials-not-had": with_half_the_credentials,
    "credentials-refused": scenario("expired-credentials"),
    "role-credentials-refused": with_a_role("resolver", access_key_id="unknown"),
    "role-denied": with_a_role("denied"),
    "access-denied": scenario("access-denied"),
    "disabled-api": scenario("disabled-api"),
    "aws-configuration": with_a_configuration_that_cannot_be_read,
    "no-license": scenario("legacy-product", legacy_product_codes="none"),
    "lookup-failed": with_a_process("echo no JSON"),
    "lookup-slow": with_a_process_that_hangs,
    "credentials-expired": with_a_variable("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z"),
    "credentials-incomplete": with_a_variable("AWS_SECRET_ACCESS_KEY", "secret\n"),
    "login-over": with_a_profile(
        "sso_start_url = https://acme.awsapps.com/start\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = seller"
    ),
    "mfa": with_a_profile(f"role_arn = {ROLE}resolver\nsource_profile = own\nmfa_serial = {ROLE}me"),
    "lacks-crt": with_a_profile("login_session = arn:aws:iam::123456789012:user/me"),
    "failed-here": with_tracing_that_fails,
    "untrusted": with_a_certificate_of_nobody,
    "endpoint-in-file": with_a_profile("endpoint_url = http://127.0.0.1:9", starts=False, endpoint_url=None),
}

BY_HOSTS: dict[str, Failing] = {
    "BAD_REQUEST": raised_by_a_hook(RequestError("no")),
    "BAD_TOKEN": raised_by_a_resolver(TokenError("no")),
    "SETTINGS": with_a_profile_that_is_not_there,
    "REGION": with_a_region_that_is_none,
    "AGREEMENT_NOT_FOUND": raised_by_a_hook(AgreementNotFoundError("no")),
    "MARKETPLACE_ERROR": raised_by_a_hook(MarketplaceError("no")),
}
"""By their codes, what hosts do or leave undone."""


def redirected_on_the_way(scene: Scene) -> str:
    """http to https as many do it, with 301."""
    elsewhere = Route("/old", lambda _: RedirectResponse(LANDING, 301), methods=["POST"])
    app = starlette_middleware(settings=scene.settings)
    beside(app).routes.append(elsewhere)
    with serve(app) as url:
        page = httpx2.post(url + "/old", data=form("a"), follow_redirects=True)
        unredirected = httpx2.post(url + LANDING, data={"x": "y"})
    assert (page.status_code, unredirected.status_code) == (200, 400)
    [title] = texts_in(page.text, "h1")
    return title


LANDING_PAGE: dict[str, Reproduction] = {"landing-page": redirected_on_the_way}

OTHER_REASONS: dict[str, Reproduction] = {"nobody-left": nobody_is_left}
