"""The rules of a retention policy on the command line, the same for a job and for a storage."""

import argparse

_RULES = {
    "keep_last": "the newest N points of an object",
    "keep_days": "points younger than N days",
    "keep_weekly": "the newest point of each of the last N ISO weeks that have one",
    "keep_monthly": "the same by months",
    "keep_yearly": "the same by years",
}
POLICY_NAMES = tuple(_RULES)
"""Of the arguments, and of the fields of a policy."""


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """A point stays as long as any of the rules given wants it; without a rule all stay."""
    for name, text in _RULES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=int, help=f"keep {text}")
