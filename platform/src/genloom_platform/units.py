"""Numbers as a person reads them."""


def size(size_bytes: float) -> str:
    """Bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """A time, to two places: "45 s", "3 min 20 s", "2 days 4 h"."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return _two(seconds, 60, "min", 1, "s")
    if seconds < 48 * 3600:
        return _two(seconds, 3600, "h", 60, "min")
    return _two(seconds, 86400, "days", 3600, "h")


def _two(seconds: float, large_s: int, large: str, small_s: int, small: str) -> str:
    whole, left = divmod(round(seconds / small_s), large_s // small_s)
    return f"{whole} {large} {left} {small}" if left else f"{whole} {large}"
