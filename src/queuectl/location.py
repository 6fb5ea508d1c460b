"""Where a queue is: a path of a file, or the URL of a PostgreSQL database and a schema in it.

A URL is never shown, logged or handed to a process's command line as it was given: `identity` is the
form for that, without the password, and the same for every way to write it.
"""

from __future__ import annotations

from queuectl.errors import InvalidInput
from queuectl.text import is_like_url, is_url, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "queuectl"
"""Where the tables are unless another schema is named."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")
_SECRET_PARAMETERS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_LONGEST_SCHEMA = 63
"""Bytes of a name in PostgreSQL; a longer one is cut silently."""


class Url:
    """The parts of a URL, percent-encoded as they were given.

    `schema` is what the parameter of that name says, which PostgreSQL itself does not know. Raises
    InvalidInput, without the password in its words, for what is no URL of a database.
    """

    __slots__ = ("hosts", "name", "parameters", "password", "schema", "user")

    hosts: str
    user: str
    password: str

    def __init__(self, url: str) -> None:
        if not is_url(url):
            raise _refused("it is not a URL of PostgreSQL")
        address, _, query = url.strip().partition("://")[2].partition("?")
        authority, _, self.name = address.partition("/")
        login, _, self.hosts = authority.rpartition("@")
        # What follows a / or an @ of the password would be taken for something that is shown.
        if "@" in login or "@" in self.name or "@" in query:
            raise _refused(
                "there is an @ in an unusual place",
                "In a password @ is written %40, / is %2F, and ? is %3F.",
            )
        if "%" in url and _has_stray_percent(url):
            raise _refused(
                "there is a % in it that does not begin the code of a character",
                "In a password % is written %25.",
            )
        self.user, _, self.password = login.partition(":")
        self.parameters: dict[str, str] = {}
        for pair in filter(None, query.split("&")):
            name, equals, value = pair.partition("=")
            if not equals:
                raise _refused("one of its parameters has no value")
            self.parameters[_decoded(name)] = value
        self.password = self.parameters.pop("password", "") or self.password
        self.schema = _decoded(self.parameters.pop("schema", ""))
        if self.schema:
            check_schema(self.schema)
        self._check()

    def _check(self) -> None:
        """Refuses what is shown, and holds what a password may be in: a part that stands in the place
        of another, or a whole URL in the place of a name.
        """
        given = self.parameters
        hosts, database = _decoded(self.hosts), _decoded(given.get("dbname", self.name))
        if any(sign in name for name in (database, _decoded(self.name)) for sign in "=:@"):
            raise _refused("the name of its database has a =, : or @ in it")
        if ":" in _decoded(given.get("user", "")) + _decoded(self.user):
            raise _refused("the name of its user has a : in it")
        if (
            "=" in hosts
            or any(map(str.isspace, hosts))
            or is_like_url(_decoded(given.get("host", "")))
        ):
            raise _refused("the name of its host is none")
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
        ports += given.get("port", "").split(",")
        if not all(not port or (port.isascii() and port.isdigit()) for port in ports):
            raise _refused("its port is not a number")

    def written(self, *, secrets: bool = True) -> str:
        """The URL, as PostgreSQL's library understands it; without `secrets`, as it may be shown."""
        kept = self.parameters
        if not secrets:
            kept = {name: kept[name] for name in ("host", "port", "dbname", "user") if name in kept}
        login = self.user
        if self.password and secrets:
            login += ":" + self.password
        query = "&".join(f"{name}={value}" for name, value in kept.items())
        return f"postgresql://{login}{'@' if login else ''}{self.hosts}/{self.name}{'?' if query else ''}{query}"

    @property
    def secrets(self) -> list[str]:
        """What may not be shown, as it was given and as it is meant."""
        given = [self.password, *map(self.parameters.get, _SECRET_PARAMETERS)]
        return [s for secret in given if secret for s in {secret, _decoded(secret)}]


def with_schema(url: str, schema: str | None, environ: Mapping[str, str]) -> str:
    """The URL with the schema that is meant: `schema`, else its own, else QUEUECTL_SCHEMA's, else
    the usual one.
    """
    parts = Url(url)
    chosen = schema or parts.schema or environ.get("QUEUECTL_SCHEMA") or SCHEMA
    check_schema(chosen)
    written = parts.written()
    return f"{written}{'&' if '?' in written else '?'}schema={_encoded(chosen)}"


def identity(url: str) -> str:
    """Names the queue wherever it is shown or compared: the URL without password and options."""
    parts = Url(url)
    parts.hosts = ",".join(host.lower().removesuffix(":5432") for host in parts.hosts.split(","))
    written = parts.written(secrets=False)
    return f"{written}{'&' if '?' in written else '?'}schema={_encoded(parts.schema or SCHEMA)}"


def shareable(url: str, *, for_others: bool = False) -> str:
    """The URL without its secrets: whoever has them elsewhere, in ~/.pgpass for example, can use it;
    `for_others` without the schema, which no other program knows.
    """
    parts = Url(url)
    parts.password = ""
    for name in _SECRET_PARAMETERS:
        parts.parameters.pop(name, None)
    if parts.schema and not for_others:
        parts.parameters["schema"] = _encoded(parts.schema)
    return parts.written()


def completed(url: str, other: str) -> str:
    """The URL, or `other` where that is the same but for its secrets, and `url` has none."""
    try:
        if not Url(url).secrets and shareable(url) == shareable(other):
            return other
    except InvalidInput:
        pass  # Whoever uses the URL says what is wrong with it.
    return url


def readable(url: str) -> str:
    """A name for a folder, for people: the database's, and the schema's unless it is the usual one."""
    parts = Url(url)
    words = [parts.name or parts.parameters.get("dbname", "") or parts.user or "postgres"]
    if parts.schema not in ("", SCHEMA):
        words.append(parts.schema)
    name = "".join(c if c in _PLAIN or c == "-" else "_" for c in "-".join(words))
    return name[:60].strip("._-") or "queue"


def check_schema(name: str) -> None:
    """Raises InvalidInput for a name that no schema can have, or that may hold a password."""
    if is_like_url(name):
        raise InvalidInput(
            "a URL was given as the name of a schema", hint="Name the server with --db."
        )
    if not name or "\0" in name or len(name.encode(errors="replace")) > _LONGEST_SCHEMA:
        raise InvalidInput(
            f"a schema cannot be called {visible(name, 80)!r}",
            hint=f"Its name has 1 to {_LONGEST_SCHEMA} bytes.",
        )
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidInput(
            f"the schema {visible(name)!r} is PostgreSQL's own", hint="Name another one."
        )


def _refused(why: str, hint: str = "") -> InvalidInput:
    return InvalidInput(
        f"the URL of the database cannot be used: {why}",
        hint=hint or "It looks like postgresql://USER@HOST:5432/DATABASE.",
    )


def _has_stray_percent(url: str) -> bool:
    import re

    return re.search("%(?![0-9A-Fa-f]{2})|%00", url) is not None


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _encoded(text: str) -> str:
    if _PLAIN.issuperset(text):
        return text
    from urllib.parse import quote

    return quote(text, safe="")
