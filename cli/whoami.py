"""`teo whoami`: who the server takes this command's token for."""

from cli.render import Column, field, plain, show_one
from cli.session import Session

_ROWS: list[Column] = [
    ("actor", field("actor")),
    ("roles", lambda item: plain(",".join(item.get("roles") or ()))),
    ("server", field("server")),
]


def whoami(session: Session) -> None:
    """Show who the server takes you for."""
    output = session.output()
    with session.client() as client:
        answer = {**client.get("/v1/whoami"), "server": client.server}
    show_one(session.screen, answer, _ROWS, output=output, name="actor")
