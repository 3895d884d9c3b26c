"""A Java process of the official distribution: a Connect worker or MirrorMaker 2. It ends with the suite."""

import atexit
import os
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STOP_LIMIT_S = 60
LIMIT_S = 120
# How long to wait before something that announces itself to nobody is looked at again.
LOOK_AGAIN_S = 0.1


class JavaProcess:
    """One main class with one properties file. `start`, `stop` and `kill` may alternate."""

    def __init__(self, name, main_class, settings, work):
        self.main_class = main_class
        self.file = Path(work) / f"{name}.properties"
        self.log = Path(work) / f"{name}.log"
        self.file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.process = None
        atexit.register(self.kill)

    def start(self):
        """Starts the process; what it then does has to be awaited elsewhere."""
        logging = HERE.parent / "kafka" / "logging.yaml"
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                   f"-Dlog4j2.configurationFile={logging}", "-cp", os.environ["OTTLA_CONNECT_JARS"], self.main_class,
                   str(self.file)]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def stop(self):
        """SIGTERM, and waits for the end."""
        self.process.terminate()
        self.process.wait(STOP_LIMIT_S)
        self.process = None

    def kill(self):
        """SIGKILL, and waits for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_tail(self, lines=30):
        """The last lines of its log."""
        if not self.log.exists():
            return "(no output)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def until(what, holds, limit_s=LIMIT_S):
    """Looks again and again until `holds()` gives something true, and returns that."""
    deadline = time.monotonic() + limit_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {limit_s} s")
        time.sleep(LOOK_AGAIN_S)
