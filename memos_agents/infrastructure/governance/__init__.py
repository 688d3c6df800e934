"""MemGovernance: receipts now; policies, retention, redaction and audit reports come with later releases.

Rules that a vault must never break (isolation, frozen cubes, legal steps) are in `vault.rules`; rules that a person
may choose belong here. Rejected: policy checks inside vaults, which every new backend would have to repeat.
"""
