"""Processes that fork with a marketplace in them, as `gunicorn --preload` and `multiprocessing` do."""

import json
import subprocess
import sys

import pytest

from starlette_marketplace.testing import RunningMarketplace
from tests.support.redis_server import RedisServer

TOKENS_EACH = 20

# The parent has a connection to AWS, threads and a resolution under way when it forks. Parent and children then resolve
# tokens at once: those that shared a connection would read one another's answers.
PROGRAM = """
import asyncio, json, os, sys, threading, traceback, warnings
from starlette_marketplace import Marketplace

warnings.simplefilter("ignore")  # that a process with threads forks
shares = json.load(sys.stdin)
marketplace = Marketplace()

async def resolve_all(tokens):
    customers = await asyncio.gather(*(marketplace.endpoint.resolutions.resolve(token) for token in tokens))
    return [customer.aws_account_id for customer in customers]

async def begin(tokens):
    await marketplace.startup()
    first = await resolve_all(tokens[:1])
    under_way = asyncio.create_task(resolve_all(tokens[1:]))
    await asyncio.sleep(0)
    return first + (fork() or await under_way)

def fork():
    for number in range(1, len(shares)):
        if os.fork() == 0:
            threading.Thread(target=child, args=(shares[number],)).start()
            threading.Event().wait()

def child(tokens):
    try:
        asyncio.run(marketplace.startup())
        answers = asyncio.run(resolve_all(tokens))
    except BaseException:
        answers = traceback.format_exc()
    os.write(1, json.dumps([tokens, answers]).encode() + b"\\n")
    os._exit(0)

answers = asyncio.run(begin(shares[0]))
for _ in shares[1:]:
    os.wait()
os.write(1, json.dumps([shares[0], answers]).encode() + b"\\n")
"""


@pytest.mark.parametrize("children", [1, 3])
@pytest.mark.parametrize("shares_in_redis", [False, True])
def test_parent_and_children_each_get_the_identities_of_their_own_buyers(
    local_marketplace: RunningMarketplace, server: RedisServer, children: int, shares_in_redis: bool
) -> None:
    environment = local_marketplace.environment()
    if shares_in_redis:
        environment["MARKETPLACE_CACHE_URL"] = server.url
    accounts = {}
    for _ in range(TOKENS_EACH * (children + 1)):
        local_marketplace.marketplace.shop_as_another_buyer()
        accounts[local_marketplace.issue_token()] = local_marketplace.account_id
    tokens = list(accounts)
    shares = [tokens[number :: children + 1] for number in range(children + 1)]

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(shares),
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(answers) == children + 1
    for asked, given in answers:
        assert given == [accounts[token] for token in asked]
