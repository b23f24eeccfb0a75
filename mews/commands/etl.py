"""`mews etl`: fit and run the feature graph."""

from __future__ import annotations

from typing import Any

from mews.commands.groups import etl_app
from mews.session import Session, command


@etl_app.command("fit")
@command
def etl_fit(session: Session) -> Any:
    """Fit the feature graph on the training rows."""
    return session.bring("fit")["fit"].result


@etl_app.command("transform")
@command
def etl_transform(session: Session) -> Any:
    """Write the features of train, valid and test as Parquet with a Merlin schema."""
    return session.bring("transform")["transform"].result
