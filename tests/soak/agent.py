"""The programs under load, each ended with the block it was started for."""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

KEY_ID, KEY_SECRET = "LTAI5tDemo", "demo"


class Emulator:
    def __init__(self, binary):
        self.child = subprocess.Popen(
            [binary, "--access-key", f"{KEY_ID}:{KEY_SECRET}"], stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.child.stdout.readline().rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()

    def order(self, **order):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/_emulator", json.dumps(order))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()


class Agent:
    """An agent in a folder of its own, with a token file and a log file."""

    def __init__(self, binary, backend, emulator, folder):
        self.binary, self.backend, self.emulator = binary, backend, emulator
        self.folder = pathlib.Path(folder)
        self.token_file = self.folder / "kmstoken"
        self.renew_token()
        self.configure(0)
        self.child = subprocess.Popen(
            [binary, "agent", "config.toml"],
            cwd=self.folder,
            env={
                "KMS_TOKEN": f"file://{self.token_file}",
                "ALIBABA_CLOUD_ACCESS_KEY_ID": KEY_ID,
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": KEY_SECRET,
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self.said = []
        ready = threading.Event()
        threading.Thread(target=self.listen, args=[ready], daemon=True).start()
        assert ready.wait(30), self.said

    def listen(self, ready):
        for line in self.child.stderr:
            self.said = [*self.said[-200:], line]
            if "listening on 127.0.0.1:" in line:
                self.port = int(line.rsplit(":", 1)[1])
                ready.set()

    def configure(self, turn):
        """Another config for each turn, in all that a reload may change."""
        (self.folder / "config.toml").write_text(f"""
[Server]
HttpPort = 0
IgnoreTransientErrors = {str(turn % 7 != 6).lower()}
[KMS]
Region = "cn-hangzhou"
Endpoint = "http://127.0.0.1:{self.emulator.port}"
RequestTimeoutMs = {800 + turn % 3}
MaxAttempts = 2
MaxRequestsPerSecond = 1000
[Cache]
CacheType = "{self.backend}"
CacheSize = 100
TtlSeconds = {1 + turn % 2}
NegativeTtlSeconds = 1
[Log]
LogLevel = "Debug"
LogPath = "logs"
MaxSize = 1
MaxBackups = {1 + turn % 2}
Format = "{["Text", "Json"][turn % 2]}"
""")

    def reload(self, turn):
        self.configure(turn)
        self.child.send_signal(signal.SIGHUP)

    def renew_token(self):
        subprocess.run([self.binary, "token", self.token_file], check=True, stdout=subprocess.DEVNULL)

    def token(self):
        return self.token_file.read_text()

    def measure(self):
        """Descriptors, threads and resident bytes."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return (
            len(os.listdir(f"/proc/{self.child.pid}/fd")),
            int(fields["Threads"]),
            int(fields["VmRSS"].split()[0]) * 1024,
        )

    def peak(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = self.child.wait(30)
        return code, time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
