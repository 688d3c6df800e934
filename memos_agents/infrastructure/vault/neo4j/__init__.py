"""The store on a Neo4j server: cubes, versions and provenance as a graph that any Neo4j tool can look at."""

from __future__ import annotations

from memos_agents.infrastructure.vault.neo4j.vault import Neo4jVault

__all__ = ["Neo4jVault"]
