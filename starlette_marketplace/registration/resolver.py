"""Asking AWS who a registration token stands for: the `Resolver` Protocol, and `AwsResolver` by boto3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .. import errors
from ..aws import Connection
from ..aws_client import Client
from ..aws_errors import foreign_answer, request_id_in
from ..clocks import monotonic
from ..customer import MarketplaceCustomer
from ..settings import is_identified
from .kept import HiddenToken

if TYPE_CHECKING:
    from ..settings import MarketplaceSettings
    from ..telemetry import Telemetry


class Resolver(Protocol):
    """Exchanges a registration token for the customer whom it stands for.

    Called in threads of our own, so it may block, and from several of them at once.
    """

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: The one that says why not. `InvalidTokenError` and `ExpiredTokenError` are remembered for
                a moment, others are not. Its text must not contain the token.
        """
        ...


class AwsResolver:
    """`ResolveCustomer` of the AWS Marketplace Metering Service, by boto3.

    It must be called with credentials of the account that published the product, allowed
    `aws-marketplace:ResolveCustomer` on `*`: directly, or by `role_arn`.
    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-metering_ResolveCustomer.html
    """

    def __init__(
        self,
        settings: MarketplaceSettings,
        *,
        connection: Connection | None = None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._connection = Connection(settings, timer=timer) if connection is None else connection

    def connect(self) -> None:
        """Create the client and look up credentials, if need be. Asks nothing of the metering service.

        It waits for three quarters of `deadline` at most. A failure is kept for ten seconds and raised again meanwhile.

        Raises:
            SettingsError: `profile_name` is not in the AWS configuration files, or an endpoint is there that has to be
                in the settings or the environment.
            RegionError: The region is malformed.
            CredentialsError: There are no AWS credentials, or they cannot be used or looked up in time.
            MarketplaceError: The AWS configuration cannot be used, or AWS did not give the credentials that it names.
        """
        self._connection.client()

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, by one call to AWS and its retries.

        Raises:
            MarketplaceError: A `TokenError`, `UnavailableError` or `ConfigurationError`. If AWS answered with an error,
                its cause is a `ClientError` with the code and the request id; nothing else of the call is kept.
        """
        hidden = HiddenToken(token)
        del token
        client = self._connection.client()
        try:
            # The answer is in no local variable here: what stands in for AWS may quote the token.
            return _customer(self._ask(client, hidden))
        except errors.MarketplaceError as error:
            if not hidden.is_quoted_in(str(error)):
                raise
            failure = type(error)(*(str(text).replace(hidden.value, "...") for text in error.args))
        raise failure

    def _ask(self, client: Client, token: HiddenToken) -> Mapping[str, Any]:
        try:
            return client.ask(lambda metering: metering.resolve_customer(RegistrationToken=token.value))
        except errors.CredentialsError:
            self._connection.forget(client)
            raise


class CheckedResolver:
    """A resolver whose calls are taken note of, and whose answers have to identify the customer.

    Args:
        resolver: Asks AWS.
        settings: For which products a customer identifier is enough.
        telemetry: Takes note of the calls.
    """

    def __init__(self, resolver: Resolver, settings: MarketplaceSettings, telemetry: Telemetry) -> None:
        self._resolver = resolver
        self._settings = settings
        self._telemetry = telemetry

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: What the resolver raised.
            IncompleteAnswerError: There is no license, and `legacy_product_codes` does not list the product.
        """
        hidden = HiddenToken(token)
        del token
        with self._telemetry.call():
            customer = self._resolver.resolve(hidden.value)
            if is_identified(self._settings, customer):
                return customer
            raise errors.IncompleteAnswerError(
                f"AWS gave no license for product code {customer.product_code}, which legacy_product_codes does not "
                "list.",
                "A new subscription gets one in a moment; if the product was listed before June 2026, add its code "
                "to legacy_product_codes.",
            )


def _customer(answer: Mapping[str, Any]) -> MarketplaceCustomer:
    """The customer whom AWS answered with. No member of the answer is required by its model."""
    metadata = {"ResponseMetadata": answer.get("ResponseMetadata")}
    is_empty = answer.keys() == metadata.keys()
    try:
        return MarketplaceCustomer(
            aws_account_id=answer.get("CustomerAWSAccountId", ""),
            product_code=answer.get("ProductCode", ""),
            license_arn=answer.get("LicenseArn"),
            customer_identifier=answer.get("CustomerIdentifier"),
            agreement_id=answer.get("Metadata", {}).get("AgreementId"),
        )
    except ValueError as exc:
        reason = str(exc)
    del answer
    if is_empty:
        # What botocore makes of a body that is empty, cut off, or no JSON: it checks neither length nor content type.
        raise foreign_answer(metadata, "endpoint_url")
    raise errors.IncompleteAnswerError(
        f"AWS accepted the token, but its answer cannot be used (AWS request id {request_id_in(metadata)}): {reason}.",
        "This happens with new subscriptions, so try again in a moment; if the problem persists, check "
        "endpoint_url, or give AWS Support the request id.",
    )
