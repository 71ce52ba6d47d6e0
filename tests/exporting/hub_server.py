"""A stand-in for the Hugging Face Hub on this machine: as much of it as up- and downloads use."""

import base64
import hashlib
import http.server
import json
import re
import threading


class Hub(http.server.ThreadingHTTPServer):
    """Repositories as name -> list of (commit, {file: bytes}), the newest last."""

    def __init__(self, token="secret"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.repos, self.requests = token, {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo, files):
        old = self.repos.setdefault(repo, [])
        whole = {**(old[-1][1] if old else {}), **files}
        name = hashlib.sha1(repr(sorted(whole.items())).encode() + bytes([len(old)])).hexdigest()
        old.append((name, whole))
        return name

    def state(self, repo, revision):
        states = self.repos[repo]
        return states[-1] if revision == "main" else next(s for s in states if s[0] == revision)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        self.server.requests.append((self.command, self.path))

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, message="no"):
        self.answer(status, X_Error_Code=code, X_Error_Message=message)

    def do_GET(self):
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            return self.refuse(404, "RepoNotFound")
        repo, revision, name = found.groups()
        if repo not in self.server.repos:
            return self.refuse(401, "RepoNotFound", "Invalid username or password.")
        try:
            commit, files = self.server.state(repo, revision)
        except StopIteration:
            return self.refuse(404, "RevisionNotFound")
        if name not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        digest = hashlib.sha256(files[name]).hexdigest()
        return self.answer(200, files[name], ETag=f'"{digest}"', X_Repo_Commit=commit)

    do_HEAD = do_GET

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(size)
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.refuse(401, "Unauthorized", "Invalid token")
        if self.path == "/api/validate-yaml":
            self.server.requests.append(("card", json.loads(body)["content"]))
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            told = json.loads(body)
            repo = "/".join(filter(None, [told.get("organization"), told["name"]]))
            self.server.repos.setdefault(repo, [])
            return self.answer(200, {"url": f"{self.server.url}/{repo}"})
        repo, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/main.*", self.path).groups()
        if what == "preupload":
            files = [
                {"path": x["path"], "uploadMode": "regular", "shouldIgnore": False}
                for x in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        commit = self.server.commit(
            repo,
            {
                x["value"]["path"]: base64.b64decode(x["value"]["content"])
                for x in lines
                if x["key"] == "file"
            },
        )
        url = f"{self.server.url}/{repo}/commit/{commit}"
        return self.answer(200, {"commitUrl": url, "commitOid": commit, "success": True})
