from datetime import UTC, datetime

from sqlalchemy import DateTime, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from starlette_marketplace import MarketplaceCustomer


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (SQLAlchemy's own form)


class Workspace(Base):
    """A company that uses Acme Analytics."""

    __tablename__ = "workspace"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    users: Mapped[list["User"]] = relationship(back_populates="workspace")
    subscriptions: Mapped[list["Subscription"]] = relationship(
        back_populates="workspace", order_by="Subscription.linked_at.desc()"
    )


class User(Base):
    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspace.id"))
    workspace: Mapped[Workspace] = relationship(back_populates="users")


class Subscription(Base):
    """One agreement on AWS Marketplace and the workspace that it pays for.

    It says who the buyer is. What was bought and until when is not stored: see plans.py.
    """

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspace.id"))
    # This constraint, not a query before the insert, is what makes an agreement belong to one workspace only.
    customer_key: Mapped[str] = mapped_column(unique=True)
    aws_account_id: Mapped[str]
    product_code: Mapped[str]
    license_arn: Mapped[str | None]
    customer_identifier: Mapped[str | None]
    agreement_id: Mapped[str | None]
    # Whether it was active when AWS was asked before: no entitlements mean pending until then, and ended from then on.
    was_active: Mapped[bool] = mapped_column(default=False)
    linked_at: Mapped[datetime] = mapped_column(default=now)
    workspace: Mapped[Workspace] = relationship(back_populates="subscriptions")

    @property
    def customer(self) -> MarketplaceCustomer:
        """Whom to ask AWS about."""
        return MarketplaceCustomer(
            aws_account_id=self.aws_account_id,
            product_code=self.product_code,
            license_arn=self.license_arn,
            customer_identifier=self.customer_identifier,
            agreement_id=self.agreement_id,
        )
