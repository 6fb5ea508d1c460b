"""The jobs of `churn`, under a transaction that stays open: the server may clear nothing away."""

from __future__ import annotations

from bench._server import server
from bench._side_by_side import Plan
from bench.churn import come_and_go


def measure(plan: Plan) -> None:
    """Prints the table."""
    with server(plan) as running:
        come_and_go(plan, running, f"{running.url}&schema=churn", is_held=True)
