"""The control line: how a client program asks the driver to restart the broker that it talks to.

A TCP connection to `OTTLA_CONTROL` (host:port), one word per line, one answer per line:

    restart    SIGTERM, wait for the end, start again     -> ready <seconds>
    crash      SIGKILL, start again                       -> ready <seconds>

`failed <why>` is the other answer. The answer comes when the broker is ready, so nobody has to sleep.
"""

import os
import socket
import threading


class ControlServer:
    """Serves the control line of one broker until it is closed."""

    def __init__(self, broker):
        self.broker = broker
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # closed
            # One at a time: two restarts at once would make no sense.
            with connection, connection.makefile("rw") as lines:
                for line in lines:
                    lines.write(self._obey(line.strip()) + "\n")
                    lines.flush()

    def _obey(self, word):
        code = 0
        try:
            if word == "restart":
                code = self.broker.stop()
            elif word == "crash":
                getattr(self.broker, "kill_one", self.broker.kill)()
            else:
                return f"failed unknown word '{word}'"
            # Started again whatever the end was like: the checks that follow have a broker of their own to judge.
            ready = f"ready {self.broker.start():.3f}"
            unclean = code != 0 and self.broker.target.kind == "ottla"
            return f"failed exit code {code} after SIGTERM" if unclean else ready
        except Exception as error:
            return "failed " + " ".join(str(error).split())

    def close(self):
        """Stops serving."""
        self.listener.close()


def ask(word):
    """Sends one word and waits for the answer; returns the seconds from start to ready."""
    host, port = os.environ["OTTLA_CONTROL"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rw") as lines:
        lines.write(word + "\n")
        lines.flush()
        answer = lines.readline().split(maxsplit=1)
    if not answer or answer[0] != "ready":
        raise RuntimeError(f"{word}: {' '.join(answer) or 'the control line closed'}")
    return float(answer[1])
