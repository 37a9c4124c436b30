"""A server of files on 127.0.0.1 that breaks as the ones of publishers do."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file: what is asked of it is written down in `asked` (the Range header, or None)."""

    content: bytes
    etag: str = '"1"'
    type: str = "application/gzip"
    status: int = 200
    location: str = ""
    cuts: list = field(default_factory=list)  # bytes after which the next answers break off
    delay: threading.Event | None = None  # nothing is sent before it is set
    asked: list = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        file = self.server.files.get(self.path)
        if file is None:
            self.send_error(404)
            return
        file.asked.append(self.headers.get("Range"))
        if file.delay:
            file.delay.wait(10)
        if file.location:
            self.send_response(302)
            self.send_header("Location", file.location)
            self.end_headers()
        elif file.status != 200:
            self.send_error(file.status)
        else:
            self.send(file)

    def send(self, file):
        body, status = file.content, 200
        if file.asked[-1] and self.headers.get("If-Range") == file.etag:
            start = int(file.asked[-1].removeprefix("bytes=").removesuffix("-"))
            body, status = file.content[start:], 206 if start < len(file.content) else 416
        self.send_response(status)
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(file.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", file.type)
        if file.etag:
            self.send_header("ETag", file.etag)
        self.end_headers()
        if file.cuts:
            self.wfile.write(body[: file.cuts.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):  # a client that has gone is what some tests are about
        pass


@contextmanager
def file_server():
    """Yields (address, path -> Served), a mapping to fill."""
    server = Server(("127.0.0.1", 0), Handler)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
