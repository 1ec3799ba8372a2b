"""A local stand-in for the hub's HTTP endpoints: repositories whose commits are kept in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

Files = dict[str, bytes]


class Hub:
    """Repositories by name; every commit is a whole set of files."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, Files]]] = {}
        self.posts: list[str] = []
        self.asked: list[str] = []
        self.before_commit: Callable[[], None] | None = None
        self.url = ""

    def commit(self, repo: str, files: Files) -> str:
        """Put `files` on top of the last commit."""
        history = self.commits.setdefault(repo, [])
        whole = {**(history[-1][1] if history else {}), **files}
        digest = hashlib.sha1(f"{len(history)}{sorted(whole)}".encode()).hexdigest()
        history.append((digest, whole))
        return digest

    def at(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """The commit that a branch or digest means."""
        history = self.commits.get(repo, [])
        if revision == "main" and history:
            return history[-1]
        return next((commit for commit in history if commit[0] == revision), None)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The stand-in on a free local port."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, content: object, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def missing(self, code: str) -> None:
            self.answer(404, {"error": "not found"}, X_Error_Code=code, X_Error_Message="not found")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
            if parts == [""]:
                self.answer(200, b"")
            elif parts[:2] == ["api", "models"]:
                repo = "/".join(parts[2:4])
                revision = parts[5] if len(parts) > 5 else "main"
                commit = hub.at(repo, revision)
                if commit is None:
                    self.missing("RevisionNotFound" if repo in hub.commits else "RepoNotFound")
                elif parts[4:5] == ["tree"]:
                    self.answer(200, [entry(path, content) for path, content in commit[1].items()])
                else:
                    self.answer(
                        200, {"id": repo, "sha": commit[0], "private": False, "tags": [], "siblings": []}
                    )
            else:
                hub.asked.append(self.path)
                repo, revision, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
                commit = hub.at(repo, revision)
                if commit is None or path not in commit[1]:
                    self.missing("EntryNotFound")
                else:
                    content = commit[1][path]
                    tag = f'"{hashlib.sha1(content).hexdigest()}"'
                    self.answer(200, content, ETag=tag, X_Repo_Commit=commit[0])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlparse(self.path).path)
            hub.posts.append(path)
            parts = path.strip("/").split("/")
            if path == "/api/repos/create":
                if "Bearer " not in self.headers.get("Authorization", ""):
                    return self.answer(401, {"error": "log in"})
                asked = json.loads(body)
                repo = f"{asked.get('organization') or 'user'}/{asked['name']}"
                if repo in hub.commits:
                    return self.answer(409, {"error": "exists", "url": f"{hub.url}/{repo}"})
                hub.commit(repo, {".gitattributes": b""})
                return self.answer(200, {"url": f"{hub.url}/{repo}", "name": repo})
            repo = "/".join(parts[2:4])
            if parts[4] == "preupload":
                files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for f in json.loads(body)["files"]]  # fmt: skip
                return self.answer(200, {"files": files})
            if hub.before_commit:
                hub.before_commit()
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            parent = lines[0]["value"].get("parentCommit")
            if parent and parent != hub.at(repo, "main")[0]:
                return self.answer(
                    412, {"error": "A commit has happened since. Please refresh and try again."}
                )
            files = {line["value"]["path"]: base64.b64decode(line["value"]["content"])
                     for line in lines[1:] if line["key"] == "file"}  # fmt: skip
            digest = hub.commit(repo, files)
            url = f"{hub.url}/{repo}/commit/{digest}"
            return self.answer(200, {"success": True, "commitOid": digest, "commitUrl": url})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def entry(path: str, content: bytes) -> dict[str, object]:
    """A file as the tree endpoint describes it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": blob}
