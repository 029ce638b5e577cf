"""`Client`: boto3's clients of AWS Marketplace, which sign with credentials that somebody else looks up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import errors
from .aws_errors import call_error_of, foreign_answer, setup_error_of
from .aws_services import METERING
from .aws_session import freeze

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from .aws_services import Service


class Client:
    """Clients of the services, which look up no credentials by themselves.

    Args:
        make: Makes boto3's client of a service.
        source: The credentials, which may know how to refresh themselves.
        held: What the clients sign with.
    """

    def __init__(self, make: Callable[[Service], Any], source: Credentials, held: Any) -> None:
        self._make = make
        self._source = source
        self._held = held
        self._call = threading.local()
        self._lock = threading.Lock()
        self._made: dict[Service, Any] = {}
        self.metering: Any = self._of(METERING)

    def is_refresh_due(self) -> bool:
        """Whether the credentials are to be refreshed, though they may be good for some minutes."""
        return self._needs_refresh(None)

    def is_expired(self) -> bool:
        """Whether the credentials are known to be over."""
        return self._needs_refresh(0)

    def refresh(self) -> None:
        """Refresh the credentials.

        Raises:
            MarketplaceError: That failed.
        """
        self._held.frozen = freeze(self._source)

    def ask(self, call: Callable[[Any], Mapping[str, Any]], service: Service = METERING) -> Mapping[str, Any]:
        """What `call` gives when it is given boto3's client of `service`, which is made when it is first asked.

        Raises:
            MarketplaceError: The call failed, or there can be no such client.
        """
        client = self.metering if service is METERING else self._of(service)
        self._call.is_answered, self._call.is_readable = False, True
        try:
            answer = call(client)
        except Exception as exc:  # noqa: BLE001 - whatever patches botocore may raise anything.
            failure = call_error_of(exc, is_answered=self._call.is_answered, setting=service.setting)
        else:
            if self._call.is_readable:
                return answer
            failure = foreign_answer(answer, service.setting)
        # Out here it has no context, which could hold the token.
        raise failure

    def _of(self, service: Service) -> Any:
        with self._lock:
            if service not in self._made:
                made = self._make_or_say_why_not(service)
                made.meta.events.register_first("request-created", self._begin_attempt)
                made.meta.events.register_first("before-parse", self._note_answer)
                if service is not METERING:
                    made.meta.events.register("before-parse", self._read_answer)
                self._made[service] = made
            return self._made[service]

    def _make_or_say_why_not(self, service: Service) -> Any:
        try:
            return self._make(service)
        except errors.MarketplaceError:
            raise
        except Exception as exc:  # noqa: BLE001 - botocore raises what Python does for a malformed endpoint.
            failure = setup_error_of(exc)
        raise failure

    def _needs_refresh(self, seconds: int | None) -> bool:
        needs_refresh = getattr(self._source, "refresh_needed", None)
        return needs_refresh is not None and needs_refresh(seconds)

    def _begin_attempt(self, **_: object) -> None:
        self._call.is_answered = False

    def _note_answer(self, **_: object) -> None:
        self._call.is_answered = True

    def _read_answer(self, response_dict: Mapping[str, Any], operation_model: Any, **_: object) -> None:
        status, body = response_dict["status_code"], response_dict["body"]
        if status == 200 and response_dict["headers"].get("smithy-protocol") == "rpc-v2-cbor":
            self._call.is_readable = bool(body)
        elif status < 300:
            self._call.is_readable = status == 200 and _is_answer(body, operation_model.output_shape.members)


def _is_answer(body: bytes, members: Mapping[str, object]) -> bool:
    """Whether it is the JSON of an answer with these members, or of an empty one.

    Of a body that is empty, cut off, or a web page, botocore makes an answer without members. AWS sends {} when there
    are no entitlements.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and (not answer or not members.keys().isdisjoint(answer))
