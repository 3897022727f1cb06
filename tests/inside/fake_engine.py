"""A program that speaks as `transformers serve` does, by a script that the prompt chooses: the peer of the relay.

Prompts are token ids of the tests' tokenizer, one a byte. The last byte of a prompt says what happens:
`!` ends the process after two tokens, `?` never says anything, `~` never ends, `#` fails and is unwell from then on,
`%` refuses; anything else is answered with "well" and the model's own end.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PORT, LOG, SIGNS, ANSWER = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
unwell = False


def note(**what: Any) -> None:
    with LOG.open("a") as file:
        file.write(json.dumps(what) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(503 if unwell else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        config = json.loads(asked["generation_config"])
        ids = [int(token) for token in asked["prompt"].split()]
        note(event="asked", ids=ids, **config)
        sign = SIGNS.get(str(ids[-1]), "")
        if sign == "%":
            self.send_error(500, "no")
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.play(sign, config["max_new_tokens"])
        except OSError:
            note(event="gone")
            self.close_connection = True

    def play(self, sign: str, most: int) -> None:
        global unwell  # noqa: PLW0603
        if sign == "?":
            time.sleep(60)
        if sign == "#":
            unwell = True
            self.write(b'data: {"error": "the worker is dead"}\n\n')
            return
        if sign == "~":
            while True:
                self.say(f" {ANSWER[0]}")
                time.sleep(0.02)
        for place, token in enumerate(ANSWER[:most]):
            if sign == "!" and place == 2:
                os._exit(9)
            self.say(f" {token}" if place else str(token))
        self.say("", "length" if most <= len(ANSWER) else "stop")
        self.wfile.write(b"0\r\n\r\n")

    def say(self, text: str, finish: str | None = None) -> None:
        chunk = {"choices": [{"text": text, "index": 0} | ({"finish_reason": finish} if finish else {})]}
        self.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests read what is noted."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    server.daemon_threads = True
    server.serve_forever()
