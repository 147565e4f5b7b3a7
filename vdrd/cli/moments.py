"""Moments on the command line."""

import argparse
from datetime import UTC, date, datetime, time, timedelta


def moment_argument(text: str) -> datetime:
    """For argparse: a moment as RFC 3339, or a date, which means its end in UTC."""
    try:
        if len(text) == len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text} is no time; write 2027-01-31 or 2027-01-31T18:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} lacks its zone; write {text}Z for UTC")
    return moment
