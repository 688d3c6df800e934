"""Where every memory came from, in the words of W3C PROV-DM.

`values` names activities, agents, sources and edges; `graph` is what a lineage question returns. It is written by
`prov_json`, `mermaid` and `page` (with `svg`, `layout`, `wording`) and read by `prov_reading` (with `prov_document`),
all of which see only its `parts`. Nothing here stores or decides. Rejected: building on the `prov` package, which is
slow at a thousand nodes and brings a drawing stack; the tests validate against it instead.
"""
