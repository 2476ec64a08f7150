"""What one writes in an afternoon: read, embed over HTTP, insert, one document after the other.

`python -m tests.bench.data.script DSN URL SECONDS` prints documents a second. It keeps its connections and commits each
row, as a script must that may be stopped.
"""

from __future__ import annotations

import json
import sys
import time

import httpx
import psycopg


def main(dsn: str, url: str, seconds: float) -> float:
    with psycopg.connect(dsn, autocommit=True) as connection, httpx.Client(timeout=60) as client:
        connection.execute("CREATE TABLE script (id bigint PRIMARY KEY, embedding vector(384))")
        documents = connection.execute("SELECT id, body FROM docs ORDER BY id").fetchall()
        began, count = time.perf_counter(), 0
        for found, body in documents:
            answer = client.post(f"{url}/v1/embeddings", json={"input": body, "input_type": "document"})
            vector = answer.raise_for_status().json()["data"][0]["embedding"]
            connection.execute("INSERT INTO script VALUES (%s, %s)", [found, json.dumps(vector)])
            count += 1
            if time.perf_counter() > began + seconds:
                break
        return count / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], sys.argv[2], float(sys.argv[3]))}\n")
