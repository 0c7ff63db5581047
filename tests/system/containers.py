"""The image, built by buildah on Debian's Python, and containers of it without a container engine.

A container has namespaces of its own for mounts and processes, the image as its read-only root, a volume, a secret, and
the image's user, environment and command. It shares the network of the machine. Needs root.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from tests.system.server import TOKEN, Server

ROOT = Path(__file__).parents[2]
SECRET = "/run/secrets/nngp_token"
_OF_THE_NETWORK = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "default-timeout")
_ISOLATED = """
root=$1 volume=$2 secret=$3 directory=$4 user=$5
shift 5
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$volume" "$root/data"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
install -D -m 444 "$secret" "$root/run/secrets/nngp_token"
exec setpriv --no-new-privs chroot --groups= --userspec="$user" "$root" env -i -C "$directory" "$@"
"""


def missing() -> str:
    """Return what this machine lacks for building an image and running it; empty if nothing."""
    programs = [name for name in ("buildah", "debootstrap", "unshare", "nsenter", "setpriv") if not shutil.which(name)]
    return f"needs {', '.join(programs)}" if programs else "" if os.geteuid() == 0 else "needs root"


def debian(folder: Path) -> Path:
    """Root of a minimal Debian with Python, from the source that this machine's apt uses; made once.

    Args:
        folder: to keep it in.
    """
    root, draft = folder / "bookworm", folder / "draft"
    if not root.exists():
        fields = ("--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
        indices = _output("apt-get", "indextargets", *fields).splitlines()
        source = next(line.split()[0] for line in indices if line.split()[1:] == ["bookworm", "main"])
        shutil.rmtree(draft, ignore_errors=True)
        packages = "--include=python3,python3-venv,ca-certificates"
        _output("debootstrap", "--variant=minbase", packages, "bookworm", str(draft), source)
        for left in (*draft.glob("var/cache/apt/archives/*.deb"), *draft.glob("var/lib/apt/lists/*_*")):
            left.unlink()
        draft.rename(root)
    return root


class Image:
    """The image of this checkout, in a storage of its own.

    Args:
        folder: of the storage, and of what the build reads.
        driver: of the storage: vfs works everywhere, overlay is faster.
    """

    def __init__(self, folder: Path, driver: str) -> None:
        self._storage = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}", f"--storage-driver={driver}")
        self._pip = folder / "pip.conf"

    def build(self, base: Path) -> None:
        """Build it.

        Args:
            base: root file system that it is based on.
        """
        scratch = self._buildah("from", "scratch")
        self._buildah("copy", "--quiet", scratch, str(base), "/")
        self._buildah("commit", "--quiet", "--rm", scratch, "localhost/base")
        built = ("--format", "docker", "--isolation", "chroot", "--network", "host", "--tag", "localhost/nngp-prior")
        mounted = [f"--volume={path}:{path}:ro" for path in _pip_files(self._pip)]
        mounted.append(f"--volume={self._pip}:/etc/pip.conf:ro")
        self._buildah("bud", *built, *mounted, "--build-arg", "BASE=localhost/base", str(ROOT))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Configuration with which the image is run."""
        return json.loads(self._buildah("inspect", "--type", "image", "localhost/nngp-prior"))["Docker"]["config"]

    @cached_property
    def root(self) -> Path:
        """Its file system."""
        return Path(self._buildah("mount", self._buildah("from", "localhost/nngp-prior")))

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return int(_output("du", "--bytes", "--summarize", str(self.root)).split()[0])

    def remove(self) -> None:
        """Remove the storage's images and containers, and their mounts."""
        for command in ("umount", "rm", "rmi"):
            self._buildah(command, "--all")

    def _buildah(self, *arguments: str) -> str:
        return _output("buildah", *self._storage, *arguments)


class Container(Server):
    """A server out of an image; stopping and killing end its first process, and so all of them.

    Args:
        image: its image.
        folder: of its volume and of its secret.
        **settings: as in the environment, without ``NNGP_``.
    """

    def __init__(self, image: Image, folder: Path, **settings: Any) -> None:
        volume = folder / "volume"
        super().__init__(volume, **settings)
        self.image, self._secret = image, folder / "secret"
        self._secret.write_text(TOKEN + "\n")
        volume.mkdir(mode=0o700)
        user, group = image.config["User"].split(":")
        os.chown(volume, int(user), int(group))

    @property
    def process(self) -> psutil.Process:
        """The container's first process."""
        return super().process.children()[0]

    def environment(self) -> dict[str, str]:
        """The image's, with settings; home and token are those of the container."""
        given = {**super().environment(), "NNGP_TOKEN_FILE": SECRET}
        del given["NNGP_HOME"], given["NNGP_TOKEN"]
        return dict(each.split("=", 1) for each in self.image.config["Env"]) | given

    def command(self) -> list[str]:
        """The image's entry point in new namespaces."""
        config = self.image.config
        isolated = ("unshare", "--mount", "--pid", "--fork", "sh", "-euc", _ISOLATED, "sh")
        places = (str(self.image.root), str(self.home), str(self._secret), config["WorkingDir"], config["User"])
        environment = (f"{name}={value}" for name, value in self.environment().items())
        return [*isolated, *places, *environment, *config["Entrypoint"], *config["Cmd"]]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another process in the container, as its user and with its environment."""
        user, group = self.image.config["User"].split(":")
        inside = ("--mount", "--pid", "--root", "--wd", "--setuid", user, "--setgid", group)
        environment = (f"{name}={value}" for name, value in self.environment().items())
        entered = ["nsenter", "--target", str(self.process.pid), *inside, "env", "-i", *environment, *command]
        return subprocess.run(entered, capture_output=True, text=True, timeout=120)

    def _end(self, how: signal.Signals) -> None:
        with suppress(IndexError):  # it has ended
            super()._end(how)


def _output(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout.strip()


def _pip_files(written: Path) -> list[str]:
    """Write a configuration file for pip from what pip reads here of indices on the network; return the paths in it."""
    listed = _output(sys.executable, "-m", "pip", "config", "list")
    found = reversed(re.findall(r"^(?:global|:env:)\.(\S+?)='(.*)'$", listed, re.MULTILINE))  # the first one counts
    settings = {name: value for name, value in found if name in _OF_THE_NETWORK and "file:" not in value}
    file = configparser.RawConfigParser()
    file["global"] = settings
    with written.open("w", encoding="utf-8") as opened:
        file.write(opened)
    return [value for value in settings.values() if value.startswith("/")]
