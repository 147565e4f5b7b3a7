"""The main job with real content: `scripts/quickstart` runs this after the set-up.

An appliance and an agent are started in `.vdr/`, a disk and a directory are backed up in full and, after real
changes, incrementally; files, a tree and whole disks are restored and compared; a point's disk is read over
NFS.
"""

import argparse
import fcntl
import os
import sys
from pathlib import Path

from appliance import Appliance
from content import change_tree, clear, copy_tree, make_disk
from protection import Protection
from report import DemonstrationError, Report

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("VDR_DEMONSTRATION_STATE", ROOT / ".vdr"))
TREE_BYTES = 96 << 20
DISK_CONTENT_BYTES = 224 << 20


def demonstrate(appliance: Appliance, report: Report) -> None:
    """Do everything once; what it makes is below `.vdr/demonstration`."""
    folder = STATE / "demonstration"
    clear(folder)
    folder.mkdir(mode=0o700)
    with report.step("start the appliance and enrol this machine") as step:
        appliance.start()
        step.result = f"console at {appliance.console_address}"
    tree = folder / "tree"
    with report.step("copy this machine's /etc and part of /usr") as step:
        step.data_bytes = copy_tree(tree, TREE_BYTES)
    with report.step("fill an ext4 disk with /usr and /etc") as step:
        disk = make_disk(folder, DISK_CONTENT_BYTES)
        step.data_bytes = disk.image.stat().st_size
        step.result = str(disk.device)
    try:
        protection = Protection(appliance, report, folder)
        protection.prepare(disk.device, tree)
        first = protection.back_up_disk("full", disk.device)
        protection.back_up_tree("full", tree)
        with report.step("change files on the disk and in the tree") as step:
            changed = disk.change(folder / "mnt") + change_tree(tree)
            step.result = f"{changed} changes"
        second = protection.back_up_disk("incremental", disk.device)
        newest = protection.back_up_tree("incremental", tree)
        protection.restore_one_file(newest, tree)
        protection.restore_tree(newest, tree)
        protection.restore_disk(second, "newest")
        protection.restore_disk(first, "first")
        protection.read_over_nfs(second, "newest")
        protection.read_over_nfs(first, "first")
    finally:
        disk.detach()


def main() -> int:
    """Returns the exit code of `scripts/quickstart`."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the appliance after the demonstration")
    parser.add_argument("--stop", action="store_true", help="stop an appliance left running")
    args = parser.parse_args()
    STATE.mkdir(mode=0o700, exist_ok=True)
    appliance = Appliance(STATE)
    with STATE.joinpath("quickstart.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("quickstart: another quickstart of this checkout is running. Wait for it", file=sys.stderr)
            return 1
        if args.stop:
            print("stopped" if appliance.stop() else "nothing was running")
            return 0
        return run(appliance, once=args.once)


def run(appliance: Appliance, *, once: bool) -> int:
    """The demonstration, its table, and what is left running."""
    report = Report()
    try:
        demonstrate(appliance, report)
        report.print()
    except DemonstrationError as error:
        print(f"quickstart: {error}\nquickstart: logs are in {STATE}/*.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("quickstart: interrupted", file=sys.stderr)
        return 130
    finally:
        if once:
            appliance.stop()
    print(f"\nconsole   {appliance.console_address}")
    print(f"user      admin\npassword  {appliance.password}")
    print("\nEverything was proven equal.")
    if once:
        print("The appliance is stopped again; scripts/quickstart leaves it running.")
    else:
        print("The appliance goes on running; scripts/quickstart --stop ends it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
