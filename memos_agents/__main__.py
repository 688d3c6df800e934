"""`python -m memos_agents`: the same as the command `memos`."""

from memos_agents.cli import main

if __name__ == "__main__":
    main()
