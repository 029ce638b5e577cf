from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from example_app.models import Base


@asynccontextmanager
async def open_database(app: FastAPI) -> AsyncIterator[None]:
    """Keep the database of `app.state.settings` open for as long as the app runs."""
    engine = create_engine(app.state.settings.database_url)
    # Good enough for an example; a product that outlives its first table has migrations (Alembic).
    Base.metadata.create_all(engine)
    app.state.sessions = sessionmaker(engine)
    yield
    engine.dispose()


def open_session(request: Request) -> Iterator[Session]:
    sessions: sessionmaker[Session] = request.app.state.sessions
    with sessions() as db:
        yield db


Database = Annotated[Session, Depends(open_session)]
