import logging


class HideMarketplaceCalls(logging.Filter):
    """Drops what botocore says at DEBUG in the threads that resolve registration tokens."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_resolving = (record.threadName or "").startswith("starlette-marketplace")
        return not (is_resolving and record.levelno <= logging.DEBUG and record.name.startswith("botocore"))


handler = logging.StreamHandler()
handler.addFilter(HideMarketplaceCalls())  # on each handler: a filter on a logger does not see its children's records
logging.basicConfig(level=logging.DEBUG, handlers=[handler])
