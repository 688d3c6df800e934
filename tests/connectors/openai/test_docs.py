"""The guide's code runs in order and prints what the guide shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[3] / "docs" / "connectors_openai.md"


def test_the_guide_s_code_prints_what_it_shows(tmp_path: Path, server: Any) -> None:
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    code = "\n".join(text for language, text in blocks if language == "python")
    shown = "".join(text for language, text in blocks if language == "text")
    (tmp_path / "guide.py").write_text(code, encoding="utf-8")
    told = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "unused", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "guide.py"],
        cwd=tmp_path,
        env=dict(os.environ) | told,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == shown
    assert len(blocks) >= 6
    assert "I moved to Lisbon in May." in server.told(0)
