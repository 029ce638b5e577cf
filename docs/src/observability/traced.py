from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from starlette.requests import Request

from starlette_marketplace import MarketplaceMiddleware, get_registration

resource = Resource.create({"service.name": "acme-analytics"})
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(tracer_provider)
meter_provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())], resource=resource)
metrics.set_meter_provider(meter_provider)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    tracer_provider.shutdown()  # exports what is left
    meter_provider.shutdown()


app = FastAPI(lifespan=lifespan)
app.add_middleware(MarketplaceMiddleware)  # settings from the environment; the providers are found by themselves


@app.get("/signup")
def show_signup(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Welcome from AWS Marketplace!" if get_registration(request) else "Welcome!")
