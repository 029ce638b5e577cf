import json
import logging
import sys
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.requests import Request

from starlette_marketplace import MarketplaceMiddleware, get_registration

OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the constant message to group by, the text to read, and all that is in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "event": record.msg,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(extra | line, default=str)


handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])

app = FastAPI()
app.add_middleware(MarketplaceMiddleware)  # settings from the environment


@app.get("/signup")
def show_signup(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Welcome from AWS Marketplace!" if get_registration(request) else "Welcome!")
