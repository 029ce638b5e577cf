"""What a resolution that is kept takes: `python -m benchmarks.memory COUNT` prints bytes as JSON."""

import asyncio
import gc
import json
import sys
import tracemalloc

from benchmarks.in_process import SETTINGS
from starlette_marketplace import MarketplaceCustomer
from starlette_marketplace.registration.resolution import Resolutions


class Anybody:
    """Answers without AWS, for each token with a customer of its own."""

    def resolve(self, token: str) -> MarketplaceCustomer:
        number = token[:8]
        return MarketplaceCustomer(
            aws_account_id=f"1234{number}",
            product_code="".join(["acme", "analytics"]),
            license_arn=f"arn:aws:license-manager::111122223333:license:l-0123456789abcdef01234567{number}",
            agreement_id=f"agmt-0123456789abcdefg{number}",
        )


async def main(count: int) -> None:
    resolutions = Resolutions(SETTINGS, Anybody())
    rest = "mZk3+9vQ/x7LpW2sT8bN" * 9
    for number in range(50):
        await resolutions.resolve(f"{number:08d}{rest}")
    gc.collect()
    tracemalloc.start()
    for number in range(50, 50 + count):
        await resolutions.resolve(f"{number:08d}{rest}")
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    print(json.dumps(kept / count))
    resolutions.pool.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
