"""The services of the application and the state of the system, as the request at hand uses them."""

from flask import current_app, g

from fademoe.web.model.services import Services
from fademoe.web.model.summary import Summary, summarise

NAME = "fademoe"  # of the services among the extensions of the application


def get_services() -> Services:
    """Return the services of the application that answers this request."""
    of_application: Services = current_app.extensions[NAME]
    return of_application


def read_summary() -> Summary:
    """Return the state of the system, read at most once for each request."""
    if "summary" not in g:
        g.summary = summarise(get_services())
    summary: Summary = g.summary
    return summary
