"""A server on loopback that answers what huggingface_hub asks of a hub: repositories in memory, branches, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_a_token_that_no_output_may_show"
LARGE = (".safetensors", ".bin", ".pth")


@dataclass
class Repository:
    """Commits as {path: content}, and the branches that name them."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def add(self, branch: str, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the server holds, and what it was asked: method, path and whether a token came along."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, bool]] = field(default_factory=list)
    endpoint: str = ""

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.commit_of(revision)]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def reply(self, status, content=b"", headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code=""):
        self.reply(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def respond(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.hub.requests.append((self.command, path, self.headers.get("Authorization") is not None))
        if self.command in ("POST", "PUT") and path != "api/validate-yaml" and not known and "upload" not in path:
            self.refuse(401)
        elif self.command == "PUT":
            content = self.hub.uploads.setdefault(path.split("/")[-1], body)
            self.reply(200 if hashlib.sha256(content).hexdigest() == path.split("/")[-1] else 400)
        elif path.startswith("api/"):
            self.api(path.split("/")[1:], body, known)
        elif path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            there = [
                {**each, "actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{each['oid']}"}}}
                for each in wanted
            ]
            self.reply(200, {"transfer": "basic", "objects": there})
        else:
            self.resolve(path.split("/"), known)

    do_GET = do_POST = do_PUT = do_HEAD = respond  # noqa: N815

    def api(self, parts, body, known):
        if parts == ["validate-yaml"]:
            front = json.loads(body)["content"].split("---")[1]
            good = all(f"{key}: " in front for key in ("license", "library_name"))
            self.reply(200 if good else 400, {"errors": [] if good else [{"message": "no licence"}], "warnings": []})
        elif parts == ["repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            is_new = name not in self.hub.repositories
            private = asked.get("private") is True or asked.get("visibility") == "private"
            repository = self.hub.repositories.setdefault(name, Repository(private=private))
            if is_new:
                repository.add("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.reply(200 if is_new else 409, {"url": f"{self.hub.endpoint}/{name}", "name": name})
        else:
            self.models("/".join(parts[1:3]), parts[3:], body, known)

    def models(self, name, rest, body, known):
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not known):
            self.refuse(404 if known else 401, "RepoNotFound")
        elif rest[:1] == ["branch"]:
            is_new = rest[1] not in repository.branches
            repository.branches.setdefault(rest[1], repository.branches["main"])
            self.reply(200 if is_new else 409, {})
        elif rest[:1] == ["preupload"]:
            paths = [each["path"] for each in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            self.reply(
                200,
                {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]},
            )
        elif rest[:1] == ["commit"]:
            self.commit(repository, name, rest[1], [json.loads(each) for each in body.splitlines()])
        else:
            revision = rest[1] if len(rest) > 1 else "main"
            commit = repository.commit_of(revision)
            if commit is None:
                self.refuse(404, "RevisionNotFound")
            elif rest[:1] == ["tree"]:
                self.reply(200, [entry(path, content) for path, content in sorted(repository.commits[commit].items())])
            else:
                siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
                self.reply(200, {"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def commit(self, repository, name, branch, lines):
        if branch not in repository.branches:
            return self.refuse(404, "RevisionNotFound")
        files = dict(repository.commits[repository.branches[branch]])
        for each in lines:
            value = each["value"]
            if each["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
            elif each["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.add(branch, files)
        url = f"{self.hub.endpoint}/{name}/commit/{commit}"
        return self.reply(200, {"success": True, "commitOid": commit, "commitUrl": url, "pullRequestUrl": None})

    def resolve(self, parts, known):
        """A file: the parts are those of owner/name/resolve/revision/path."""
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None or parts[2:3] != ["resolve"] or (repository.private and not known):
            return self.refuse(404 if known else 401, "RepoNotFound")
        commit = repository.commit_of(parts[3])
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        content = repository.commits[commit].get("/".join(parts[4:]))
        if content is None:
            return self.refuse(404, "EntryNotFound")
        large = parts[-1].endswith(LARGE)
        digest = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "Content-Length": str(len(content))}
        if large:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return self.reply(200, content, headers)


def entry(path: str, content: bytes) -> dict[str, object]:
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": blob_id(content),
        **({"lfs": large} if path.endswith(LARGE) else {}),
    }


@contextmanager
def serving():
    """A running hub, on a free port of 127.0.0.1."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfHub", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
