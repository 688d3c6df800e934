"""Memory work as LangGraph graphs: node factories and uncompiled builders for a stranger's graph.

Empty in this release: nodes that recall, remember, schedule, migrate, fuse and commit, the graphs built of them, and
the `langgraph.json` that serves them come with later ones, as `memos_agents.graphs.<module>`.

What lives here plans through `memos_agents.interface` and must not know a vault, a model or a connector: nodes work on
any `runtime.store`, their state holds the ids of cubes and never a tensor, and no store or checkpointer is bound in
them. The folder stands at the top of the repository and is installed as `memos_agents.graphs`; the global name
`graphs` is never installed or imported. Rejected: node classes to inherit from; a function drops into any graph.
"""
