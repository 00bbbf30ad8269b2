# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session bus with a scripted service manager on it (tests/component/fake-service-manager.c); both end with us."""

import json
import os
import pathlib
import signal
import subprocess

CONFIGURATION = """<busconfig><type>session</type><listen>unix:dir={}</listen><auth>EXTERNAL</auth>
<policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*' eavesdrop='true'/>
<allow receive_sender='*'/></policy></busconfig>"""


class ServiceManager:
    def __init__(self, folder):
        """Puts its address into the environment. HOME has to be set to where the links of units may go."""
        file = pathlib.Path(folder) / "bus.conf"
        file.write_text(CONFIGURATION.format(folder))
        self.bus, address = self.start("dbus-daemon", "--nofork", "--print-address=1", f"--config-file={file}")
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = address
        self.process, said = self.start(os.environ["FAKE_SERVICE_MANAGER"])
        assert said == "ready", said

    @staticmethod
    def start(*command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline().rstrip("\n")

    def ask(self, method, *arguments):
        call = ["busctl", "--user", "--json=short", "call", "org.freedesktop.systemd1", "/org/loopmount1/test",
                "org.loopmount1.test.Manager", method, *arguments]
        said = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(said)["data"] if said else None

    def script(self, what, how):
        self.ask("Script", "ss", what, how)

    def calls(self):
        """Since the last time, without those that only look."""
        return [call for call in self.ask("Calls")[0] if call.split()[0] not in ("Subscribe", "LoadUnit")]

    def end(self):
        for process in self.bus, self.process:
            process.send_signal(signal.SIGTERM)
            process.wait()
            process.stdout.close()
