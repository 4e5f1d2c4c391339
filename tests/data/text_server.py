"""A server of files on this machine that can be told to break off, to refuse, to change what it has."""

import io
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from lit_gpt.data.sources.download import Download


@dataclass
class Offer:
    """A file that the server has.

    Args:
        content: Its bytes.
        etag: Sent as it is; null for none.
        ranges: Whether a part can be asked for.
        faults: What goes wrong, one for each request in turn: a number of bytes after which the connection breaks off,
            or a status such as 503 below 0 (-503).
        lengths: Whether the length is told.
        retry: Value of Retry-After, in refusals.
        more: Further headers, of refusals too.
    """

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    faults: list[int] = field(default_factory=list)
    lengths: bool = True
    retry: str | None = None
    more: dict[str, str] = field(default_factory=dict)


class TextServer:
    """Serves offers by their paths, and remembers what was asked: (method, path, Range, If-Range)."""

    def __init__(self) -> None:
        self.offers: dict[str, Offer] = {}
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def do_HEAD(self) -> None:
                outer._answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def root(self) -> str:
        """The address of all."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, path: str, content: bytes, **options: object) -> str:
        """Offers a file; gives its address."""
        self.offers[path] = Offer(content, **options)  # type: ignore[arg-type]
        return f"{self.root}/{path}"

    def ranges(self) -> list[str | None]:
        """The ranges asked for, in order."""
        return [asked[2] for asked in self.asked]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, wanted = unquote(handler.path).lstrip("/"), handler.headers.get("Range")
        self.asked.append((handler.command, path, wanted, handler.headers.get("If-Range")))
        offer = self.offers.get(path)
        fault = offer.faults.pop(0) if offer and offer.faults else None
        if offer is None or (fault is not None and fault < 0):
            handler.send_response(404 if fault is None else -fault)
            if offer and offer.retry:
                handler.send_header("Retry-After", offer.retry)
            for name, value in (offer.more if offer else {}).items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        content, start = offer.content, 0
        same = handler.headers.get("If-Range") in (None, offer.etag)
        if wanted and offer.ranges and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        if offer.etag:
            handler.send_header("ETag", offer.etag)
        if offer.lengths:
            handler.send_header("Content-Length", str(len(content) - start))
        for name, value in offer.more.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        end = len(content) if fault is None else start + fault
        handler.wfile.write(content[start:end])
        handler.wfile.flush()
        handler.close_connection = True


def zipped(**members: str) -> bytes:
    """A zip archive of texts; __ in a name is a folder's border."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ".txt", text)
    return file.getvalue()


def tarred(members: dict[str, str], mode: str = "w:gz") -> bytes:
    """A tar archive of texts."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


def all_splits(source: Download) -> list[list[str] | None]:
    """The documents of train, val, test."""
    own = [source.own_split("val"), source.own_split("test")]
    return [list(source), *(None if split is None else list(split) for split in own)]  # type: ignore[arg-type]
