"""Runs the Deployment of a manifest with Docker, as a kubelet would run one pod of it.

    pod.py sandbox NAME FOLDER <MANIFEST     volumes, and a container NAME that owns the network
    pod.py containers NAME FOLDER <MANIFEST  init containers, sidecars and containers: NAME-<container>

Images are found by the last part of their names, in the variables IMAGE_<NAME>. FOLDER/secret/<secret>/ holds what is in
a Secret, FOLDER/service-account-token what a projected token says. Whatever it does not know is an error, so that
nothing in the manifest goes untried.
"""

import os
import pathlib
import subprocess
import sys
import time

import yaml


class Unknown(Exception):
    pass


def take(mapping, **defaults):
    """The values of these keys, in their order; there may be no others."""
    if others := mapping.keys() - defaults.keys():
        raise Unknown(f"cannot be tried here: {', '.join(sorted(others))}")
    return [mapping.get(key, default) for key, default in defaults.items()]


def docker(*arguments, check=True):
    return subprocess.run(["docker", *arguments], check=check, stdout=subprocess.DEVNULL).returncode == 0


def publish(folder, files):
    """Lays files out as a kubelet does: links through a link that it swaps, so that all change at once."""
    current = folder / "..1"
    current.mkdir(parents=True)
    (folder / "..data").symlink_to("..1")
    for name, content in files.items():
        (current / name).write_bytes(content)
        (folder / name).symlink_to(f"..data/{name}")


class Volume:
    """One of the pod's volumes, and what Docker mounts for it."""

    def __init__(self, pod, spec, config_maps):
        self.name = spec.pop("name")
        self.pod, self.config_maps = pod, config_maps
        ((self.kind, self.spec),) = spec.items()
        self.source = str(pod.folder / "volumes" / self.name)
        if self.kind == "emptyDir":
            self.source = f"{pod.name}-{self.name}"
        elif self.kind == "persistentVolumeClaim":
            (claim,) = take(self.spec, claimName=None)
            self.source = f"{pod.name}-{claim}"

    def mount(self, target, read_only=False):
        if self.source.startswith("/"):
            mount = f"type=bind,source={self.source},target={target}"
        else:
            # A volume contains only the files that Kubernetes puts there.
            mount = f"type=volume,source={self.source},target={target},volume-nocopy"
        return ["--mount", mount + (",readonly" if read_only else "")]

    def make(self):
        getattr(self, f"make_{self.kind}")()

    def make_emptyDir(self):
        medium, size = take(self.spec, medium=None, sizeLimit=None)
        if medium != "Memory":
            raise Unknown("emptyDir on a disk")
        options = f"mode=0777,size={size.removesuffix('i').lower()}"
        docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={options}", self.source)

    def make_persistentVolumeClaim(self):
        docker("volume", "create", self.source)  # root's, as a new disk is; one that exists stays as it is

    def make_configMap(self):
        (name,) = take(self.spec, name=None)
        publish(pathlib.Path(self.source), {key: text.encode() for key, text in self.config_maps[name].items()})

    def make_secret(self):
        (name,) = take(self.spec, secretName=None)
        files = (self.pod.folder / "secret" / name).iterdir()
        publish(pathlib.Path(self.source), {file.name: file.read_bytes() for file in files})

    def make_projected(self):
        ((source,),) = take(self.spec, sources=None)
        (token,) = take(source, serviceAccountToken=None)
        audience, _, path = take(token, audience=None, expirationSeconds=None, path=None)
        if audience != "sts.aliyuncs.com":
            raise Unknown(f"the audience {audience}")
        publish(pathlib.Path(self.source), {path: (self.pod.folder / "service-account-token").read_bytes()})


class Pod:
    def __init__(self, name, folder, objects):
        self.name, self.folder = name, folder
        (deployment,) = (it for it in objects if it["kind"] == "Deployment")
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"].items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels, "the selector misses the pod"
        account, security, self.inits, self.containers, volumes = take(
            template["spec"], serviceAccountName=None, securityContext={}, initContainers=[], containers=[], volumes=[]
        )
        assert any(it["kind"] == "ServiceAccount" and it["metadata"]["name"] == account for it in objects), account
        self.non_root, self.groups, seccomp = take(
            security, runAsNonRoot=False, supplementalGroups=[], seccompProfile=None
        )
        assert seccomp == {"type": "RuntimeDefault"}, seccomp
        config_maps = {it["metadata"]["name"]: it["data"] for it in objects if it["kind"] == "ConfigMap"}
        self.volumes = {volume["name"]: Volume(self, dict(volume), config_maps) for volume in volumes}

    def make_sandbox(self, image):
        mounts = []
        for volume in self.volumes.values():
            volume.make()
            # This process holds it, so that its memory outlives the containers.
            mounts += volume.mount(f"/volumes/{volume.name}")
        docker("run", "--detach", "--network", "none", "--name", self.name, *mounts, image, "sleep", "infinity")

    def start(self):
        for container in self.inits:
            self.start_container(container, is_init=True)
        for container in self.containers:
            self.start_container(container, is_init=False)

    def start_container(self, spec, is_init):
        (name, image, command, args, env, restart, security, resources, mounts, startup, readiness, liveness) = take(
            spec, name=None, image=None, command=[], args=[], env=[], restartPolicy=None, securityContext={},
            resources={}, volumeMounts=[], startupProbe=None, readinessProbe=None, livenessProbe=None,
        )  # fmt: skip
        full_name = f"{self.name}-{name}"
        options = ["--name", full_name, "--network", f"container:{self.name}"]
        options += self.confine(security)
        _, limits = take(resources, requests=None, limits=None)
        (memory,) = take(limits, memory=None)
        options += ["--memory", memory.removesuffix("i").lower()]
        for variable in env:
            key, value = take(variable, name=None, value=None)
            options += ["--env", f"{key}={value}"]
        for mount in mounts:
            volume, path, read_only = take(mount, name=None, mountPath=None, readOnly=False)
            options += self.volumes[volume].mount(path, read_only)
        if command:
            options += ["--entrypoint", command[0]]
        image = os.environ["IMAGE_" + image.rpartition("/")[2].partition(":")[0].replace("-", "_").upper()]
        words = [image, *command[1:], *args]

        if is_init and restart is None:
            docker("run", "--rm", *options, *words)
            return
        assert restart == ("Always" if is_init else None), restart
        docker("run", "--detach", "--restart", "always", *options, *words)
        for probe in (startup, readiness, liveness):
            if probe is not None:
                self.await_probe(full_name, probe)

    def confine(self, security):
        non_root, user, group, escalation, read_only, capabilities = take(
            security, runAsNonRoot=self.non_root, runAsUser=None, runAsGroup=0, allowPrivilegeEscalation=True,
            readOnlyRootFilesystem=False, capabilities={},
        )  # fmt: skip
        assert user is not None, "a user that only the image knows"
        assert user != 0 or not non_root, "root, where root is forbidden"
        drop, add = take(capabilities, drop=[], add=[])
        options = ["--user", f"{user}:{group}"]
        options += [option for group in self.groups for option in ("--group-add", str(group))]
        options += [f"--cap-drop={it}" for it in drop] + [f"--cap-add={it}" for it in add]
        options += [] if escalation else ["--security-opt", "no-new-privileges"]
        options += ["--read-only"] if read_only else []
        return options

    def await_probe(self, container, probe):
        command, period, _, failures = take(probe, exec=None, periodSeconds=10, timeoutSeconds=1, failureThreshold=3)
        (command,) = take(command, command=None)
        for _ in range(failures):
            if docker("exec", container, *command, check=False):
                return
            time.sleep(period)
        sys.exit(f"{container}: the probe never succeeds: {' '.join(command)}")


def main():
    step, name, folder = sys.argv[1:]
    pod = Pod(name, pathlib.Path(folder), list(yaml.safe_load_all(sys.stdin)))
    if step == "sandbox":
        pod.make_sandbox(os.environ["BASE_IMAGE"])
    elif step == "containers":
        pod.start()
    else:
        sys.exit(__doc__)


main()
