"""Whether clocks are near enough to each other."""

from genloom_platform.doctor.findings import Finding, finding

MAX_SKEW_S = 5.0
"""Locks in the store lapse by the clock of their holder, and S3 refuses what was signed by a wrong one."""


def skew(of: str, skew_s: float, error_s: float) -> Finding:
    """Whether a clock is near enough to another.

    Args:
        of: Whose the other is.
        skew_s: How far it is ahead of that.
        error_s: How well this is known.
    """
    well = abs(skew_s) - error_s <= MAX_SKEW_S
    side = "ahead of" if skew_s > 0 else "behind"
    seen = f"within {MAX_SKEW_S:g} s of {of}" if well else f"{abs(skew_s):.1f} s {side} {of}"
    return finding(
        "clock",
        well,
        seen,
        "let it follow a time server: chronyc tracking, or timedatectl set-ntp true",
    )
