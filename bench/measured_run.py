"""Run a command and write its cost as JSON to a file descriptor: measured_run.py DESCRIPTOR COMMAND...

A process of its own, and a small one that imports little: a command's peak memory as the kernel reports it
is never below that of the process that started it, and the benchmark itself is large.
"""

import os
import subprocess
import sys
import time


def main() -> None:
    began = time.monotonic()
    process = subprocess.Popen(sys.argv[2:])
    _, status, usage = os.wait4(process.pid, 0)
    wall_seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    report = f"[{code}, {wall_seconds}, {cpu_seconds}, {usage.ru_maxrss * 1024}]"
    os.write(int(sys.argv[1]), report.encode())


if __name__ == "__main__":
    main()
