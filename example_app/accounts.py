"""Sign up, log in, link: each is one transaction, and the unique constraints of the database have the last word.

E-mail addresses are not verified here. Anyone can sign up with another person's address and hold it, so an address
proves nothing: grant nothing because of an address or its domain. Your product should send a confirmation link, and
trust an address only after its owner has opened that link.
"""

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from example_app.models import Subscription, User, Workspace
from example_app.passwords import Passwords
from starlette_marketplace import MarketplaceCustomer, Registration


class EmailTakenError(Exception):
    """Somebody has signed up with this e-mail address."""


class AlreadyLinkedError(Exception):
    """The agreement pays for a workspace already."""


def normalize_email(email: str) -> str:
    """Return the one spelling under which an address is stored.

    Raises:
        EmailNotValidError: It is no e-mail address.
    """
    return validate_email(email.strip(), check_deliverability=False).normalized.lower()


def find_subscription(db: Session, customer: MarketplaceCustomer) -> Subscription | None:
    return db.scalar(select(Subscription).where(Subscription.customer_key == customer.key))


def sign_up(
    db: Session, passwords: Passwords, *, company: str, email: str, password: str, registration: Registration | None
) -> User:
    """Create a workspace with its first user, linked to the registration if there is one.

    Raises:
        AlreadyLinkedError: The registration's customer has signed up before, or in another tab at this moment.
        EmailTakenError: The e-mail address has an account.
    """
    email = normalize_email(email)
    user = User(email=email, password_hash=passwords.hash(password), workspace=Workspace(name=company))
    if registration is not None:
        user.workspace.subscriptions.append(new_subscription(registration.customer))
    db.add(user)
    try:
        db.commit()
    except IntegrityError as exc:
        # Every database words the violated constraint differently, so look at what is there instead.
        db.rollback()
        if registration is not None and find_subscription(db, registration.customer) is not None:
            raise AlreadyLinkedError from exc
        if find_user(db, email) is not None:
            raise EmailTakenError from exc
        raise
    return user


def log_in(db: Session, passwords: Passwords, *, email: str, password: str) -> User | None:
    """Return the user, or None for an unknown e-mail address and a wrong password alike."""
    try:
        user = find_user(db, normalize_email(email))
    except EmailNotValidError:
        user = None
    right = passwords.verify(password, user.password_hash if user is not None else None)
    return user if right else None


def link(db: Session, workspace: Workspace, registration: Registration) -> None:
    """Link the registration to a workspace; linking it to the same one again is no error.

    Raises:
        AlreadyLinkedError: It pays for another workspace.
    """
    workspace.subscriptions.append(new_subscription(registration.customer))
    try:
        db.commit()
    except IntegrityError as exc:
        db.rollback()
        subscription = find_subscription(db, registration.customer)
        if subscription is None:
            raise
        if subscription.workspace_id != workspace.id:
            raise AlreadyLinkedError from exc


def find_user(db: Session, email: str) -> User | None:
    return db.scalar(select(User).where(User.email == email))


def new_subscription(customer: MarketplaceCustomer) -> Subscription:
    return Subscription(
        customer_key=customer.key,
        aws_account_id=customer.aws_account_id,
        product_code=customer.product_code,
        license_arn=customer.license_arn,
        customer_identifier=customer.customer_identifier,
        agreement_id=customer.agreement_id,
    )
