"""What the forms send. Every field is a string with a default, so that we word each complaint and FastAPI none."""

from email_validator import EmailNotValidError
from pydantic import BaseModel, Field

from example_app.accounts import normalize_email


class SignupForm(BaseModel):
    company: str = ""
    email: str = ""
    password: str = Field(default="", repr=False)
    registration_id: str = ""

    def errors(self) -> dict[str, str]:
        """Return what is wrong, by field."""
        errors = {}
        company = self.company.strip()
        if not company or len(company) > 100 or not company.isprintable():
            errors["company"] = "Enter your company's name, up to 100 characters."
        try:
            normalize_email(self.email)
        except EmailNotValidError:
            errors["email"] = "Enter an e-mail address, like name@company.com."
        if not 10 <= len(self.password) <= 200:
            errors["password"] = "Choose a password of 10 to 200 characters."  # noqa: S105 (a message)
        return errors


class LoginForm(BaseModel):
    email: str = ""
    password: str = Field(default="", repr=False)


class LinkForm(BaseModel):
    registration_id: str = ""
    workspace_id: str = ""
