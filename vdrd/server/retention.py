"""Which points of an object a job's retention lets go: pure. Knows neither catalog nor node."""

from datetime import datetime, timedelta

from schemas.api.jobs import JobOptions
from schemas.api.points import PointInfo


def expired(points: list[PointInfo], options: JobOptions, now: datetime) -> list[str]:
    """Ids of the points to forget, of one object's `points`, newest first. The newest always stays.

    With both limits a point stays as long as either wants it.
    """
    if options.keep_last is None and options.keep_days is None:
        return []
    gone = []
    for rank, point in enumerate(points):
        kept_by_count = options.keep_last is not None and rank < options.keep_last
        kept_by_age = options.keep_days is not None and now - point.time < timedelta(days=options.keep_days)
        if rank and not kept_by_count and not kept_by_age:
            gone.append(point.id)
    return gone
