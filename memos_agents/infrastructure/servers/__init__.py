"""A throw-away Neo4j Community server on this machine, for development and tests, with or without Docker.

Read as a sentence: `local` brings a server up, tells how it is and takes it down; `choosing` decides how to run it; the
two ways are `docker` (an engine that answers) and `maven` (jars that the user's own Maven fetches, run by a Java that
fits). `readiness` waits until the database answers a query, spoken over the few Bolt messages in `bolt`.

Nothing of Neo4j is packaged with us (its server is GPLv3): jars live in the user's cache and run as a process of their
own. The Neo4j driver is not needed here, so that a server can be started before the extra is installed. This package
reads no environment variable: callers pass the environment in. It knows nothing of vaults and memories.
Rejected: testcontainers (needs Docker), the test harness in a Java of ours (needs a compiler and links GPL classes),
downloading Neo4j's archive (a second way to fetch, without a package manager's checksums and mirrors).
"""

from __future__ import annotations

from memos_agents.infrastructure.servers.keeping import Resources
from memos_agents.infrastructure.servers.local import LocalServer, ServerStatus, down, logs, servers, status, up

__all__ = ["LocalServer", "Resources", "ServerStatus", "down", "logs", "servers", "status", "up"]
