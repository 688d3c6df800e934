"""Decisions: each function reads and plans, and returns a result or a `Commit`; none of them writes.

Knows vault protocols and models, not who called. Rejected: operations that write, whose plans could be neither shown,
approved, checkpointed nor retried.
"""
