"""What an application calls: `MemOS`, `AsyncMemOS`, the reader of what callers pass in, and settings.

Asks `operation` to decide and hands the plan to a vault. Rejected: a second path to storage for convenience calls.
"""
