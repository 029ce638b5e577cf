"""What importing the package adds to Starlette: `python -m benchmarks.importing` prints CPU seconds as JSON."""

import json
import sys
import time

import starlette.applications
import starlette.middleware.sessions
import starlette.routing  # noqa: F401

began = time.process_time()
import starlette_marketplace  # noqa: E402, F401

seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "boto3": "boto3" in sys.modules}))
