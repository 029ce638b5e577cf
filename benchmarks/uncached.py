"""What a registration costs that asks AWS: `python -m benchmarks.uncached ROUNDS` prints CPU seconds as JSON.

AWS is at AWS_ENDPOINT_URL_MARKETPLACE_METERING and answers at once. The rival is boto3 alone, called in a thread.
"""

import asyncio
import json
import sys
from itertools import count

import boto3

from benchmarks.requests import form, requests
from benchmarks.rounds import cpu_times
from starlette_marketplace import Marketplace

LANDING = "/register"
CALLS = 50


async def main(rounds: int) -> None:
    tokens = (f"{number:06d}" + "mZk3+9vQ/x7LpW2sT8bN" * 9 for number in count())
    # Encoded by the browser, so not by what is measured.
    forms = iter([form(next(tokens)) for _ in range((rounds + 1) * CALLS)])
    client = boto3.client("meteringmarketplace")
    marketplace = Marketplace()
    await marketplace.startup()

    async def boto3_alone(calls: int) -> None:
        for _ in range(calls):
            await asyncio.to_thread(client.resolve_customer, RegistrationToken=next(tokens))

    ours = requests(marketplace, LANDING, bodies=forms)
    print(json.dumps(await cpu_times({"boto3": boto3_alone, "ours": ours}, rounds=rounds, calls=CALLS)))
    marketplace.shutdown()


if __name__ == "__main__":
    # OpenTelemetry is not among what the package needs.
    sys.modules["starlette_marketplace.otel"] = None  # type: ignore[assignment]
    asyncio.run(main(int(sys.argv[1])))
