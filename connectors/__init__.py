"""Drop-ins: one package per framework, each a translation of `memos_agents.interface` and nothing more.

`langchain`, `langgraph`, `llama_index`, `openai` and `mcp`, each as `memos_agents.connectors.<framework>`. A connector
takes a `MemOS`, an `AsyncMemOS` or a scoped view, speaks the framework's own names and options, and decides nothing: a
rule found here belongs in the core.

What lives here must not import another connector, nor be imported by the core, nor be imported by this module: every
framework is optional, so each is loaded only by whoever asks for its connector. The folder stands at the top of the
repository and is installed as `memos_agents.connectors`; the global name `connectors` is never installed or imported.
Rejected: one distribution per framework; the connectors of one release are tested against one core.
"""
