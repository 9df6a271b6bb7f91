"""The web page, its script and style sheet, and its log-in."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from resvox.server.guard import COOKIE, cookie_of, is_token
from resvox.server.refusals import RefusedError
from resvox.server.routes.answers import refusals, service_of

router = APIRouter(tags=["page"])
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def _asset(name: str) -> str:
    return (resources.files("resvox.server") / "assets" / name).read_text(encoding="utf-8")


@router.get("/", response_class=HTMLResponse, responses=refusals())
def page() -> HTMLResponse:
    """The web page."""
    return HTMLResponse(_asset("index.html"), headers={"Content-Security-Policy": POLICY})


@router.get("/assets/app.js", include_in_schema=False)
def script() -> Response:
    """The page's script."""
    return Response(_asset("app.js"), media_type="text/javascript")


@router.get("/assets/app.css", include_in_schema=False)
def style() -> Response:
    """The page's style sheet."""
    return Response(_asset("app.css"), media_type="text/css")


class Login(BaseModel):
    """The token, as a person enters it."""

    token: str = Field(max_length=1000)


@router.post("/login", status_code=204, responses=refusals(400, 413, 422))
def login(request: Request, body: Login) -> Response:
    """Exchange the token for a cookie, with which the page's links work."""
    token = service_of(request).settings.token
    if token and not is_token(body.token, token):
        raise RefusedError("not the token of this server", expected="what its operator has set", status=401)
    response = Response(status_code=204)
    if token:
        is_https = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie_of(token), httponly=True, samesite="strict", secure=is_https, path="/")
    return response
