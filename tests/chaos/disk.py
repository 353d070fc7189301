"""A small disk of its own for one worker's state, that can be filled and freed."""

import errno
import os
import subprocess
from pathlib import Path

SIZE_MB = 64
BALLAST = ".ballast"
CHUNK = b"\0" * 65_536


class Disk:
    """A tmpfs mounted at `folder`. Where that is not allowed, `reason` says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reason = ""
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            self.reason = f"no mount: {error}"
        else:
            if done.returncode:
                self.reason = f"no mount: {done.stderr.strip()}"

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.folder / BALLAST).open("ab", buffering=0) as ballast:
            size = len(CHUNK)
            while size:
                try:
                    os.write(ballast.fileno(), CHUNK[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        """Give it back."""
        (self.folder / BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        if not self.reason:
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)
