"""Reproductions of what the log says. How each looks as a whole is a matter of tests/test_log_events.py."""

from dataclasses import replace

from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from starlette_marketplace import Marketplace, MarketplaceSettings
from starlette_marketplace.hooks import RegistrationResolved
from starlette_marketplace.registration.redis import RedisCache
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.registration.shared_cache import SharedResolver
from tests.docs.troubleshooting_scene import Reproduction, Scene
from tests.support.aws import connect_with_a_botocore_that_does_not_know_agreements
from tests.support.fakes import FakeTimer
from tests.support.hosts import LANDING, form, starlette_middleware
from tests.support.observability import older_opentelemetry
from tests.support.redis_server import RedisServer


def begun(scene: Scene) -> str:
    with TestClient(starlette_middleware(settings=scene.settings), base_url="https://app.example") as client:
        assert client.post(LANDING, data=form(scene.marketplace.issue_token("new-product"))).url.path == "/signup"
    return scene.said()


def refused(scene: Scene) -> str:
    def refuse(_: RegistrationResolved) -> Response:
        return PlainTextResponse("no", 403)

    with TestClient(starlette_middleware(settings=scene.settings, on_resolved=refuse)) as client:
        answer = client.post(LANDING, data=form(scene.marketplace.issue_token("new-product")))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    return scene.said()


def failed(scene: Scene) -> str:
    scene.register("expired")
    return scene.said()


def will_fail(scene: Scene) -> str:
    scene.environment.delenv("AWS_ACCESS_KEY_ID")
    scene.environment.delenv("AWS_SECRET_ACCESS_KEY")
    with TestClient(starlette_middleware(settings=scene.settings)) as client:
        assert client.get("/signup").json() is None, "the server runs all the same"
    return scene.said()


def not_aws(scene: Scene) -> str:
    with TestClient(starlette_middleware(settings=scene.settings)):
        [record] = scene.log.records
        return record.getMessage()


def region_unknown(scene: Scene) -> str:
    app = starlette_middleware(settings=replace(scene.settings, endpoint_url=None, region_name="us-gov-west-1"))
    with TestClient(app):
        return scene.said()


def old_botocore(scene: Scene) -> str:
    connect_with_a_botocore_that_does_not_know_agreements(scene.settings, scene.folder, scene.environment)
    return scene.said()


def cache_failed(scene: Scene) -> str:
    server: RedisServer = scene.ask_for("own_server")
    server.kill()
    app = starlette_middleware(settings=replace(scene.settings, cache_url=server.url))
    with TestClient(app, follow_redirects=False) as client:
        said = scene.said()
        token = scene.marketplace.issue_token("new-product")
        assert client.post(LANDING, data=form(token)).status_code == 303, "registrations go on"
    return said


def cache_works(scene: Scene) -> str:
    server: RedisServer = scene.ask_for("own_server")
    timer = FakeTimer()
    settings = scene.settings
    resolver = SharedResolver(AwsResolver(settings), RedisCache.from_url(server.url), settings, timer=timer)
    server.kill()
    resolver.resolve(scene.marketplace.issue_token("new-product"))
    assert "The shared cache failed at get (ConnectionError)" in scene.said()
    server.start()
    timer.now += 6
    resolver.resolve(scene.marketplace.issue_token("new-product"))
    return scene.said()


def cache_value(scene: Scene) -> str:
    server: RedisServer = scene.ask_for("server")
    settings = replace(scene.settings, cache_url=server.url)
    token = scene.marketplace.issue_token("new-product")

    def post(settings: MarketplaceSettings) -> list[str]:
        scene.log.clear()
        with TestClient(starlette_middleware(settings=settings), follow_redirects=False) as client:
            assert client.post(LANDING, data=form(token)).status_code == 303
        return [record.getMessage() for record in scene.lines() if record.levelname == "WARNING"]

    assert not post(settings)
    assert not post(replace(settings, secret_key="o" * 32)), "with another key the names differ too"
    with server.client() as redis:
        for key in redis.keys("starlette-marketplace:*"):
            redis.set(key, "of somebody else")
    warnings = post(settings)
    assert len(scene.marketplace.resolve_calls) == 3
    assert not post(settings), "the value was replaced"
    return warnings[0]


def no_spans(scene: Scene) -> str:
    with older_opentelemetry(scene.environment):
        Marketplace(scene.settings)
    return scene.said()


LOG: dict[str, Reproduction] = {
    "begun": begun,
    "refused": refused,
    "failed": failed,
    "will-fail": will_fail,
    "not-aws": not_aws,
    "region-unknown": region_unknown,
    "old-botocore": old_botocore,
    "cache-failed": cache_failed,
    "cache-works": cache_works,
    "cache-value": cache_value,
    "no-spans": no_spans,
}
