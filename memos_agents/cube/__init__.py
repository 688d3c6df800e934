"""The unit: MemCube and the values it is made of.

Values only: frozen, compared by content, without I/O, clock or randomness (both come in as arguments). Nothing here
knows how a cube is stored or found. Rejected: pydantic models here; validation belongs where data enters from outside
and costs more than the whole write path of a vault.
"""
