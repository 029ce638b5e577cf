"""Where a request is below the root path, however the host is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Match, Route

if TYPE_CHECKING:
    from starlette.types import Scope


class MountedRoute(Route):
    """A route that is found below a Mount, whatever the server says of the root path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette asks it."""
        match, child_scope = super().matches(scope)
        if match is Match.NONE and "app_root_path" in scope:
            # Below a Mount, Starlette looks for the app's root path in `path`, where it may be missing.
            return super().matches({**scope, "path": route_path(scope), "root_path": ""})
        return match, child_scope


def route_path(scope: Scope) -> str:
    """The path below `root_path`.

    Servers put the root path of the app in front of `path`, as ASGI wants it. Some leave it out, and so does a proxy
    that strips it before `FastAPI(root_path=...)`; below a Mount, `path` then begins with the Mount's prefix alone.
    """
    path: str = scope.get("path", "")
    root_path: str = scope.get("root_path", "")
    mounts = root_path.removeprefix(scope.get("app_root_path", ""))
    for prefix in (root_path, root_path.rstrip("/"), mounts):
        below = path.removeprefix(prefix)
        if path.startswith(prefix) and below.startswith("/"):
            return below
    return path
