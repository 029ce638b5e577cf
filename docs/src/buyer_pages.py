from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from starlette_marketplace import (
    ConfigurationError,
    MarketplaceError,
    MarketplaceMiddleware,
    ProductMismatchError,
    RequestError,
    TokenError,
    UnavailableError,
)
from starlette_marketplace.hooks import LandingVisited, RegistrationFailed

FOLDER = Path(__file__).parent / "buyer_pages"
templates = Jinja2Templates(FOLDER)

# An error has the texts of the first kind that it is of.
GERMAN: dict[type[MarketplaceError], tuple[str, str]] = {
    TokenError: (
        "Dieser Link gilt nicht mehr",
        "Links von AWS Marketplace funktionieren nur kurze Zeit. Ihr Abonnement ist davon nicht betroffen.",
    ),
    ProductMismatchError: (
        "Dieses Abonnement gehört zu einem anderen Produkt",
        "Mit dem Abonnement, mit dem Sie gekommen sind, lässt sich hier kein Konto einrichten.",
    ),
    UnavailableError: (
        "AWS Marketplace hat nicht rechtzeitig geantwortet",
        "Wir konnten Ihr Abonnement gerade nicht bestätigen. Bitte versuchen Sie es gleich noch einmal.",
    ),
    ConfigurationError: (
        "Zurzeit lässt sich kein Konto einrichten",
        "Das liegt an uns; Ihr Abonnement ist nicht betroffen. Bitte versuchen Sie es später noch einmal.",
    ),
    RequestError: (
        "Dieser Link ist unvollständig",
        "Die Anfrage hatte nicht die Form, in der AWS Marketplace sie schickt.",
    ),
}

# A page may hold the registration token in its Try again form: nobody may keep, frame or learn of it.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action http: https:; base-uri 'none'; frame-ancestors 'none'"
    ),
}


def show_landing(event: LandingVisited) -> Response | None:
    if not prefers_german(event.request):
        return None  # the page of the package
    return templates.TemplateResponse(event.request, "landing.html", headers=HEADERS)


def show_failure(event: RegistrationFailed) -> Response | None:
    if isinstance(event.response, JSONResponse) or not prefers_german(event.request):
        return None
    texts = next((texts for kind, texts in GERMAN.items() if isinstance(event.error, kind)), None)
    if texts is None:
        return None  # an error of your own, such as one that on_request raises
    title, message = texts
    headers = dict(HEADERS)
    if event.error.retry_after is not None:
        headers["Retry-After"] = str(event.error.retry_after)
    context = {
        "title": title,
        "message": message,
        "reference": event.reference,
        "retry_fields": event.retry_fields,
    }
    return templates.TemplateResponse(event.request, "error.html", context, event.error.status, headers)


def prefers_german(request: Request) -> bool:
    return request.headers.get("accept-language", "").lower().startswith("de")


app = FastAPI()
app.mount("/static", StaticFiles(directory=FOLDER / "static"))
app.add_middleware(MarketplaceMiddleware, on_visit=show_landing, on_error=show_failure)
