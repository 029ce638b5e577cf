"""What the first buyer waits for: `python -m benchmarks.first_buyer [started]` prints CPU seconds as JSON.

AWS is at AWS_ENDPOINT_URL_MARKETPLACE_METERING and answers at once.
"""

import asyncio
import json
import sys
import time

from benchmarks.requests import form, requests
from starlette_marketplace import Marketplace


async def main(*options: str) -> None:
    marketplace = Marketplace()
    if options:
        await marketplace.startup()
    seconds = []
    for token in ("first", "second"):
        send = requests(marketplace, "/register", bodies=iter([form(token)]))
        began = time.process_time()
        await send(1)
        seconds.append(time.process_time() - began)
    print(json.dumps(seconds))
    marketplace.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
