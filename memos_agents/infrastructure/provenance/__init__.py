"""Where every memory came from, in the words of W3C PROV-DM.

`values` names entities' activities, agents and edges; `graph` is what a lineage question returns (PROV-JSON, Mermaid,
HTML). Nothing here stores or decides. Rejected: building on the `prov` package, which is slow at a thousand nodes and
brings a drawing stack; the tests validate against it instead.
"""
