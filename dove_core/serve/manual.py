"""The page that describes the API, from its OpenAPI document; without scripts, so that it needs no other server."""

from __future__ import annotations

import jinja2
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

_PAGES = jinja2.Environment(loader=jinja2.PackageLoader("dove_core.serve", "."), autoescape=True)


def manual(app: FastAPI) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/api.html", name="swagger_ui_html", include_in_schema=False)  # the name that stac-fastapi links to
    def page(request: Request) -> HTMLResponse:
        """Return the page."""
        text = _PAGES.get_template("api.html.j2").render(api=app.openapi(), data=str(request.url_for("openapi")))
        return HTMLResponse(text)

    return router
