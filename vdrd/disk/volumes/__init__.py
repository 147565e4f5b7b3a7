"""What stands on a disk: partition tables, volume groups and file systems, read without the kernel's drivers.

Runs in the browser process (`vdrd.disk.browser_process`) and therefore imports no native code and does no
input or
output of its own: all bytes come through a `Range`. What it reads is hostile: every length is checked, every
walk is
bounded, and what cannot be understood is `Unreadable`.
"""
