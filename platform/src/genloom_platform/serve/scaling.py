"""How many replicas a version needs, as Serve's autoscaler asks it."""

from math import ceil
from typing import Any

REQUESTS = "requests"
"""The metric that replicas report: the requests that they hold."""


def by_requests(context: Any) -> tuple[int, dict[str, Any]]:
    """As many replicas as the requests at once need, at the target of each.

    Serve applies the bounds and the delays, and starts the first replica where there is none itself.

    Args:
        context: Serve's AutoscalingContext.

    Returns:
        The number, and nothing that is to be remembered.
    """
    reported = (context.aggregated_metrics or {}).get(REQUESTS)
    # Before the first report there are Serve's own counts: calls, of which each holds one request or more.
    requests = sum(reported.values()) if reported else context.total_num_requests
    return ceil(requests / context.config.target_ongoing_requests), {}
