"""The processes that are measured, and what the system says of them."""

import glob
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import time

TOKEN = "0123456789abcdef0123456789abcdef"
KEY_ID, KEY_SECRET = "AKbench", "SKbench"
SERVER_CPU, CLIENT_CPU = "0", "1"


class Process:
    """A child on the servers' core, ended with the block it was started for."""

    def __init__(self, command, environment=None, **more):
        self.child = subprocess.Popen(
            ["taskset", "-c", SERVER_CPU, *map(str, command)],
            env=environment or {}, stdin=subprocess.DEVNULL, **more,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()

    def cpu_ns(self):
        """Time on a processor so far, all threads, user and system."""
        return sum(
            int(pathlib.Path(path).read_text().split()[0])
            for path in glob.glob(f"/proc/{self.child.pid}/task/*/schedstat")
        )

    def rss(self):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")


class Bare(Process):
    def __init__(self, binary, length, under=()):
        super().__init__([*under, binary, TOKEN, length], stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline())


class Emulator(Process):
    """Runs on the clients' core, where it is in nobody's way."""

    def __init__(self, binary):
        super().__init__(
            [binary, "--access-key", f"{KEY_ID}:{KEY_SECRET}"], stdout=subprocess.PIPE, text=True
        )
        os.sched_setaffinity(self.child.pid, {int(CLIENT_CPU)})
        for line in self.child.stdout:
            if "http://127.0.0.1:" in line:
                self.port = int(line.split("http://127.0.0.1:")[1].split()[0].strip("/"))
                break

    def put(self, names, value):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for name in names:
            order = json.dumps({"put_secret": {"name": name, "value": value}})
            connection.request("POST", "/_emulator", order, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()


class Agent(Process):
    """An agent with a folder of its own, or in `folder` for a second life; perhaps under another program."""

    def __init__(
        self, binary, emulator, backend="InMemory", size=1000, connections=800, folder=None, under=()
    ):
        self.own = None if folder else tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(folder or self.own.name)
        config = self.folder / "config.toml"
        config.write_text(f"""
[Server]
HttpPort = 0
MaxConn = {connections}
[KMS]
Region = "cn-hangzhou"
Endpoint = "http://127.0.0.1:{emulator.port}"
MaxRequestsPerSecond = 0
[Cache]
CacheType = "{backend}"
CacheSize = {size}
TtlSeconds = 86400
[Cache.Persistent]
Path = "{self.folder}/cache/store.redb"
KeyFile = "{self.folder}/keys/store.key"
[Log]
LogPath = "stderr"
""")
        self.started_at = time.perf_counter()
        super().__init__(
            [*under, binary, "agent", config],
            {
                "KMS_TOKEN": TOKEN,
                "ALIBABA_CLOUD_ACCESS_KEY_ID": KEY_ID,
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": KEY_SECRET,
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
            },
            stderr=subprocess.PIPE, text=True,
        )
        for line in self.child.stderr:
            if "listening on 127.0.0.1:" in line:
                self.port = int(line.rsplit(":", 1)[1])
                break

    def __exit__(self, *error):
        super().__exit__(*error)
        if self.own:
            self.own.cleanup()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def read(self, name, connection=None, **query):
        more = "".join(f"&{key}={value}" for key, value in query.items())
        connection = connection or self.connect()
        connection.request("GET", f"/secretsmanager/get?secretId={name}{more}", headers={"X-KMS-Token": TOKEN})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body
