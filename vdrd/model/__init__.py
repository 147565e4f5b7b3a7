"""Values shared by every part: ids, extents, points, policies, errors. No I/O, no trio, no native code."""
